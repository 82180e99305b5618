"""The model server's process: `python -m glmstudio.serve --model NAME_OR_DIR [--adapter RUN_OR_DIR …] [--port N]`."""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from glmstudio.access.api_key import VARIABLE, given_key, new_key
from glmstudio.chat.adapters import named_folders
from glmstudio.chat.model_server import CONTROL, ENGINES, STUDIO, VLLM
from glmstudio.errors import StudioError
from glmstudio.files import write_json
from glmstudio.jobs.presence import serving
from glmstudio.models import ready_model
from glmstudio.paths import paths
from glmstudio.serve.listening import open_up, take
from glmstudio.system import process

HERE = "127.0.0.1"
DTYPES = ("auto", "fp16", "bf16", "fp32")


def main(argv: list[str] | None = None) -> int:
    """Load the model, then serve until ended."""
    options = parser().parse_args(argv)
    try:
        with serving():
            return _serve(options)
    except StudioError as problem:
        if options.told is None:
            raise  # the command says it, in the user's language
        _tell(options.told, {"state": "failed", "problem": problem.to_json()})
        sys.stderr.write(f"{problem}\n")
        return 1


def parser() -> argparse.ArgumentParser:
    """The options of a server."""
    made = argparse.ArgumentParser(prog="launcher.py serve", description="Serve a model over OpenAI's protocol.")
    made.add_argument("--model", required=True, help="a model's name or folder")
    made.add_argument("--adapter", action="append", default=[], help="a finished run, or the folder of an adapter")
    made.add_argument("--dtype", choices=DTYPES, default="auto")
    made.add_argument("--bits", type=int, choices=(16, 8, 4), default=16)
    made.add_argument("--device")
    made.add_argument("--engine", choices=ENGINES, default=STUDIO, help="who computes the answers")
    made.add_argument("--engine-python", default="", help="the Python that has vLLM")
    made.add_argument("--growing", action="store_true", help=argparse.SUPPRESS)  # adapters may be added later
    made.add_argument("--graph", choices=("auto", "off"), default="auto", help="decode with CUDA graphs on a GPU")
    made.add_argument("--host", default=HERE, help="the address to listen at")
    made.add_argument("--token-file", type=Path, help="what requests have to carry; made and shown where none is given")
    made.add_argument("--token", help=argparse.SUPPRESS)
    made.add_argument("--port", type=int, default=0, help="the port; without it, a free one")
    made.add_argument("--told", type=Path, help=argparse.SUPPRESS)
    return made


def load(options: argparse.Namespace) -> Any:
    """The service for a model and its adapters. Raises StudioError."""
    found = ready_model(options.model)
    folders = named_folders(options.adapter, found.name)
    # Everything that can be said without torch has been said by now.
    import torch

    from glmstudio.data.protocol.tokenizer import Tokenizer
    from glmstudio.glm.adapters.adapter_pool import AdapterPool
    from glmstudio.glm.load import load_model
    from glmstudio.serve.decoders import EagerDecoder, StaticCacheDecoder
    from glmstudio.serve.engine import Engine
    from glmstudio.serve.service import Service

    dtypes = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
    model = load_model(found.path, dtype=dtypes.get(options.dtype), device=options.device, bits=options.bits)
    adapters = AdapterPool(model)
    for name, folder in folders.items():
        adapters.add(name, folder)
    tokenizer = Tokenizer(found.path)
    graphs = options.graph == "auto" and model.device.type == "cuda"
    decoder = StaticCacheDecoder(model) if graphs else EagerDecoder(model)
    about = {"dtype": str(model.dtype).removeprefix("torch."), "bits": options.bits, "device": str(model.device)}
    about |= {"graph": graphs}
    control = os.environ.get(CONTROL, "")
    engine, tuned = Engine(adapters, tokenizer.stop_ids, decoder), found.path.is_relative_to(paths().runs)
    return Service(engine, tokenizer, found.name, about=about, control=control, tuned=tuned)


def _serve(options: argparse.Namespace) -> int:
    if options.token is not None:
        raise StudioError("chat.serve.key_seen", variable=VARIABLE)
    given = given_key(options.token_file)
    key, taken = given or new_key(), take(options.host, options.port)
    if options.engine == VLLM:
        return _serve_vllm(options, taken, key, shown=not given)
    service = load(options)
    _answer(options, taken, key, service.application(), shown=not given)
    return 0


def _serve_vllm(options: argparse.Namespace, taken: socket.socket, key: str, *, shown: bool) -> int:
    """Start the user's vLLM, and answer for it until either ends."""
    from glmstudio.chat.vllm.launch import prepare
    from glmstudio.serve.vllm.child_process import running
    from glmstudio.serve.vllm.front import VllmFront

    if options.bits != 16:
        raise StudioError("chat.vllm.bits")
    launch = prepare(
        options.model, options.adapter, device=options.device or "", python=options.engine_python,
        dtype=options.dtype, growing=options.growing,
    )  # fmt: skip
    gone = threading.Event()

    def end() -> None:
        gone.set()
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # vLLM is ended on the way out
    with running(launch) as server:
        front = VllmFront(server, launch, control=os.environ.get(CONTROL, ""))
        server.when_gone(end)
        try:
            _answer(options, taken, key, front.application(), shown=shown)
        except SystemExit:
            if gone.is_set():
                raise server.ended() from None
            raise
    return 0


def _answer(options: argparse.Namespace, taken: socket.socket, key: str, service: Any, *, shown: bool) -> None:
    """Let clients in until the process is to end; `shown`: nobody knows the key yet."""
    import uvicorn
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    from glmstudio.access.connection_limits import limited
    from glmstudio.access.guard import Guard
    from glmstudio.access.key_middleware import Keyed
    from glmstudio.serve.protocol.error_response import foreign

    port = open_up(taken)
    beyond = options.host not in (HERE, "localhost", "::1")
    guarded = Guard(Keyed(service, key), port, beyond=beyond, refusal=foreign())
    _tell(options.told, {"state": "ready"})
    sys.stderr.write(f"http://{options.host}:{port}/v1\n")
    sys.stderr.flush()
    if shown:
        sys.stdout.write(f"export OPENAI_API_KEY={key}\n")
        sys.stdout.flush()
    logging.getLogger("asyncio").addFilter(_without_traceback)
    config = uvicorn.Config(
        guarded,
        http=limited(AutoHTTPProtocol),
        ws="none",
        proxy_headers=False,
        access_log=False,
        log_level="warning",
    )
    uvicorn.Server(config).run(sockets=[taken])


def _without_traceback(record: logging.LogRecord) -> bool:
    """A connection for which there was no memory is told in a line: it is no crash, nor the cause of one."""
    if record.exc_info and isinstance(record.exc_info[1], MemoryError):
        record.exc_info = record.exc_text = None
    return True


def _tell(file: Path | None, what: dict[str, Any]) -> None:
    if file is not None:
        write_json(file, what | {"run_id": os.environ.get(process.COOKIE)})


if __name__ == "__main__":
    faulthandler.enable()  # a fault of native code leaves its trace in the log
    sys.exit(main())
