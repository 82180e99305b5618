"""The model server's process: `python -m glmstudio.serve --model NAME_OR_DIR [--adapter RUN_OR_DIR] [--port N]`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from glmstudio import process
from glmstudio.chat.server import adapter_folder
from glmstudio.errors import StudioError
from glmstudio.files import write_json
from glmstudio.models import ready_model


def main(argv: list[str] | None = None) -> int:
    """Load the model, then serve on 127.0.0.1 until ended."""
    parser = argparse.ArgumentParser(prog="launcher.py serve", description="Serve a model over OpenAI's protocol.")
    parser.add_argument("--model", required=True, help="a model's name or folder")
    parser.add_argument("--adapter", help="a finished run's name, or the folder of a prefix")
    parser.add_argument("--port", type=int, default=0, help="the port; without it, a free one")
    parser.add_argument("--told", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    try:
        service = load(options.model, options.adapter)
        return _serve(service, options)
    except StudioError as problem:
        if options.told is None:
            raise  # the command says it, in the user's language
        _tell(options.told, {"state": "failed", "problem": problem.to_json()})
        sys.stderr.write(f"{problem}\n")
        return 1


def load(model: str, adapter: str | None) -> Any:
    """The service for a model and a prefix. Raises StudioError."""
    found, folder = ready_model(model), adapter_folder(adapter)
    # Everything that can be said without torch has been said by now.
    from glmstudio.data.tokenizer import Tokenizer
    from glmstudio.glm.load import load_model
    from glmstudio.serve.app import Service
    from glmstudio.serve.engine import Engine

    tokenizer = Tokenizer(found.path)
    return Service(Engine(load_model(found.path, folder), tokenizer.stop_ids), tokenizer, found.name)


def _serve(service: Any, options: argparse.Namespace) -> int:
    import uvicorn

    from glmstudio.guard import Guard

    port = options.port or process.free_port()
    if not process.port_is_free(port):
        raise StudioError("chat.port_taken", port=port)
    _tell(options.told, {"state": "ready"})
    sys.stderr.write(f"http://127.0.0.1:{port}/v1\n")
    sys.stderr.flush()
    uvicorn.run(Guard(service.application(), port), host="127.0.0.1", port=port, log_level="warning")
    return 0


def _tell(file: Path | None, what: dict[str, Any]) -> None:
    if file is not None:
        write_json(file, what | {"run_id": os.environ.get(process.COOKIE)})


if __name__ == "__main__":
    sys.exit(main())
