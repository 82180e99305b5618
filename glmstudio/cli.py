"""Every action of the studio as a command. The only module that prints; what it needs is imported when it is needed."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.words import say

_STUDIO_FLAGS = ("--port", "--no-browser", "--window")


def main(argv: list[str]) -> int:
    """Run one command, or the studio where none is named. Returns the exit status."""
    try:
        if not argv or argv[0].split("=")[0] in _STUDIO_FLAGS:
            from glmstudio.ui.app import main as studio

            return studio(argv)
        options = _parser().parse_args(argv)
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except StudioError as problem:
        return _complain(problem)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe left; that is its right
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the flush at the exit does not complain again
        return 0
    except OSError as error:  # a full disk, a folder that is closed to us
        return _complain(StudioError("cli.system", file=error.filename or "", reason=error.strerror or str(error)))


def language() -> str:
    """The language of this terminal: Chinese where the locale is, else English."""
    chosen = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return "zh" if chosen.lower().startswith("zh") else "en"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="launcher.py", description=_t("cli.about"), epilog=_t("cli.epilog"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    doctor = _command(commands, "doctor", _doctor)
    doctor.add_argument("--json", action="store_true", help=_t("cli.json"))
    models = _command(commands, "models", _models)
    models.add_argument("--json", action="store_true", help=_t("cli.json"))
    _data_commands(commands)
    _train_command(commands)
    _runs_commands(commands)
    chat = _command(commands, "chat", _chat)
    chat.add_argument("--model", default="demo", help=_t("cli.model"))
    chat.add_argument("--adapter", help=_t("cli.adapter"))
    chat.add_argument("--prompt", help=_t("cli.prompt"))
    chat.add_argument("--json", action="store_true", help=_t("cli.json"))
    serve = _command(commands, "serve", _serve)
    serve.add_argument("--model", default="demo", help=_t("cli.model"))
    serve.add_argument("--adapter", help=_t("cli.adapter"))
    serve.add_argument("--port", type=int, default=0, help=_t("cli.port"))
    commands.add_parser("test", help=_t("cli.test"), add_help=False)
    return parser


def _data_commands(commands: Any) -> None:
    data = commands.add_parser("data", help=_t("cli.data"), description=_t("cli.data"))
    parts = data.add_subparsers(required=True, metavar="ACTION")
    check = _command(parts, "check", _data_check, "cli.data_check")
    check.add_argument("file", metavar="FILE")
    check.add_argument("--json", action="store_true", help=_t("cli.json"))
    tokens = _command(parts, "tokens", _data_tokens, "cli.data_tokens")
    tokens.add_argument("file", metavar="FILE")
    tokens.add_argument("--model", required=True, metavar="DIR", help=_t("cli.tokenizer"))
    tokens.add_argument("--json", action="store_true", help=_t("cli.json"))
    convert = _command(parts, "convert", _data_convert, "cli.data_convert")
    convert.add_argument("format", choices=["toolalpaca"])
    convert.add_argument("source", metavar="IN")
    convert.add_argument("target", metavar="OUT")


def _train_command(commands: Any) -> None:
    train = _command(commands, "train", _train, epilog=True)
    train.add_argument("preset", metavar="PRESET", help=_t("cli.preset"))
    train.add_argument("--data", type=Path, metavar="FILE", help=_t("cli.train_data"))
    train.add_argument("--name", help=_t("cli.name"))
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=_t("cli.set"))
    train.add_argument("--follow", action="store_true", help=_t("cli.follow"))
    train.add_argument("--json", action="store_true", help=_t("cli.json"))


def _runs_commands(commands: Any) -> None:
    runs = commands.add_parser("runs", help=_t("cli.runs"), description=_t("cli.runs"))
    parts = runs.add_subparsers(required=True, metavar="ACTION")
    listed = _command(parts, "list", _runs_list, "cli.runs_list")
    listed.add_argument("--json", action="store_true", help=_t("cli.json"))
    show = _command(parts, "show", _runs_show, "cli.runs_show")
    show.add_argument("name", metavar="NAME")
    show.add_argument("--json", action="store_true", help=_t("cli.json"))
    stop = _command(parts, "stop", _runs_stop, "cli.runs_stop")
    stop.add_argument("name", metavar="NAME")
    stop.add_argument("--now", action="store_true", help=_t("cli.now"))


def _command(parent: Any, name: str, run: Any, key: str = "", *, epilog: bool = False) -> argparse.ArgumentParser:
    text = _t(key or f"cli.{name}")
    parser: argparse.ArgumentParser = parent.add_parser(
        name,
        help=text,
        description=text,
        epilog=_settings_help() if epilog else None,
        formatter_class=argparse.RawDescriptionHelpFormatter if epilog else argparse.HelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _settings_help() -> str:
    from glmstudio.runs.presets import Settings, field_docs, list_presets

    presets = [f"  {preset.name}: {preset.about(language())}" for preset in list_presets()]
    settings = [f"  {doc.name} ({doc.value}): {doc.help}" for doc in field_docs(Settings(), language())]
    return "\n".join([_t("cli.presets"), *presets, "", _t("cli.settings"), *settings])


def _doctor(options: argparse.Namespace) -> int:
    from glmstudio.doctor import diagnose

    report = diagnose()
    if options.json:
        _json(report.to_json(language()))
    else:
        for result in report.results:
            print(f"[{_t(f'cli.status.{result.status}')}] {result.title(language())}: {result.fact(language())}")
            for part in (result.what, result.why, result.fix):
                if part(language()):
                    print(f"    {part(language())}")
    return 1 if report.status == "error" else 0


def _models(options: argparse.Namespace) -> int:
    from glmstudio.models import list_models

    models = list_models()
    if options.json:
        _json([
            {
                "name": model.name,
                "path": str(model.path),
                "kind": model.kind,
                "size_bytes": model.size_bytes,
                "ready": model.ready,
                "problem": model.problem.what(language()) if model.problem else None,
            }
            for model in models
        ])  # fmt: skip
        return 0
    for model in models:
        state = _t("cli.ready") if model.problem is None else model.problem.what(language())
        print(f"{model.name:20} {model.size_bytes / 1e6:10,.1f} MB  {model.path}  {state}")
    return 0


def _data_check(options: argparse.Namespace) -> int:
    from glmstudio.data.records import check_file

    check = check_file(options.file)
    if options.json:
        _json({"records": check.records, "problems": [problem.to_json(language()) for problem in check.problems]})
    else:
        for problem in check.problems:
            print(f"{problem.file}:{problem.line}: {problem.text(language())}")
        print(_t("cli.checked", records=check.records, problems=len(check.problems)))
    return 1 if check.problems or not check.records else 0


def _data_tokens(options: argparse.Namespace) -> int:
    from glmstudio.data.prompt import training_example
    from glmstudio.data.records import Problem, read_records
    from glmstudio.data.tokenizer import Tokenizer
    from glmstudio.models import find_model

    known = Path(options.model).is_dir()
    tokenizer = Tokenizer(options.model if known else find_model(options.model).path)
    rows = []
    for record in read_records(options.file):
        if isinstance(record, Problem):
            print(f"{record.file}:{record.line}: {record.text(language())}", file=sys.stderr)
            continue
        example = training_example(tokenizer, record.messages)
        rows.append({"input_ids": example.input_ids, "labels": example.labels})
    if options.json:
        _json(rows)
    else:
        for number, row in enumerate(rows, 1):
            print(_t("cli.tokens", number=number, tokens=len(row["input_ids"])))
            shown = zip(row["input_ids"], row["labels"], strict=True)
            print(" ".join(f"[{tokenizer.name(i)}]" if label != -100 else tokenizer.name(i) for i, label in shown))
    return 0


def _data_convert(options: argparse.Namespace) -> int:
    from glmstudio.data.toolalpaca import convert_toolalpaca

    conversion = convert_toolalpaca(options.source, options.target)
    for problem in conversion.dropped:
        print(f"{problem.file}:{problem.line}: {problem.text(language())}", file=sys.stderr)
    print(_t("cli.converted", records=conversion.records, dropped=len(conversion.dropped), file=options.target))
    return 0


def _train(options: argparse.Namespace) -> int:
    from glmstudio.runs.presets import load_preset
    from glmstudio.runs.start import start_run

    changes = {}
    for pair in options.set:
        key, equals, value = pair.partition("=")
        if not equals:
            raise StudioError("cli.bad_set", pair=pair)
        changes[key.strip()] = value.strip()
    run = start_run(load_preset(options.preset), data=options.data, name=options.name, changes=changes)
    if not options.follow:
        if options.json:
            _json({"name": run.name, "path": str(run.path)})
        else:
            print(_t("cli.started", name=run.name, folder=run.path))
        return 0
    state = _follow(run, quiet=options.json)
    if options.json:
        _json(_run_json(run))
    elif state.problem:
        return _complain(state.problem)
    return 0 if state.state in ("finished", "stopped") else 1


def _follow(run: Any, *, quiet: bool) -> Any:
    """Show a run until it ends. Leaving with Ctrl-C leaves the run alone."""
    shown = -1
    try:
        while (state := run.read_state()).live:
            if state.step != shown and not quiet:
                _progress(state)
                shown = state.step
            time.sleep(0.5)
    except KeyboardInterrupt:
        print(f"\n{_t('cli.left', name=shlex.quote(run.name))}")
        raise
    if not quiet:
        _progress(state)
        print(f"\n{_t('cli.ended', name=run.name, state=_t(f'runs.state.{state.state}'))}")
        if run.result and state.state == "finished":
            print(_t("cli.chat_with", model=shlex.quote(run.model), name=shlex.quote(run.name)))
    return state


def _progress(state: Any) -> None:
    width = 30
    done = round(width * state.step / state.steps) if state.steps else 0
    loss = f"{state.loss:.4f}" if state.loss is not None else "–"
    left = time.strftime("%H:%M:%S", time.gmtime(state.seconds_left)) if state.seconds_left else "–"
    values = {"step": state.step, "steps": state.steps, "loss": loss, "left": left}
    line = f"[{'#' * done}{'.' * (width - done)}] {_t('cli.progress', **values)}"
    print(f"\r{line}  " if sys.stdout.isatty() else line, end="" if sys.stdout.isatty() else "\n", flush=True)


def _runs_list(options: argparse.Namespace) -> int:
    from glmstudio.runs.run import list_runs

    rows = [_run_json(run) for run in list_runs()]
    if options.json:
        _json([{key: row[key] for key in ("name", "state", "step", "steps")} for row in rows])
    elif not rows:
        print(_t("cli.no_runs"))
    else:
        for row in rows:
            loss = f"{row['loss']:.4f}" if row["loss"] is not None else "–"
            print(f"{row['name']:32} {_t('runs.state.' + row['state']):10} {row['step']}/{row['steps']}  {loss}")
    return 0


def _runs_show(options: argparse.Namespace) -> int:
    from glmstudio.runs.run import find_run

    run = find_run(options.name)
    row = _run_json(run)
    if options.json:
        _json(row)
        return 0
    for key, value in row.items():
        print(f"{key:12} {value}")
    print(run.log()[0][-4000:])
    return 0


def _runs_stop(options: argparse.Namespace) -> int:
    from glmstudio.runs.run import find_run
    from glmstudio.runs.stop import stop_run

    for stage in stop_run(find_run(options.name), now=options.now):
        print(_t(stage))
    return 0


def _run_json(run: Any) -> dict[str, Any]:
    from glmstudio.files import read_json

    state = run.read_state()
    return {
        "name": run.name,
        "state": state.state,
        "step": state.step,
        "steps": state.steps,
        "loss": state.loss,
        "preset": run.preset,
        "model": run.model,
        "data": run.data,
        "records": read_json(run.path / "records.json"),
        "path": str(run.path),
        "result": str(run.result) if run.result else None,
        "problem": state.problem.what(language()) if state.problem else None,
    }


def _chat(options: argparse.Namespace) -> int:
    from glmstudio.chat.terminal import ask_once, converse_in_terminal

    if options.prompt is None:
        return converse_in_terminal(options.model, options.adapter, language(), print)
    answer = ask_once(options.model, options.adapter, options.prompt)
    if options.json:
        _json(answer)
    else:
        for call in answer["calls"]:
            print(
                f"{call['name']}({', '.join(f'{k}={v!r}' for k, v in call['arguments'].items())}) -> {call['result']}"
            )
        print(answer["content"])
    return 0


def _serve(options: argparse.Namespace) -> int:
    from glmstudio.serve.__main__ import main as serve

    argv = ["--model", options.model, "--port", str(options.port)]
    return serve([*argv, "--adapter", options.adapter] if options.adapter else argv)


def _complain(problem: StudioError) -> int:
    print(_t("cli.error", what=problem.what(language())), file=sys.stderr)
    if problem.fix(language()):
        print(f"\n{_t('cli.hint', fix=problem.fix(language()))}", file=sys.stderr)
    return 1


def _json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2))


def _t(key: str, /, **values: Any) -> str:
    return say(language(), key, **values)
