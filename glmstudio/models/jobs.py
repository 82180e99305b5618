"""Long work on a model (download, verify, repair, convert) as a child process that outlives page and studio.

Each is a job in state/jobs/<key>/ (`jobs.background_job`) with its kind, model, folder and options, one for each
folder of a model. Whoever reads it sees the same truth.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmstudio import untrusted
from glmstudio.errors import StudioError
from glmstudio.jobs import background_job
from glmstudio.jobs.background_job import BackgroundJob
from glmstudio.paths import paths
from glmstudio.system.portable.locks import alone
from glmstudio.system.portable.signals import HANG_UP, ignore
from glmstudio.system.process import identify

WORKERS = {
    "download": "glmstudio.models.job_process",
    "verify": "glmstudio.models.job_process",
    "repair": "glmstudio.models.job_process",
    "convert": "glmstudio.glm.conversion_process",
}
_PACE_S = 0.5
_SMOOTH_S = 20.0  # the speed that is shown is that of so many seconds


@dataclass(frozen=True)
class ModelJob:
    """One job as it is now. `state` is one of running, paused, failed, done, interrupted; sizes in bytes."""

    kind: str
    model: str
    folder: Path
    state: str
    phase: str = ""
    done: int = 0
    total: int = 0
    bytes_per_second: float | None = None
    seconds_left: float | None = None
    source: str = ""
    connections: int = 0
    files: tuple[tuple[str, int, int], ...] = ()  # name, bytes done, bytes in all
    problem: StudioError | None = None
    problems: tuple[StudioError, ...] = ()
    options: dict[str, Any] | None = None
    ended: float | None = None

    @property
    def live(self) -> bool:
        """Whether a process is at it."""
        return self.state == "running"

    @property
    def resumable(self) -> bool:
        """Whether it can go on from where it was."""
        return self.kind in ("download", "repair") and self.state in ("paused", "failed", "interrupted")


def start(kind: str, model: str, folder: Path, options: dict[str, Any]) -> None:
    """Begin a job in the background. Raises StudioError where one is at this folder already."""
    job = _job(folder)
    job.folder.mkdir(parents=True, exist_ok=True)
    with alone(job.folder):
        if (now := read(folder)) and now.live:
            raise StudioError("models.job_busy", model=model)
        job.launch(WORKERS[kind], str(job.folder), kind=kind, model=model, folder=str(folder), options=options)


def read(folder: Path) -> ModelJob | None:
    """The last job of this folder; None where there was none."""
    job = _job(folder)
    about = job.asked
    if (kind := str(about.get("kind"))) not in WORKERS:  # nothing there, or of another version
        return None
    at_work, status = job.look()
    state = str(status.get("state", "running"))
    if state == "running" and not at_work:
        state = "interrupted"
    problem = untrusted.problem(status.get("problem"))
    if state == "interrupted":
        problem = StudioError("models.interrupted", log=str(job.log))
    return ModelJob(
        kind=kind,
        model=str(about.get("model", "")),
        folder=Path(str(about.get("folder", folder))),
        state=state,
        phase=str(status.get("phase", "")),
        done=_count(status, "done"),
        total=_count(status, "total"),
        bytes_per_second=untrusted.number(status.get("bytes_per_second")) or None,
        seconds_left=untrusted.number(status.get("seconds_left")) or None,
        source=str(status.get("source", "")),
        connections=_count(status, "connections"),
        files=tuple(filter(None, map(_file, untrusted.items(status.get("files"))))),
        problem=problem,
        problems=tuple(filter(None, map(untrusted.problem, untrusted.items(status.get("problems"))))),
        options=untrusted.table(about.get("options")),
        ended=untrusted.number(status.get("ended")) or None,
    )


def pause(folder: Path) -> None:
    """End the job's process; what it has done is kept. Returns when the process is gone."""
    job = _job(folder)
    job.end()
    status = job.status
    if status.get("state", "running") == "running":  # it was ended before it could say so
        job.tell(status | {"state": "paused", "ended": time.time()})


def forget(folder: Path) -> None:
    """The job's directory is not needed any more."""
    shutil.rmtree(_job(folder).folder, ignore_errors=True)


class Stopped(Exception):
    """Somebody asked a job to stop; what it has done is kept."""


def carry_out(report: Reporter, do: Callable[[Reporter], list[StudioError]]) -> int:
    """Do the job, which returns the problems it found, and write down how it ended. Returns the exit status."""

    def work() -> None:
        try:
            problems = do(report)
        except Stopped:
            report.end("paused")
        else:
            report.end("done", problems=problems)

    return background_job.carry_out(
        work,
        lambda problem: report.end("failed", problem),
        lambda reason: StudioError("models.broken", reason=reason),
    )


class Reporter:
    """The child's side: what was asked, and `status.json` written as the work goes on."""

    def __init__(self, place: Path) -> None:
        self._job = BackgroundJob(place)
        about = self._job.asked
        self.kind, self.model = str(about["kind"]), str(about["model"])
        self.folder, self.options = Path(about["folder"]), dict(about["options"])
        me = identify(os.getpid())
        self._status: dict[str, Any] = {"state": "running", "identity": me.to_json() if me else None}
        self._job.tell(self._status)
        self._speed: list[tuple[float, int]] = []
        self._written = 0.0
        self._run_id = about.get("run_id")
        self.stopping = False
        signal.signal(signal.SIGTERM, self._asked_to_stop)
        ignore(HANG_UP)

    def tell(self, *, done: int, total: int, **more: Any) -> None:
        """How far it is, in bytes; written twice a second at most."""
        self._status |= {"done": done, "total": total, **more}
        now = time.monotonic()
        if now - self._written < _PACE_S:
            return
        self._written = now
        if self._replaced():
            self.stopping = True
            return
        moved = int(more.get("received") or done)  # what was here before is no speed
        self._speed = [(then, had) for then, had in self._speed if now - then < _SMOOTH_S and had <= moved]
        self._speed.append((now, moved))
        first, had = self._speed[0]
        speed = (moved - had) / (now - first) if now - first > 1 else None
        self._status |= {"bytes_per_second": speed, "seconds_left": (total - done) / speed if speed else None}
        self._job.tell(self._status)

    def end(self, state: str, problem: StudioError | None = None, problems: list[StudioError] | None = None) -> None:
        """How it ended; the last words."""
        last = {"state": state, "ended": time.time(), "problem": problem.to_json() if problem else None}
        last["problems"] = [each.to_json() for each in problems or []]
        if not self._replaced():
            self._job.tell(self._status | last)

    def _replaced(self) -> bool:
        """Whether somebody gave this job up, or began another one in its place: then nothing is ours to say."""
        return self._job.asked.get("run_id") != self._run_id

    def _asked_to_stop(self, *_: object) -> None:
        self.stopping = True


def _job(folder: Path) -> BackgroundJob:
    name = hashlib.sha256(str(folder.absolute()).encode("utf-8", "surrogateescape")).hexdigest()[:20]
    return BackgroundJob(paths().state / "jobs" / name)


def _count(status: dict[str, Any], name: str) -> int:
    return max(0, int(untrusted.number(status.get(name))))


def _file(row: Any) -> tuple[str, int, int] | None:
    """Name, bytes done and bytes in all of one file; None where it is no such row."""
    if not isinstance(row, list) or len(row) != 3:
        return None
    done, whole = (max(0, int(untrusted.number(each))) for each in row[1:])
    return str(row[0]), done, whole
