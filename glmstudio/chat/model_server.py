"""The model server as a child process: started, found again after a restart, and ended so that memory is free."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import httpx

from glmstudio import untrusted
from glmstudio.access.api_key import VARIABLE, bearer, new_key
from glmstudio.chat.adapters import adapter_folder, adapter_name, check_base
from glmstudio.chat.vllm.launch import prepare
from glmstudio.errors import StudioError
from glmstudio.files import opened, read_table, read_text, write_json, write_text
from glmstudio.models import ready_model
from glmstudio.paths import make_home, paths
from glmstudio.rundir import reasons
from glmstudio.rundir.occupancy import SERVER
from glmstudio.system import process
from glmstudio.system.portable.signals import KILL, TERMINATE

CONTROL = "GLMSTUDIO_SERVER_TOKEN"
STUDIO, VLLM = ENGINES = ("studio", "vllm")
_GRACE = 10.0
_END = 40_000  # bytes of a log
_TRACES = ("Traceback (most recent call last)", "Fatal Python error", "terminate called", "CUDA error")


@dataclass(frozen=True)
class HowToServe:
    """By which engine, with which weights, and where: `device` as in `config.devices` for vLLM, as torch's for the
    studio's own ("" leaves the choice to it). `python`: the Python that has vLLM, where it is to be another one."""

    engine: str = STUDIO
    bits: int = 16
    dtype: str = "auto"
    device: str = ""
    python: str = ""


@dataclass(frozen=True)
class ServerState:
    """What is loaded now. `state` is one of absent, loading, ready, failed; `adapters` are those given at the start;
    `chosen` is the one that a person wanted to answer last ("" is the base)."""

    state: str
    model: str = ""
    adapters: tuple[str, ...] = ()
    chosen: str = ""
    port: int = 0
    bits: int = 16
    problem: StudioError | None = None
    engine: str = STUDIO
    device: str = ""  # where vLLM was told to compute


@dataclass(frozen=True)
class LoadedModel:
    """One model that a server answers as, by the tensors in use: `kind` is base, prefix or lora."""

    id: str
    kind: str
    sha256: str
    norm: float
    size: int
    context: int
    fingerprint: str


@dataclass(frozen=True)
class RunningServer:
    """A server that answers: its port, the names of the base and of each adapter on it, and its key."""

    port: int
    models: list[str]
    key: str


class ModelServer:
    """The one model server of this studio. Its truth is on disk: `state/server.json`."""

    @staticmethod
    def current() -> ServerState:
        """What is loaded, loading, or failed to load."""
        about = read_table(_file())
        state = _written(about)
        if state is None:
            return ServerState("absent")
        told = read_table(_told_file())
        mine = told.get("run_id") == about.get("run_id")
        if not process.alive(process.Identity.from_json(about.get("identity"))):
            problem = untrusted.problem(told.get("problem")) if mine else None
            return replace(state, state="failed", problem=problem or _why(_log_file()))
        ready = mine and told.get("state") == "ready" and _answers(state.port)
        return replace(state, state="ready") if ready else state

    @staticmethod
    def start(model: str, adapters: Sequence[str] = (), how: HowToServe | None = None) -> None:
        """Load a model with the results of runs or folders beside it; ends the one that was loaded. Returns at once.

        Raises StudioError where the model is not whole, there is no such adapter, or the engine cannot have them.
        """
        ready_model(model)
        for adapter in adapters:
            check_base(model, adapter_folder(adapter))
        how = settled(model, adapters, how)
        ModelServer.stop()
        port, run_id, key = process.free_port(), os.urandom(16).hex(), new_key()
        command = serve_command(model, adapters, how, port=port, told=_told_file())
        command += ["--growing"] * (how.engine == VLLM)
        make_home()
        write_text(_key_file(), key)
        with _log_file().open("wb") as log:
            child = spawn(command, log, run_id, key)
        identity = process.identify(child.pid)
        about = {"model": model, "adapters": list(adapters), "port": port, "bits": how.bits, "run_id": run_id}
        about |= {"engine": how.engine, "device": how.device}
        write_json(_file(), about | {"identity": identity.to_json() if identity else None})

    @staticmethod
    def add(adapter: str) -> str:
        """Put what a run learned, or the adapter of a folder, beside the loaded weights; returns its name in requests.

        Returns at once where it is there already. Raises StudioError.
        """
        state, folder, name = ModelServer.current(), adapter_folder(adapter), adapter_name(adapter)
        if state.state != "ready" or folder is None:
            raise StudioError("chat.unreachable")
        check_base(state.model, folder)
        for each in (name, str(folder)):  # another folder may have the short name
            reply, told = _give(state.port, each, folder)
            if reply == 200:
                return each
            if reply != 409:
                break
        problem = told.get("problem")
        raise StudioError.from_json(problem) if problem else StudioError("chat.refused", reason=str(told))

    @staticmethod
    def choose(adapter: str) -> None:
        """Remember who is to answer ("" is the base), so that a page that is loaded anew names the same."""
        about = read_table(_file())
        if about and about.get("chosen") != adapter:
            write_json(_file(), about | {"chosen": adapter})

    @staticmethod
    def key() -> str:
        """What the server asks of every request; in a file that nobody else on this machine can read."""
        try:
            return read_text(_key_file())
        except (OSError, ValueError):
            return ""

    @staticmethod
    def loaded() -> list[LoadedModel]:
        """All that the server answers as, the base first. Raises StudioError where it does not answer."""
        return loaded_at(ModelServer.current().port, ModelServer.key())

    @staticmethod
    def stop() -> None:
        """End the server and wait until it is gone; its memory is free then."""
        about = read_table(_file())
        identity = process.Identity.from_json(about.get("identity"))
        for number in (TERMINATE, KILL):
            if identity is not None and process.send(identity, number):
                _wait_gone(identity)
        if about.get("engine") == VLLM and isinstance(about.get("run_id"), str):
            for each in process.with_cookie(about["run_id"]):  # its workers, if it had no time to end them
                process.send(each, KILL)
        for file in (_file(), _key_file()):
            file.unlink(missing_ok=True)


def settled(model: str, adapters: Sequence[str], how: HowToServe | None) -> HowToServe:
    """How to serve, with the GPUs that vLLM will have. Raises StudioError for what the chosen engine cannot serve, with
    what to do about it."""
    how = how or HowToServe()
    if how.engine != VLLM:
        return how
    if how.bits != 16:
        raise StudioError("chat.vllm.bits")
    return replace(how, device=prepare(model, adapters, device=how.device, python=how.python).device)


def serve_command(
    model: str, adapters: Sequence[str], how: HowToServe | None = None, *, port: int, told: Path
) -> list[str]:
    """How a server is started. Raises StudioError for an adapter that is none."""
    how = how or HowToServe()
    command = [sys.executable, "-m", "glmstudio.serve", "--model", model, "--port", str(port), "--told", str(told)]
    for adapter in adapters:
        command += ["--adapter", adapter]
    command += ["--bits", str(how.bits), "--dtype", how.dtype, "--engine", how.engine]
    command += ["--device", how.device] if how.device else []
    return command + (["--engine-python", how.python] if how.python else [])


def spawn(
    command: list[str], log: IO[bytes], run_id: str, key: str, *, detached: bool = True
) -> subprocess.Popen[bytes]:
    """Start a server that only who has `key` may ask, and give more adapters."""
    return process.spawn(command, log, run_id, detached=detached, variables={CONTROL: key, VARIABLE: key})


def loaded_at(port: int, key: str) -> list[LoadedModel]:
    """All that the server at `port` answers as. Raises StudioError where it does not answer."""
    try:
        told = httpx.get(f"http://127.0.0.1:{port}/v1/models", headers=bearer(key), trust_env=False, timeout=10).json()
        names = ("kind", "sha256", "norm", "size", "context", "fingerprint")
        return [LoadedModel(each["id"], **{name: each["glmstudio"][name] for name in names}) for each in told["data"]]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise StudioError("chat.unreachable") from error


def _give(port: int, name: str, folder: Path) -> tuple[int, dict[str, Any]]:
    """Ask the server to put an adapter beside its weights; the status and what it says. Raises StudioError."""
    try:
        reply = httpx.post(
            f"http://127.0.0.1:{port}/studio/adapters",
            json={"name": name, "folder": str(folder)},
            headers={"x-studio-token": ModelServer.key()} | bearer(ModelServer.key()),
            trust_env=False,
            timeout=600,
        )
        return reply.status_code, reply.json()
    except (httpx.HTTPError, ValueError) as error:
        raise StudioError("chat.unreachable") from error


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


def _written(about: dict[str, Any]) -> ServerState | None:
    """What `server.json` says was started; None where it says nothing that could have been."""
    model, port, bits = about.get("model"), about.get("port"), about.get("bits", 16)
    engine, device = about.get("engine", STUDIO), about.get("device", "")
    if not isinstance(model, str) or type(port) is not int or not 0 < port < 65536:
        return None
    listed = about.get("adapters")
    adapters = tuple(each for each in listed if isinstance(each, str)) if isinstance(listed, list) else ()
    chosen = about.get("chosen")
    chosen = chosen if isinstance(chosen, str) else next(iter(adapters), "")
    known = ServerState("loading", model, adapters, chosen, port, bits if bits in (16, 8, 4) else 16)
    return replace(known, engine=VLLM, device=str(device)) if engine == VLLM else known


def _why(log: Path) -> StudioError:
    """Why a server ended that said nothing of it itself: what its log names; a log without a trace of an error means
    that it was ended from outside, as every error of its own, a fault of native code too, leaves one."""
    cause = reasons.reason(log)
    if cause.key in ("runs.out_of_memory", "runs.out_of_card_memory"):
        return StudioError("chat.server_no_memory")
    if cause.key == "runs.driver_lost":
        return StudioError("chat.server_driver", mark=cause.values["mark"])
    if any(mark in _log_end(log) for mark in _TRACES):
        return StudioError("chat.server_died", log=str(log))
    return StudioError("chat.server_killed")


def _log_end(log: Path) -> str:
    try:
        with opened(log) as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _END))
            return stream.read(_END).decode("utf-8", errors="replace")
    except OSError:
        return ""


def _answers(port: int) -> bool:
    try:
        reply: Any = httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False, timeout=2).json()
    except (httpx.HTTPError, ValueError):
        return False
    return bool(reply.get("status") == "ready")


def _wait_gone(identity: process.Identity) -> None:
    end = time.monotonic() + _GRACE
    while process.alive(identity) and time.monotonic() < end:
        time.sleep(0.05)


def _file() -> Path:
    return paths().state / SERVER


def _told_file() -> Path:
    return paths().state / "server-told.json"


def _key_file() -> Path:
    return paths().state / "server-token"


def _log_file() -> Path:
    return paths().state / "server.log"
