"""The process that owns one run: starts torchrun, waits, and writes down how it ended.

`python -m glmstudio.runs.supervise RUN_DIR`, in a session of its own. The launch line needs no hostname, no fixed port
and no root: a static rendezvous on 127.0.0.1 (`docs/runs.md`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from glmstudio import process
from glmstudio.errors import StudioError
from glmstudio.files import read_json, write_json
from glmstudio.paths import ROOT

_PORT_TAKEN = ("EADDRINUSE", "address already in use")
_ATTEMPTS = 3


def main(folder: Path) -> int:
    """Run until the training ends; returns its exit code."""
    # A terminal that closes, or the studio's, must not end the run; a stop comes through `stop.json` and the agent.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _raise_limits()
    about = read_json(folder / "run.json")
    me = process.identify(os.getpid())
    about["supervisor"] = me.to_json() if me else None
    code = 1
    for _ in range(_ATTEMPTS):
        if (folder / "stop.json").exists():
            break
        start = (folder / "train.log").stat().st_size
        code = _attempt(folder, about)
        if code == 0 or not _port_was_taken(folder, start):
            break
    write_json(folder / "status.json", _ending(folder, code))
    return code


def _attempt(folder: Path, about: dict[str, Any]) -> int:
    port = process.free_port()
    argv = launch_line("glmstudio.train", str(folder), port=port)
    with (folder / "train.log").open("ab") as log:
        agent = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=ROOT,
            env=training_environment(),
            start_new_session=True,
        )
    identity = process.identify(agent.pid)
    write_json(
        folder / "run.json", about | {"argv": argv, "port": port, "agent": identity.to_json() if identity else None}
    )
    write_json(folder / "status.json", {"state": "running"})
    return agent.wait()


def launch_line(module: str, *arguments: str, port: int, processes: int = 1) -> list[str]:
    """The torchrun command that starts `module` in each of `processes`."""
    return [
        sys.executable, "-m", "torch.distributed.run", "--nnodes=1", f"--nproc-per-node={processes}",
        "--master-addr=127.0.0.1", f"--master-port={port}", "-m", module, *arguments,
    ]  # fmt: skip


def _raise_limits() -> None:
    """As many open files as this user may have: the usual 1,024 are few for data loaders and connections."""
    try:
        import resource

        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65536) if most > 0 else 65536, most))
    except (ImportError, OSError, ValueError):
        pass


def training_environment() -> dict[str, str]:
    """This environment without what another torchrun left in it."""
    kept = {name: value for name, value in os.environ.items() if not process.belongs_to_a_training(name)}
    kept["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    kept["PYTHONUNBUFFERED"] = "1"
    kept.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    return kept


def _port_was_taken(folder: Path, start: int) -> bool:
    with (folder / "train.log").open("rb") as log:
        log.seek(start)
        text = log.read().decode("utf-8", errors="replace")
    return any(mark in text for mark in _PORT_TAKEN) and not (folder / "progress.json").exists()


def _ending(folder: Path, code: int) -> dict[str, Any]:
    """The last line of the run's story."""
    progress = read_json(folder / "progress.json", {}) or {}
    stopping = (folder / "stop.json").exists()
    ended: dict[str, Any] = {"exit_code": code, "ended": time.time()}
    if progress.get("phase") == "done":  # whatever torchrun met while it left, the result is on disk
        return ended | {"state": "finished"}
    if progress.get("phase") == "stopped" or (stopping and not progress.get("problem")):
        return ended | {"state": "stopped"}
    problem = progress.get("problem") or _reason(folder).to_json()
    return ended | {"state": "failed", "problem": problem}


def _reason(folder: Path) -> StudioError:
    """Why the processes ended, from what they printed last."""
    log = folder / "train.log"
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 20_000))
        text = stream.read().decode("utf-8", errors="replace")
    if "-9 (SIGKILL)" in text or "exitcode: -9" in text:
        return StudioError("runs.killed")
    if "No space left on device" in text:
        return StudioError("runs.disk_full", folder=str(folder))
    if "OutOfMemoryError" in text or "not enough memory" in text:
        return StudioError("runs.out_of_memory")
    return StudioError("runs.crashed", log=str(log))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
