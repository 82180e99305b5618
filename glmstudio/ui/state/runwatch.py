"""What the page knows of the runs: their files, read on from where the last look ended, and the stops under way."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections import deque
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from glmstudio.errors import LazyText, StudioError
from glmstudio.paths import paths
from glmstudio.rundir.occupancy import chat_on, run_on
from glmstudio.rundir.queue_file import waiting
from glmstudio.rundir.record import RunFiles
from glmstudio.rundir.run import Run, run_names
from glmstudio.rundir.state import RunState
from glmstudio.runs.start import advance
from glmstudio.runs.stop import proof_of, stop_run
from glmstudio.ui.framework.charts import Point, thin
from glmstudio.ui.framework.ttl_cache import cached

log = logging.getLogger(__name__)

LOG_LINES = 200
PINNED = 8
LONGEST_LINE = 2000
SAMPLES = 6
_ERROR = re.compile(r"(Error|Exception|error)\b|\bKilled\b|out of memory|exitcode")
MOST_POINTS = 4000
_TELLING = (RunFiles.RECORD, RunFiles.STATUS, RunFiles.PROGRESS, RunFiles.METRICS, RunFiles.RESULT)


def shown_line(line: str) -> str:
    """A line of a log as it is shown: of a progress bar that rewrites itself the last state, and no endless one."""
    return line.rstrip("\r").rsplit("\r", 1)[-1][:LONGEST_LINE]


@dataclass
class Reading:
    """One run as far as it has been read."""

    points: list[Point] = field(default_factory=list)
    validation: list[Point] = field(default_factory=list)
    learned: list[Point] = field(default_factory=list)
    kept: list[Point] = field(default_factory=list)
    rates: list[Point] = field(default_factory=list)
    samples: deque[dict[str, Any]] = field(default_factory=partial(deque, maxlen=SAMPLES))
    lines: deque[str] = field(default_factory=partial(deque, maxlen=LOG_LINES))
    pinned: deque[str] = field(default_factory=partial(deque, maxlen=PINNED))
    errors: int = 0  # of which `pinned` are the last
    tail: str = ""
    last: dict[str, float] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)

    def advance(self, run: Run) -> None:
        """Read what was added since the last look."""
        rows, self.offsets["metrics"] = run.metrics(self.offsets.get("metrics", 0))
        for row in rows:
            step = row.get("step")
            if not isinstance(step, (int, float)):
                continue
            for name, points in (("loss", self.points), ("learning_rate", self.rates)):
                if isinstance(row.get(name), (int, float)):
                    points.append((float(step), float(row[name])))
                    self.last = self.last | row
            if isinstance(row.get("validation_loss"), (int, float)):
                self.validation.append((float(step), float(row["validation_loss"])))
            for name, points in (("learned", self.learned), ("kept", self.kept)):
                if name in row and row.get(f"{name}_of"):
                    points.append((float(step), 100 * float(row[name]) / float(row[f"{name}_of"])))
        for name in ("points", "rates"):
            if len(points := getattr(self, name)) > MOST_POINTS:
                setattr(self, name, thin(points, MOST_POINTS // 2))

    def advance_samples(self, run: Run) -> None:
        """Read on in what the model said at the saves."""
        rows, self.offsets["samples"] = run.samples(self.offsets.get("samples", 0))
        self.samples.extend(rows)

    def advance_log(self, run: Run) -> None:
        """Read on in the log; a progress bar that rewrites its line counts as one line."""
        text, self.offsets["log"] = run.log(self.offsets.get("log", 0))
        if not text:
            return
        *whole, tail = (self.tail + text).split("\n")
        self.tail = tail[-LONGEST_LINE:]
        for line in whole:
            shown = shown_line(line)
            self.lines.append(shown)
            if _ERROR.search(shown):
                self.pinned.append(shown)
                self.errors += 1

    def log_tail(self) -> str:
        """The last lines of the log."""
        return "\n".join([*self.lines, *([self.tail.rsplit("\r", 1)[-1]] if self.tail else [])])


class RunWatch:
    """Readings of all runs, shared by every open page."""

    def __init__(self) -> None:
        self._readings: dict[tuple[str, int], Reading] = {}
        self._stages: dict[str, LazyText | None] = {}
        self._problems: dict[str, StudioError] = {}
        self._lock = threading.Lock()
        self._advancing = threading.Lock()

    def reading(self, known: RunSnapshot, *, with_log: bool = False) -> Reading:
        """The run, read up to now."""
        with self._lock:
            # A run that goes on from a checkpoint writes anew what came after it, so it is read anew.
            reading = self._readings.setdefault((str(known.run.path), known.attempts), Reading())
            reading.advance(known.run)
            if with_log:
                reading.advance_log(known.run)
                reading.advance_samples(known.run)
            return reading

    def stop(self, run: Run, *, now: bool) -> None:
        """Stop a run in the background; asking again while it stops changes nothing, unless it asks for more haste."""
        with self._lock:
            if run.name in self._stages and not now:
                return
            self._stages[run.name] = None
            self._problems.pop(run.name, None)
        threading.Thread(target=self._stop, args=(run, now), daemon=True, name=f"stop-{run.name}").start()

    def advance(self) -> None:
        """Start in the background what waits for a free GPU: its supervisor may have been killed."""
        if waiting() and not self._advancing.locked():
            threading.Thread(target=self._advance, daemon=True, name="queue").start()

    def _advance(self) -> None:
        with self._advancing:
            try:
                advance()
            except (StudioError, OSError):
                log.exception("The queue could not go on")

    def held(self, run: Run) -> StudioError | None:
        """What a run in the queue waits for."""
        if other := run_on(run.device):
            return StudioError("runs.waits_for_run", name=other.name)
        model = chat_on(run.device)
        return StudioError("runs.waits_for_chat", model=model) if model else None

    def stopping(self, name: str) -> bool:
        """Whether somebody stops this run."""
        return name in self._stages

    def stage(self, name: str) -> LazyText | None:
        """The stage at which stopping this run is."""
        return self._stages.get(name)

    def problem(self, name: str) -> StudioError | None:
        """Why the last stop of this run, or another wish for it, was not fulfilled."""
        return self._problems.get(name)

    def complain(self, name: str, problem: StudioError | None) -> None:
        """Show a problem with the run, or take the last one away."""
        self._problems.pop(name, None)
        if problem:
            self._problems[name] = problem

    def proof(self, run: Run) -> LazyText | None:
        """What the last stop of this run has proven."""
        return proof_of(run)

    def _stop(self, run: Run, now: bool) -> None:
        try:
            for stage in stop_run(run, now=now):
                self._stages[run.name] = stage
        except StudioError as error:
            self._problems[run.name] = error
        except Exception:
            # Whatever broke, the page must not say "stopping" for ever.
            log.exception("Stopping %s broke", run.name)
            self._problems[run.name] = StudioError("ui.broken")
        finally:
            self._stages.pop(run.name, None)


WATCH = RunWatch()


@dataclass(frozen=True)
class RunSnapshot:
    """A run as every part of the page sees it in this tick. `whole`: its result is a model, not an adapter; `stamps`:
    what its files looked like then, or, once it is over, its folder."""

    run: Run = field(hash=False)  # its name and its files' stamps tell it apart
    state: RunState
    model: str
    preset: str
    data: str
    has_result: bool
    whole: bool = False
    attempts: int = 1
    begun: bool = True  # it has trained, or tried to: one that was taken out of the queue has not
    stamps: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.name


_ended: dict[str, RunSnapshot] = {}  # runs that are over, by folder: read again only when a file of theirs has changed


@cached(0.5)
def newest_first() -> list[RunSnapshot]:
    """Every run with its state, the newest on top, what never began at the end. Whoever looks also starts what waits
    and has its turn."""
    WATCH.advance()
    folder = paths().runs
    named = ((name, f"{folder}/{name}") for name in run_names())
    found = [known for name, path in named if (known := _known(name, path)) is not None]
    for gone in _ended.keys() - {str(known.run.path) for known in found}:
        del _ended[gone]
    return sorted(found, key=lambda known: (known.begun or known.state.live, known.state.started), reverse=True)


def _known(name: str, path: str) -> RunSnapshot | None:
    """The run in this folder, if it is one."""
    # Whatever begins a run anew puts a file in its place, which the folder shows: one look a run that is over.
    folder = (_stamp(path),)
    if (known := _ended.get(path)) is not None and known.stamps == folder:
        return known
    if not os.path.lexists(f"{path}/{RunFiles.RECORD}"):
        return None
    run = Run(name, Path(path))
    stamps = tuple(_stamp(f"{path}/{each}") for each in _TELLING)
    state, record, has_result = run.read_state(), run.record, run.result is not None
    settings = record.settings
    known = RunSnapshot(
        run=run,
        state=state,
        model=str(settings.get("model", "")),
        preset=record.preset,
        data=str(settings.get("data", "")),
        has_result=has_result,
        whole=has_result and settings.get("method") == "full",
        attempts=1 + len(record.resumed),
        begun=state.state != "stopped" or record.attempt.launched is not None or any(stamps[2:]),
        stamps=stamps,
    )
    if not state.live:
        known = _ended[path] = replace(known, stamps=folder)
    return known


def _stamp(file: str) -> tuple[int, int, int] | None:
    try:
        stat = os.stat(file)  # noqa: PTH116  each second, for thousands
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def live_run() -> RunSnapshot | None:
    """The run in progress, if there is one; one that waits does not count."""
    return next((known for known in newest_first() if known.state.holds_device), None)
