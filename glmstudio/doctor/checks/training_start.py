"""A real start with the launch line of our runs: two workers that must find each other and add up."""

from __future__ import annotations

import importlib.util
import subprocess
import time
import uuid
from dataclasses import dataclass

from glmstudio.doctor.engine.check import Probes, check, found
from glmstudio.doctor.engine.report import Finding
from glmstudio.paths import ROOT
from glmstudio.rundir.launch import launch_line, training_environment
from glmstudio.system import process
from glmstudio.system.portable.signals import KILL

_LIMIT = 60.0


@check("dist.smoke", family="pytorch", limit=_LIMIT + 15, deep=True)
def training_start(_: Probes) -> Finding | None:
    """Start torchrun as a run would. Made only when somebody asks: it takes as long as loading PyTorch thrice."""
    if importlib.util.find_spec("torch") is None:
        return None
    begun = time.monotonic()
    done = launch("glmstudio.train.distributed.smoke", processes=2, limit=_LIMIT)
    if done is None:
        return found("warning", "apart", seconds=_LIMIT)
    seconds = time.monotonic() - begun
    if done.returncode == 0 and "together 2" in done.output:
        return found("ok", "ok", seconds=seconds)
    return found("error", "failed", error=last_error(done.output))


@dataclass(frozen=True)
class Launched:
    """How a start ended, and what all of its processes printed."""

    returncode: int
    output: str


def launch(module: str, *, processes: int, limit: float, variables: dict[str, str] | None = None) -> Launched | None:
    """Start a module in so many workers as a run would, and wait; None where it took too long. Nothing of it stays."""
    run_id = uuid.uuid4().hex
    own = training_environment(processes=processes) | {process.COOKIE: run_id, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        launch_line(module, processes=processes),
        cwd=ROOT,
        env=own | (variables or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as agent:
        try:
            output, _errors = agent.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(run_id)
    return Launched(agent.returncode, output)


def _end(run_id: str) -> None:
    for each in process.with_cookie(run_id):
        process.send(each, KILL)


def last_error(output: str) -> str:
    """The line that says why."""
    lines = [line.strip() for line in output.splitlines() if "Error" in line and "ChildFailedError" not in line]
    return (lines or output.strip().splitlines() or ["?"])[-1][-300:]
