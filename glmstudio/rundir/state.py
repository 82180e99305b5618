"""The state of a run: a function of its record, its files, and of who is alive."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.rundir.record import Attempt, RunRecord
from glmstudio.untrusted import number, problem, share

ENDED = ("finished", "failed", "stopped", "lost")
_BIRTH = 10.0  # seconds from the launch to the supervisor's first sign of life
_SILENT = 60.0  # seconds
_SILENT_FIRST = 600.0  # seconds without a first step, to which none can be compared
_BEFORE_TRAINING = (None, "loading", "reading")


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
class RunReading:
    """What a run's files say besides its record: `last` is the newest figure of each kind; `queued`, `stop_asked` and
    `has_result`: whether it waits in the queue, somebody wished it to stop, and its result is written."""

    status: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    queued: bool = False
    stop_asked: bool = False
    has_result: bool = False

    @property
    def ended(self) -> bool:
        """Whether somebody wrote down how it ended."""
        return self.status.get("state") in ENDED


@dataclass(frozen=True)
class Liveness:
    """Who of a run is `alive`, whether the folder is a copy of another run's, and this machine's boot and clock."""

    alive: bool = False
    copied: bool = False
    boot_id: str = ""
    now: float = 0.0  # `time.monotonic()`


def state_of(record: RunRecord, files: RunReading, life: Liveness) -> RunState:
    """The run's state. One without a living process behind it is not believed: the run is then finished (it said so),
    or lost."""
    told = problem(files.status.get("problem") or files.progress.get("problem"))
    state = str(files.status.get("state", "starting"))
    if not files.ended:
        state, told = _unended(record, files, life, told)
    running, last = state == "running", files.last
    steps, step, seconds = int(number(record.settings.get("steps"))), int(last.get("step", 0)), last.get("seconds")
    ended = files.status.get("ended") or (files.progress.get("time") if state in ENDED else None)
    return RunState(
        state=state,
        step=step,
        steps=steps,
        loss=last.get("loss"),
        tokens_per_second=last.get("tokens_per_second"),
        seconds_left=seconds / step * (steps - step) if seconds and step and running else None,
        started=record.created,
        ended=number(ended) or None,
        problem=told,
        validation_loss=last.get("validation_loss"),
        silent=_silence(files.progress, last, life) if running else None,
        slow=problem(files.progress.get("slow")) if running else None,
        validating=share(files.progress.get("validating")) if running else None,
    )


def rebooted(attempt: Attempt, boot_id: str) -> bool:
    """Whether the computer was restarted since the attempt: nothing of it can be alive."""
    seen = [attempt.boot, *(each.boot_id for each in (attempt.supervisor, attempt.agent) if each)]
    return any(each not in (None, boot_id) for each in seen)


def _unended(
    record: RunRecord, files: RunReading, life: Liveness, told: StudioError | None
) -> tuple[str, StudioError | None]:
    """State and problem of a run of which nobody wrote down how it ended."""
    if life.copied:
        return "lost", StudioError("runs.copied")
    if files.queued:
        return "queued", None
    phase = files.progress.get("phase")
    if life.alive:
        return "stopping" if files.stop_asked else "starting" if phase in _BEFORE_TRAINING else "running", told
    if phase == "done" and files.has_result:
        return "finished", None
    if phase in ("stopped", "failed"):  # the supervisor was killed, the trainer was not
        return str(phase), told
    attempt, gone = record.attempt, rebooted(record.attempt, life.boot_id)
    age = -1.0 if attempt.monotonic is None else life.now - attempt.monotonic
    if attempt.supervisor is None and not gone and 0 <= age < _BIRTH:
        return "starting", told
    return "lost", told or StudioError("runs.lost_reboot" if gone else "runs.lost_killed")


def _silence(progress: dict[str, Any], last: dict[str, Any], life: Liveness) -> float | None:
    """For how long nothing was heard, where that is far longer than the steps so far took."""
    beat, step = number(progress.get("monotonic"), -1), last.get("step", 0)
    if progress.get("boot_id") != life.boot_id or beat < 0:
        return None
    quiet = life.now - beat
    usual = max(_SILENT, 20 * last.get("seconds", 0) / step) if step else _SILENT_FIRST
    return quiet if quiet > usual else None
