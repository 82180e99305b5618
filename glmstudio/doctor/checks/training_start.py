"""A real start with the launch line of our runs: two workers that must find each other and add up."""

from __future__ import annotations

import importlib.util
import subprocess
import time
import uuid

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
    begun, run_id = time.monotonic(), uuid.uuid4().hex
    command = launch_line("glmstudio.train.distributed.smoke", processes=2)
    environment = training_environment(processes=2) | {process.COOKIE: run_id, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as agent:
        try:
            output, _errors = agent.communicate(timeout=_LIMIT)
        except subprocess.TimeoutExpired:
            return found("warning", "apart", seconds=_LIMIT)
        finally:
            _end(run_id)
    seconds = time.monotonic() - begun
    if agent.returncode == 0 and "together 2" in output:
        return found("ok", "ok", seconds=seconds)
    return found("error", "failed", error=_last_error(output))


def _end(run_id: str) -> None:
    for each in process.with_cookie(run_id):
        process.send(each, KILL)


def _last_error(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if "Error" in line and "ChildFailedError" not in line]
    return (lines or output.strip().splitlines() or ["?"])[-1][-300:]
