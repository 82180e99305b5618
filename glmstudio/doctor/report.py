"""What the doctor hands out: plain values that can be put in words or in JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from glmstudio.runs.process import Identity
from glmstudio.words import has, say

Status = Literal["ok", "skipped", "info", "warning", "crash", "error"]
_RISING: tuple[Status, ...] = ("ok", "skipped", "info", "warning", "crash", "error")


@dataclass(frozen=True)
class Result:
    """What one check found. `case` names the table of words, `values` fill them in."""

    id: str
    family: str
    status: Status
    case: str = "ok"
    values: dict[str, Any] = field(default_factory=dict)

    def title(self, lang: str) -> str:
        """What was looked at."""
        return say(lang, f"doctor.{self._name}.title", **self.values)

    def fact(self, lang: str) -> str:
        """One line of what was found."""
        return self._text(lang, "fact")

    def what(self, lang: str) -> str:
        """What is wrong; empty where nothing is."""
        return self._text(lang, "what")

    def why(self, lang: str) -> str:
        """Why that matters."""
        return self._text(lang, "why")

    def fix(self, lang: str) -> str:
        """What to do about it."""
        return self._text(lang, "fix")

    def to_json(self, lang: str) -> dict[str, Any]:
        """The result with its words; the keys are the contract of `doctor --json`."""
        words = {name: getattr(self, name)(lang) for name in ("title", "fact", "what", "why", "fix")}
        return {
            "id": self.id,
            "family": self.family,
            "status": self.status,
            "case": self.case,
            **words,
            "values": self.values,
        }

    @property
    def _name(self) -> str:
        return self.id.partition(".")[0]

    def _text(self, lang: str, part: str) -> str:
        # A check that crashed or came too late says so in the same words as any other.
        table = self.case if self.status == "crash" else f"{self._name}.{self.case}"
        return say(lang, f"doctor.{table}.{part}", **self.values) if has(f"doctor.{table}.{part}") else ""


@dataclass(frozen=True)
class GpuProcess:
    """A program that holds memory of a GPU; `used_mib` is None where the driver does not tell."""

    pid: int
    name: str
    user: str
    used_mib: int | None


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU as its driver describes it."""

    index: int
    name: str
    uuid: str
    total_mib: int
    free_mib: int
    temperature_c: int | None
    processes: tuple[GpuProcess, ...]
    capability: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class StaleProcess:
    """A process that a training left behind. `token` stands for it in `end_stale`, for a minute."""

    token: str
    identity: Identity
    kind: str  # ours_orphan, ours_ended, foreign_orphan, foreign_loader
    command: str
    age_s: float
    ticked: bool
    values: dict[str, Any] = field(default_factory=dict)

    def why(self, lang: str) -> str:
        """Why this process counts as left behind."""
        return say(lang, f"doctor.stale.{self.kind}", **self.values)

    def to_json(self, lang: str) -> dict[str, Any]:
        """All but the token, which means nothing to another program."""
        return {
            "pid": self.identity.pid,
            "kind": self.kind,
            "command": self.command,
            "age_s": round(self.age_s, 1),
            "ticked": self.ticked,
            "why": self.why(lang),
        }


@dataclass(frozen=True)
class EndResult:
    """What became of one process that was to be ended."""

    token: str
    pid: int | None
    outcome: Literal["ended", "gone", "changed", "expired", "stuck"]

    def text(self, lang: str) -> str:
        """The outcome as a sentence."""
        return say(lang, f"doctor.end.{self.outcome}", pid=self.pid)


@dataclass(frozen=True)
class Report:
    """One look at the machine."""

    results: tuple[Result, ...]
    gpus: tuple[Gpu, ...]
    stale: tuple[StaleProcess, ...]
    seconds: float
    schema: int = 1

    @property
    def status(self) -> Status:
        """The worst status of all."""
        return max((result.status for result in self.results), key=_RISING.index, default="ok")

    def to_json(self, lang: str = "en") -> dict[str, Any]:
        """The report for other programs; `schema` rises when a key changes its meaning."""
        return {
            "schema": self.schema,
            "status": self.status,
            "seconds": round(self.seconds, 2),
            "results": [result.to_json(lang) for result in self.results],
            "gpus": [asdict(gpu) for gpu in self.gpus],
            "stale": [process.to_json(lang) for process in self.stale],
        }
