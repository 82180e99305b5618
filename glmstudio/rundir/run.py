"""A run is a directory. Whoever reads it sees the same truth, whatever became of the studio that started it.

runs/<name>/
    run.json        what was asked: preset, settings, data, argv, run id, who supervises        (start, supervisor)
    status.json     queued, starting, running, finished, failed, stopped                        (start, supervisor)
    progress.json   phase and time: the trainer's heartbeat                                     (trainer)
    metrics.jsonl   one line for each step and each validation                                  (trainer)
    ranks.jsonl     of several processes, a line for each every ten steps: its times, its memory (trainer)
    samples.jsonl   what the model said at each save                                            (trainer)
    records.json    how many conversations are used, mended, cut and left out                   (trainer)
    opening.json    ids that its first conversation begins with: tools and system text          (trainer)
    exam.json       of a run that is taught facts, what it must keep, and the step that the result is of  (trainer)
    score/          what was asked of the result, and what it answered                          (knowledge)
    notes.json      what its owner wrote about it                                               (manage)
    train.log       what the processes printed
    stop.json       a wish to stop                                                              (stop)
    proof.json      what a stop left: no process, a free port, the memory it gave back          (stop)
    ballast         room on the disk for the last words of a run whose disk is full
    checkpoints/    result/
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmstudio import untrusted
from glmstudio.errors import StudioError
from glmstudio.files import read_table, write_json
from glmstudio.jsonl import bytes_from, rows_from
from glmstudio.paths import paths
from glmstudio.rundir.copies import is_copy
from glmstudio.rundir.queue_file import waiting
from glmstudio.system import process

ENDED = ("finished", "failed", "stopped", "lost")
BALLAST, EXAM = "ballast", "exam.json"
_TAIL = 8192
_BIRTH = 10.0  # seconds from the launch to the supervisor's first sign of life
_BEFORE_TRAINING = (None, "loading", "reading")
_SILENT = 60.0  # seconds
_SILENT_FIRST = 600.0  # seconds without a first step, to which none can be compared
_gone: set[str] = set()  # run ids of which nothing is left


@dataclass(frozen=True)
class RunState:
    """What is true of a run now.

    `state` is one of queued, starting, running, stopping, finished, failed, stopped, lost. `silent`: for how many
    seconds a run that trains has made no step, where that is far longer than a step takes. `slow`: which of its
    processes keeps the others waiting. `validating`: how far a validation is, between 0 and 1, while there is one.
    """

    state: str
    step: int = 0
    steps: int = 0
    loss: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    started: float = 0.0
    ended: float | None = None
    problem: StudioError | None = None
    validation_loss: float | None = None
    silent: float | None = None
    slow: StudioError | None = None
    validating: float | None = None

    @property
    def live(self) -> bool:
        """Whether it has not come to an end."""
        return self.state not in ENDED

    @property
    def silence(self) -> StudioError | None:
        """A word about a run that has made no step for long, where it has."""
        return None if self.silent is None else StudioError("runs.silent", minutes=self.silent / 60)

    @property
    def holds_device(self) -> bool:
        """Whether something of it may run now."""
        return self.live and self.state != "queued"


@dataclass(frozen=True)
class Run:
    """One run directory. Reading it never changes it."""

    name: str
    path: Path

    @property
    def about(self) -> dict[str, Any]:
        """`run.json`; empty where it is gone."""
        return read_table(self.path / "run.json")

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that it was started with; empty where nobody can read them."""
        return untrusted.table(self.about.get("settings"))

    @property
    def preset(self) -> str:
        """The preset's name."""
        return str(self.about.get("preset", ""))

    @property
    def learned_tools(self) -> bool | None:
        """Whether conversations that it learned from tell the model of tools; None where nobody has counted them."""
        count = read_table(self.path / "records.json").get("with_tools")
        return count > 0 if isinstance(count, int) else None

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.settings.get("model", ""))

    @property
    def data(self) -> str:
        """The data set's path."""
        return str(self.settings.get("data", ""))

    @property
    def device(self) -> str:
        """Where it trains: "cpu", or its cards (`glmstudio.config.devices`)."""
        return str(self.about.get("device", "cpu"))

    @property
    def world(self) -> int:
        """How many processes train it on this machine."""
        return max(1, int(untrusted.number(self.about.get("processes"), 1)))

    @property
    def attempts(self) -> int:
        """How often it was started."""
        return 1 + len(untrusted.items(self.about.get("resumed")))

    @property
    def argv(self) -> list[str]:
        """The command that trains, as it was started."""
        return [str(part) for part in untrusted.items(self.about.get("argv"))]

    @property
    def result(self) -> Path | None:
        """What was learned, once it is written: an adapter, or after full fine-tuning a whole model."""
        folder = self.path / "result"
        return folder if any((folder / name).is_file() for name in ("adapter.json", "config.json")) else None

    @property
    def is_whole_model(self) -> bool:
        """Whether the result is a model of its own, not an adapter of its base."""
        return self.settings.get("method") == "full"

    def read_state(self) -> RunState:
        """The run's state from its files and its processes. A state without a living process behind it is not
        believed: the run is then finished (it said so), or lost."""
        about = self.about
        status, progress = read_table(self.path / "status.json"), read_table(self.path / "progress.json")
        state = str(status.get("state", "starting"))
        problem = status.get("problem") or progress.get("problem")
        if state not in ENDED:
            copied = is_copy(self.path, about)
            told_so = "lost", StudioError("runs.copied").to_json()
            state, problem = told_so if copied else self._living_state(about, progress, problem)
        return self._state(state, about, status, progress, problem)

    def metrics(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """The steps and validations written since byte `offset`, and the next offset. Costs only what is new."""
        rows, end = rows_from(self.path / "metrics.jsonl", offset)
        return [row for row in map(untrusted.numbers, rows) if row], end

    def ranks(self) -> list[dict[str, Any]]:
        """Of a run of several processes, the last figures of each, by rank: step, machine, memory in bytes, seconds of
        a step for reading and for computing."""
        try:
            size = (self.path / "ranks.jsonl").stat().st_size
        except OSError:
            return []
        rows, _ = rows_from(self.path / "ranks.jsonl", max(0, size - _TAIL))
        newest = {
            int(untrusted.number(row.get("rank"))): untrusted.numbers(row) | {"machine": str(row.get("machine"))}
            for row in rows
        }
        return [newest[rank] for rank in sorted(newest)]

    def samples(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """What the model said at the saves since byte `offset`, and the next offset."""
        rows, end = rows_from(self.path / "samples.jsonl", offset)
        return [row | untrusted.numbers(row) for row in rows if untrusted.numbers(row)], end

    def log(self, offset: int = 0) -> tuple[str, int]:
        """What was printed since byte `offset`, and the next offset."""
        data = bytes_from(self.path / "train.log", offset)
        return data.decode("utf-8", errors="replace"), offset + len(data)

    def processes(self) -> list[process.Identity]:
        """Every process that carries this run's id."""
        about = self.about
        cookie = about.get("run_id")
        return process.with_cookie(str(cookie)) if cookie and not is_copy(self.path, about) else []

    def has_processes(self) -> bool:
        """Whether anything of it runs. Once an attempt has nothing left, nothing of it can come back: so a run that
        was lost long ago does not cost a look at every process of the machine at each poll."""
        cookie = str(self.about.get("run_id", ""))
        if cookie in _gone:
            return False
        if self.processes():
            return True
        supervisor = process.Identity.from_json(self.about.get("supervisor"))
        if supervisor is not None and not process.alive(supervisor):
            _gone.add(cookie)
        return False

    def _living_state(self, about: dict[str, Any], progress: dict[str, Any], problem: Any) -> tuple[str, Any]:
        if self.path.name in waiting():
            return "queued", None
        watched = [process.Identity.from_json(about.get(name)) for name in ("supervisor", "agent")]
        rebooted = about.get("boot", process.boot_id()) != process.boot_id() or any(
            each is not None and not process.same_boot(each) for each in watched
        )
        if any(process.alive(each) for each in watched) or (not rebooted and self.has_processes()):
            if (self.path / "stop.json").exists():
                return "stopping", problem
            return ("starting" if progress.get("phase") in _BEFORE_TRAINING else "running"), problem
        # The supervisor may have written the end between the two reads.
        status = read_table(self.path / "status.json")
        if str(status.get("state")) in ENDED:
            return str(status["state"]), status.get("problem")
        if progress.get("phase") == "done" and self.result:
            return "finished", None
        if progress.get("phase") in ("stopped", "failed"):  # the supervisor was killed, the trainer was not
            return progress["phase"], problem
        age = time.monotonic() - untrusted.number(about.get("monotonic"), math.inf)
        if watched[0] is None and not rebooted and 0 <= age < _BIRTH:
            return "starting", problem
        return "lost", problem or StudioError("runs.lost_reboot" if rebooted else "runs.lost_killed").to_json()

    def _state(
        self, state: str, about: dict[str, Any], status: dict[str, Any], progress: dict[str, Any], problem: Any
    ) -> RunState:
        last = self._last_row()
        steps, step = (
            int(untrusted.number(untrusted.table(about.get("settings")).get("steps"))),
            int(last.get("step", 0)),
        )
        ended = status.get("ended") or (progress.get("time") if state in ENDED else None)
        seconds = last.get("seconds")
        speed = last.get("tokens_per_second")
        left = seconds / step * (steps - step) if seconds and step and state == "running" else None
        return RunState(
            state=state,
            step=step,
            steps=steps,
            loss=last.get("loss"),
            tokens_per_second=speed,
            seconds_left=left,
            started=untrusted.number(about.get("created")),
            ended=untrusted.number(ended) or None,
            problem=untrusted.problem(problem),
            validation_loss=last.get("validation_loss"),
            silent=_silence(progress, last) if state == "running" else None,
            slow=untrusted.problem(progress.get("slow")) if state == "running" else None,
            validating=untrusted.share(progress.get("validating")) if state == "running" else None,
        )

    def _last_row(self) -> dict[str, Any]:
        file = self.path / "metrics.jsonl"
        try:
            size = file.stat().st_size
        except OSError:
            return {}
        rows, _ = self.metrics(max(0, size - _TAIL))
        merged: dict[str, Any] = {}
        for row in rows:
            merged |= row
        return merged


def _silence(progress: dict[str, Any], last: dict[str, Any]) -> float | None:
    """For how long nothing was heard, where that is far longer than the steps so far took; by a clock that nobody
    can set back."""
    beat, step = untrusted.number(progress.get("monotonic"), math.nan), last.get("step", 0)
    if progress.get("boot_id") != process.boot_id() or math.isnan(beat):
        return None
    quiet = time.monotonic() - beat
    usual = max(_SILENT, 20 * last.get("seconds", 0) / step) if step else _SILENT_FIRST
    return quiet if quiet > usual else None


def run_names() -> list[str]:
    """What lies in the folder of runs, in no order."""
    try:
        return os.listdir(paths().runs)  # noqa: PTH208  plain names: a page looks each second, at thousands
    except OSError:
        return []


def every_run() -> list[Run]:
    """Every run, in no order."""
    folder = paths().runs
    return [Run(name, folder / name) for name in run_names() if os.path.lexists(f"{folder}/{name}/run.json")]


def list_runs() -> list[Run]:
    """Every run, newest first."""
    return sorted(every_run(), key=lambda run: untrusted.number(run.about.get("created")), reverse=True)


def find_run(name: str) -> Run:
    """The run of that name. Raises StudioError."""
    run = Run(name, paths().runs / name)
    # `os.path.isfile` never raises, whatever the name.
    if name in ("", ".", "..") or "/" in name or "\\" in name or not os.path.isfile(run.path / "run.json"):  # noqa: PTH113
        raise StudioError("runs.unknown", name=name)
    return run


def wait_for_end(run: Run, *, seconds: float, every: float = 0.2) -> RunState:
    """The run's last state once nothing of it lives, or its state after `seconds`."""
    end = time.monotonic() + seconds
    while (state := run.read_state()).live and time.monotonic() < end:
        time.sleep(every)
    return state


def last_word(folder: Path, name: str, value: Any) -> None:
    """Write a run's file although the disk may be full: then the ballast makes room. Never makes the folder."""
    try:
        write_json(folder / name, value, parents=False)
    except OSError:
        (folder / BALLAST).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            write_json(folder / name, value, parents=False)


def wait_until_gone(run: Run, seconds: float = 5.0) -> bool:
    """Whether nothing of the run is left within `seconds`: what has told its end is given a moment to leave."""
    end = time.monotonic() + seconds
    while run.processes():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
