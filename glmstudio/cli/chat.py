"""Chat in the terminal, and the model server."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from glmstudio.cli.script import SERVING, print_server
from glmstudio.cli.terminal import command, json_flag, language, print_json, t


def add(commands: Any) -> None:
    """`chat` and `serve`."""
    chat = command(commands, "chat", _chat)
    chat.add_argument("--model", default="demo", help=t("cli.model"))
    chat.add_argument("--adapter", help=t("cli.adapter"))
    chat.add_argument("--prompt", help=t("cli.prompt"))
    engine_flags(chat)
    json_flag(chat)
    serve = command(commands, "serve", _serve)
    serve.add_argument("--model", default="demo", help=t("cli.model"))
    serve.add_argument("--adapter", action="append", default=[], help=t("cli.serve_adapter"))
    serve.add_argument("--dtype", choices=("auto", "fp16", "bf16", "fp32"), default="auto", help=t("cli.serve_dtype"))
    serve.add_argument("--bits", choices=("16", "8", "4"), default="16", help=t("cli.serve_bits"))
    serve.add_argument("--device", help=t("cli.serve_device"))
    engine_flags(serve)
    serve.add_argument("--graph", choices=("auto", "off"), default="auto", help=t("cli.serve_graph"))
    serve.add_argument("--host", default="127.0.0.1", help=t("cli.serve_host"))
    serve.add_argument("--token-file", help=t("cli.serve_token"))
    serve.add_argument("--token", help=argparse.SUPPRESS)  # says what takes its place
    serve.add_argument("--port", type=int, default=0, help=t("cli.port"))
    serve.add_argument("--script", choices=SERVING, help=t("cli.serve_script"))


def engine_flags(parser: argparse.ArgumentParser) -> None:
    """Who computes the answers."""
    parser.add_argument("--engine", choices=("studio", "vllm"), default="studio", help=t("cli.serve_engine"))
    parser.add_argument("--engine-python", default="", metavar="PYTHON", help=t("cli.serve_engine_python"))


def how_to_serve(options: argparse.Namespace) -> Any:
    """What `engine_flags` were given."""
    from glmstudio.chat.model_server import HowToServe

    return HowToServe(options.engine, python=options.engine_python)


def _chat(options: argparse.Namespace) -> int:
    from glmstudio.chat.available_tools import toolless
    from glmstudio.chat.terminal_chat import ask_once, converse_in_terminal

    how = how_to_serve(options)
    if options.prompt is None:
        return converse_in_terminal(options.model, options.adapter, language(), print, how)
    if without := toolless(options.model, options.adapter or ""):
        print(t("ui.chat.form_without.what", name=without.name), file=sys.stderr)
    answer = ask_once(options.model, options.adapter, options.prompt, how)
    if options.json:
        print_json(answer)
    else:
        for call in answer["calls"]:
            print(
                f"{call['name']}({', '.join(f'{k}={v!r}' for k, v in call['arguments'].items())}) -> {call['result']}"
            )
        print(answer["content"])
    return 0


def _serve(options: argparse.Namespace) -> int:
    if options.script:
        return print_server(options)
    from glmstudio.serve.__main__ import main as serve

    argv = ["--model", options.model, "--port", str(options.port), "--host", options.host]
    argv += ["--dtype", options.dtype, "--bits", options.bits, "--graph", options.graph]
    argv += ["--engine", options.engine, "--engine-python", options.engine_python]
    for adapter in options.adapter:
        argv += ["--adapter", adapter]
    for flag, value in (("--device", options.device), ("--token-file", options.token_file), ("--token", options.token)):
        argv += [flag, value] if value else []
    return serve(argv)
