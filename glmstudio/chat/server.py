"""The model server as a child process: started, found again after a restart, and ended so that memory is free."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from glmstudio import process
from glmstudio.errors import StudioError
from glmstudio.files import read_json, write_json
from glmstudio.models import list_models, ready_model
from glmstudio.models.catalogue import catalogue
from glmstudio.paths import paths
from glmstudio.runs.run import find_run

_GRACE = 10.0


@dataclass(frozen=True)
class ServerState:
    """What is loaded now. `state` is one of absent, loading, ready, failed."""

    state: str
    model: str = ""
    adapter: str | None = None
    port: int = 0
    problem: StudioError | None = None


class ModelServer:
    """The one model server of this studio. Its truth is on disk: `state/server.json`."""

    @staticmethod
    def current() -> ServerState:
        """What is loaded, loading, or failed to load."""
        about = read_json(_file(), {}) or {}
        if not about:
            return ServerState("absent")
        state = ServerState("loading", about["model"], about.get("adapter"), about["port"])
        told = read_json(_told_file(), {}) or {}
        mine = told.get("run_id") == about.get("run_id")
        if not process.alive(process.Identity.from_json(about.get("identity"))):
            problem = StudioError.from_json(told["problem"]) if mine and told.get("problem") else None
            return _as(state, "failed", problem or StudioError("chat.server_died", log=str(_log_file())))
        return _as(state, "ready") if mine and told.get("state") == "ready" and _answers(state.port) else state

    @staticmethod
    def start(model: str, adapter: str | None = None) -> None:
        """Load a model, with the prefix of a run or folder or none; ends the one that was loaded. Returns at once.

        Raises StudioError where the model is not whole or there is no such adapter.
        """
        ready_model(model)
        folder = adapter_folder(adapter)
        if folder:
            _check_base(model, folder)
        ModelServer.stop()
        port, run_id = process.free_port(), os.urandom(16).hex()
        command = [
            sys.executable,
            "-m",
            "glmstudio.serve",
            "--model",
            model,
            "--port",
            str(port),
            "--told",
            str(_told_file()),
        ]
        command += ["--adapter", str(folder)] if folder else []
        _log_file().parent.mkdir(parents=True, exist_ok=True)
        with _log_file().open("wb") as log:
            child = process.spawn(command, log, run_id)
        identity = process.identify(child.pid)
        about = {"model": model, "adapter": adapter, "port": port, "run_id": run_id}
        write_json(_file(), about | {"identity": identity.to_json() if identity else None})

    @staticmethod
    def stop() -> None:
        """End the server and wait until it is gone; its memory is free then."""
        about = read_json(_file(), {}) or {}
        identity = process.Identity.from_json(about.get("identity"))
        for number in (signal.SIGTERM, signal.SIGKILL):
            if identity is not None and process.send(identity, number):
                _wait_gone(identity)
        _file().unlink(missing_ok=True)


def adapter_folder(adapter: str | None) -> Path | None:
    """The folder of a prefix: the result of the run of that name, or the folder itself. Raises StudioError."""
    if not adapter:
        return None
    if os.path.isdir(adapter):  # noqa: PTH112  never raises, whatever the name
        return Path(adapter).resolve()
    try:
        run = find_run(adapter)
    except StudioError as error:
        raise StudioError("adapters.missing", folder=adapter) from error
    if run.result is None:
        raise StudioError("chat.run_unfinished", name=adapter)
    return run.result


def _check_base(model: str, folder: Path) -> None:
    """Raise StudioError where the adapter says that it was made on another model: the sizes of 6B, Base and 32K are
    equal, so nothing else would notice."""
    about = read_json(folder / "adapter.json", {})
    base = about.get("base") if isinstance(about, dict) else None
    known = {each.name for each in list_models()} | set(catalogue())
    if base in known and model in known and base != model:
        raise StudioError("adapters.other_base", folder=str(folder), base=base, model=model)


def wait_until_ready(seconds: float) -> ServerState:
    """The server's state once it no longer loads. Raises the problem where it failed, or if `seconds` pass."""
    end = time.monotonic() + seconds
    while (state := ModelServer.current()).state == "loading":
        if time.monotonic() > end:
            raise StudioError("chat.server_slow", seconds=round(seconds))
        time.sleep(0.2)
    if state.problem:
        raise state.problem
    return state


def _answers(port: int) -> bool:
    try:
        reply: Any = httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False, timeout=2).json()
    except (httpx.HTTPError, ValueError):
        return False
    return bool(reply.get("status") == "ready")


def _as(state: ServerState, name: str, problem: StudioError | None = None) -> ServerState:
    return ServerState(name, state.model, state.adapter, state.port, problem)


def _wait_gone(identity: process.Identity) -> None:
    end = time.monotonic() + _GRACE
    while process.alive(identity) and time.monotonic() < end:
        time.sleep(0.05)


def _file() -> Path:
    return paths().state / "server.json"


def _told_file() -> Path:
    return paths().state / "server-told.json"


def _log_file() -> Path:
    return paths().state / "server.log"
