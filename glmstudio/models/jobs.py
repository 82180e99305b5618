"""Long work on a model (download, verify, repair, convert) as a child process that outlives page and studio.

    state/jobs/<key>/
        job.json      what was asked: kind, model, folder, options, run id, who does it     (start)
        status.json   how far it is, and how it ended                                       (the child)
        log.txt       what the child printed

A job is its directory: whoever reads it sees the same truth. One job a folder at a time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmstudio import untrusted
from glmstudio.errors import StudioError
from glmstudio.files import read_json, write_json
from glmstudio.paths import paths
from glmstudio.system.portable.locks import alone
from glmstudio.system.portable.signals import HANG_UP, KILL, ignore
from glmstudio.system.process import Identity, alive, identify, send, spawn

WORKERS = {
    "download": "glmstudio.models.job_process",
    "verify": "glmstudio.models.job_process",
    "repair": "glmstudio.models.job_process",
    "convert": "glmstudio.glm.conversion_process",
}
_GRACE_S = 5.0
_BIRTH_S = 10.0
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
    place = _place(folder)
    place.mkdir(parents=True, exist_ok=True)
    with alone(place):
        if (now := read(folder)) and now.live:
            raise StudioError("models.job_busy", model=model)
        run_id = os.urandom(16).hex()
        about: dict[str, Any] = {"kind": kind, "model": model, "folder": str(folder), "options": options}
        about |= {"run_id": run_id, "created": time.time()}
        (place / "status.json").unlink(missing_ok=True)
        write_json(place / "job.json", about)
        with (place / "log.txt").open("wb") as log:
            child = spawn([sys.executable, "-m", WORKERS[kind], str(place)], log, run_id)
        identity = identify(child.pid)
        write_json(place / "job.json", about | {"identity": identity.to_json() if identity else None})


def read(folder: Path) -> ModelJob | None:
    """The last job of this folder; None where there was none."""
    place = _place(folder)
    about, status = _table(place / "job.json"), _table(place / "status.json")
    if (kind := str(about.get("kind"))) not in WORKERS:  # nothing there, or of another version
        return None
    state = str(status.get("state", "running"))
    if state == "running" and not _at_work(about, status):
        status = _table(place / "status.json")  # it may have ended between the two looks
        state = str(status.get("state", "running"))
        state = "interrupted" if state == "running" else state
    problem = untrusted.problem(status.get("problem"))
    if state == "interrupted":
        problem = StudioError("models.interrupted", log=str(place / "log.txt"))
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
    place = _place(folder)
    identity = _identity(_table(place / "job.json"), _table(place / "status.json"))
    for number in (signal.SIGTERM, KILL):
        if identity is not None and send(identity, number):
            end = time.monotonic() + _GRACE_S
            while alive(identity) and time.monotonic() < end:
                time.sleep(0.05)
    status = _table(place / "status.json")
    if status.get("state", "running") == "running":  # it was ended before it could say so
        write_json(place / "status.json", status | {"state": "paused", "ended": time.time()})


def forget(folder: Path) -> None:
    """The job's directory is not needed any more."""
    shutil.rmtree(_place(folder), ignore_errors=True)


class Stopped(Exception):
    """Somebody asked a job to stop; what it has done is kept."""


def carry_out(report: Reporter, do: Callable[[Reporter], list[StudioError]]) -> int:
    """Do the job, which returns the problems it found, and write down how it ended. Returns the exit status."""
    try:
        problems = do(report)
    except Stopped:
        report.end("paused")
        return 0
    except StudioError as problem:
        report.end("failed", problem)
        return 1
    except OSError as error:
        report.end("failed", StudioError("cli.system", file=error.filename or "", reason=error.strerror or str(error)))
        return 1
    except Exception as error:
        report.end("failed", StudioError("models.broken", reason=f"{type(error).__name__}: {error}"))
        raise  # for the log
    report.end("done", problems=problems)
    return 0


class Reporter:
    """The child's side: what was asked, and `status.json` written as the work goes on."""

    def __init__(self, place: Path) -> None:
        self.place = place
        about = _table(place / "job.json")
        self.kind, self.model = str(about["kind"]), str(about["model"])
        self.folder, self.options = Path(about["folder"]), dict(about["options"])
        me = identify(os.getpid())
        self._status: dict[str, Any] = {"state": "running", "identity": me.to_json() if me else None}
        write_json(place / "status.json", self._status)
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
        write_json(self.place / "status.json", self._status)

    def end(self, state: str, problem: StudioError | None = None, problems: list[StudioError] | None = None) -> None:
        """How it ended; the last words."""
        last = {"state": state, "ended": time.time(), "problem": problem.to_json() if problem else None}
        last["problems"] = [each.to_json() for each in problems or []]
        if not self._replaced():
            write_json(self.place / "status.json", self._status | last)

    def _replaced(self) -> bool:
        """Whether somebody gave this job up, or began another one in its place: then nothing is ours to say."""
        return _table(self.place / "job.json").get("run_id") != self._run_id

    def _asked_to_stop(self, *_: object) -> None:
        self.stopping = True


def _at_work(about: dict[str, Any], status: dict[str, Any]) -> bool:
    identity = _identity(about, status)
    if identity is None:  # it is being started right now, unless whoever started it was killed in between
        return time.time() - untrusted.number(about.get("created")) < _BIRTH_S
    return alive(identity)


def _identity(about: dict[str, Any], status: dict[str, Any]) -> Identity | None:
    """Who does the job: whoever started it wrote that down, and so did the child itself."""
    return Identity.from_json(about.get("identity")) or Identity.from_json(status.get("identity"))


def _place(folder: Path) -> Path:
    name = hashlib.sha256(str(folder.absolute()).encode("utf-8", "surrogateescape")).hexdigest()[:20]
    return paths().state / "jobs" / name


def _table(file: Path) -> dict[str, Any]:
    table = read_json(file, {})
    return table if isinstance(table, dict) else {}


def _count(status: dict[str, Any], name: str) -> int:
    return max(0, int(untrusted.number(status.get(name))))


def _file(row: Any) -> tuple[str, int, int] | None:
    """Name, bytes done and bytes in all of one file; None where it is no such row."""
    if not isinstance(row, list) or len(row) != 3:
        return None
    done, whole = (max(0, int(untrusted.number(each))) for each in row[1:])
    return str(row[0]), done, whole
