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
from glmstudio.files import read_json, write_json
from glmstudio.paths import ROOT
from glmstudio.runs.lease import CPU
from glmstudio.runs.notify import notify
from glmstudio.runs.reasons import port_was_taken, reason
from glmstudio.runs.run import BALLAST
from glmstudio.runs.start import advance

_ATTEMPTS = 3


def main(folder: Path) -> int:
    """Run until the training ends, then give the card to the next run that waits; returns the training's exit code."""
    # A terminal that closes, or the studio's, must not end the run; a stop comes through `stop.json` and the agent.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _raise_limits()
    about = read_json(folder / "run.json")
    me = process.identify(os.getpid())
    about["supervisor"] = me.to_json() if me else None
    code = 1
    log = folder / "train.log"
    begin = log.stat().st_size
    for _ in range(_ATTEMPTS):
        if (folder / "stop.json").exists():
            break
        start = log.stat().st_size
        code = _attempt(folder, about)
        if code == 0 or not port_was_taken(log, start) or (folder / "progress.json").exists():
            break
    _write_ending(folder, code, begin)
    advance()
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
            env=training_environment(str(about.get("device", "cpu"))),
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


def training_environment(device: str | None = None) -> dict[str, str]:
    """This environment without what another torchrun left in it; a run on `device` sees no other card."""
    kept = {name: value for name, value in os.environ.items() if not process.belongs_to_a_training(name)}
    kept["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    kept["PYTHONUNBUFFERED"] = "1"
    kept.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    # Threads that spin while they wait slow a second program on the same cores ten times (`docs/benchmarks.md`).
    kept.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if device is not None:
        kept["CUDA_VISIBLE_DEVICES"] = "" if device == CPU else device
    return kept


def _write_ending(folder: Path, code: int, begin: int) -> None:
    """The last line of the run's story, unless its folder was moved away. On a full disk, the ballast makes room."""
    if not (folder / "run.json").exists():
        return
    ending = _ending(folder, code, begin)
    try:
        write_json(folder / "status.json", ending)
    except OSError:
        (folder / BALLAST).unlink(missing_ok=True)
        write_json(folder / "status.json", ending)
    notify(folder.name, ending)


def _ending(folder: Path, code: int, begin: int) -> dict[str, Any]:
    progress = read_json(folder / "progress.json", {}) or {}
    stopping = (folder / "stop.json").exists()
    ended: dict[str, Any] = {"exit_code": code, "ended": time.time()}
    if progress.get("phase") == "done":  # whatever torchrun met while it left, the result is on disk
        return ended | {"state": "finished"}
    if progress.get("phase") == "stopped" or (stopping and not progress.get("problem")):
        return ended | {"state": "stopped"}
    problem = progress.get("problem") or reason(folder / "train.log", begin).to_json()
    return ended | {"state": "failed", "problem": problem}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
