"""What the doctor hands out: plain values that can be put in words or in JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from glmstudio import __version__
from glmstudio.doctor.engine.end_result import sentences
from glmstudio.errors import LazyText, StudioError, worded
from glmstudio.system.nvml import Gpu
from glmstudio.system.process import Identity
from glmstudio.system.redact import redact
from glmstudio.units import duration, memory
from glmstudio.words import has, say

SCHEMA = 2  # rises when a key of `doctor --json` changes its meaning; 1 was a flat list of results
Status = Literal["skipped", "ok", "info", "warning", "crash", "error"]
RISING: tuple[Status, ...] = ("skipped", "ok", "info", "warning", "crash", "error")
_SUMMARY: dict[Status, Status] = {"skipped": "ok", "info": "ok", "crash": "warning"}
_LISTED = ("proc.stale", "proc.suspended")  # what the list of leftover processes says
_COMMON = ("skipped", "crash", "late")  # cases that every check may have, in the same words


@dataclass(frozen=True)
class Finding:
    """What one check found. `case` names the table of words, `values` fill them in.

    `subject` tells several findings of one check apart: a port, a GPU, a folder. `action` names the fix of `fixes` that
    is offered as a button; `remedy` chooses among several texts of a case (`fix_<remedy>`). `id` and `family` are the
    check's, and noted once it has run.
    """

    status: Status
    case: str = "ok"
    values: dict[str, Any] = field(default_factory=dict)
    subject: str = ""
    action: str = ""
    remedy: str = ""
    id: str = ""
    family: str = ""

    @property
    def key(self) -> str:
        """What no other finding of a report is called."""
        return f"{self.id}:{self.subject}" if self.subject else self.id

    def title(self, lang: str) -> str:
        """What was looked at."""
        title = say(lang, f"doctor.{self.id}.title")
        return f"{title} · {self.subject}" if self.subject else title

    def fact(self, lang: str) -> str:
        """One line of what was found."""
        return say(lang, f"{self._table}.fact", **worded(self.values, lang))

    def what(self, lang: str) -> str:
        """What is wrong; empty where nothing is."""
        return self._text(lang, "what")

    def why(self, lang: str) -> str:
        """Why that matters."""
        return self._text(lang, "why")

    def fix(self, lang: str, *, button: bool = False) -> str:
        """What to do about it; `button`: where a button stands beside it that does it."""
        beside = self._text(lang, "fix_page") if button and not self.remedy else ""
        return beside or self._text(lang, f"fix_{self.remedy}" if self.remedy else "fix")

    @property
    def is_finding(self) -> bool:
        """Whether there is something to tell a person: a problem, or a note with more than a fact."""
        return self.status in ("info", "warning", "crash", "error") and has(f"{self._table}.what")

    def to_error(self) -> StudioError:
        """The finding as the error that a person gets who goes on all the same."""
        return StudioError(self._table, **self.values)

    def to_json(self, lang: str) -> dict[str, Any]:
        """The finding with its words; the keys are the contract of `doctor --json`."""
        severity = _SUMMARY["crash"] if self.status == "crash" else self.status
        return {
            "id": self.id,
            "severity": severity,
            "what": self.what(lang),
            "why": self.why(lang),
            "fix": self.fix(lang),
        }

    def to_fact(self, lang: str) -> dict[str, Any]:
        """What was looked at and found, with the values themselves."""
        names = ("id", "subject", "family", "status", "case")
        values = {name: _plain(value) for name, value in self.values.items()}
        texts = {"title": self.title(lang), "fact": self.fact(lang)}
        return {**{name: getattr(self, name) for name in names}, "values": values, **texts}

    @property
    def _table(self) -> str:
        return f"doctor.{self.case}" if self.case in _COMMON else f"doctor.{self.id}.{self.case}"

    def _text(self, lang: str, part: str) -> str:
        key = f"{self._table}.{part}"
        return say(lang, key, **worded(self.values, lang)) if has(key) else ""


@dataclass(frozen=True)
class StaleProcess:
    """A process that was left behind, or is suspended. `token` stands for it in `end_stale`, for a minute."""

    token: str
    identity: Identity
    kind: str  # ours_ or foreign_, and: orphan, ended, loader, rank (without torchrun), suspended, idle (a launcher)
    command: str
    age_s: float
    ticked: bool = False
    values: dict[str, Any] = field(default_factory=dict)
    user: str = ""
    busy: bool = False  # it computes right now
    silent_s: float | None = None  # since its log was last written to, where it has one
    gpu_mib: int | None = None  # of the GPUs' memory, where the driver tells
    in_terminal: bool = False
    suspended_s: float | None = None  # for how long, where the kernel tells
    running: int = 0  # of a suspended launcher: its processes that go on
    over: int = 0  # of a launcher all of whose workers have ended: those that it has not heard of

    @property
    def suspended(self) -> bool:
        """Whether it was suspended, and its training may well be wanted."""
        return self.kind.endswith("_suspended")

    @property
    def idle(self) -> bool:
        """Whether it is a launcher without workers, which may well wait for some."""
        return self.kind == "foreign_idle"

    def why(self, lang: str) -> str:
        """Why this process counts as left behind; of a suspended one, also how it goes on."""
        parts = [say(lang, f"doctor.stale.{self.kind}", **self.values)]
        if self.suspended:
            known = self.suspended_s is not None
            ago = say(lang, "doctor.stale.ago", time=duration(lang, self.suspended_s or 0)) if known else ""
            how = "by_terminal" if self.in_terminal else "by_signal"
            parts.append(say(lang, f"doctor.stale.{how}", ago=ago, pid=self.identity.pid))
        parts += [say(lang, "doctor.stale.running", count=self.running)] if self.running else []
        parts += [say(lang, "doctor.stale.over", count=self.over)] if self.over else []
        if "meeting" in self.values:
            parts.append(say(lang, "doctor.stale.plain", rank=self.values["rank"], meeting=self.values["meeting"]))
        return sentences(lang, parts)

    def facts(self, lang: str) -> str:
        """Whose it is, and whether it still does something: what a person decides by."""
        facts = [self.user]
        if self.gpu_mib:
            facts.append(say(lang, "doctor.stale.holds", memory=memory(self.gpu_mib)))
        if self.busy:
            facts.append(say(lang, "doctor.stale.busy"))
        if self.silent_s is not None:
            facts.append(say(lang, "doctor.stale.silent", time=duration(lang, self.silent_s)))
        return " · ".join(filter(None, facts))

    def to_json(self, lang: str) -> dict[str, Any]:
        """All but the token, which means nothing to another program."""
        return {
            "pid": self.identity.pid,
            "kind": self.kind,
            "command": self.command,
            "age_s": round(self.age_s, 1),
            "ticked": self.ticked,
            "user": self.user,
            "busy": self.busy,
            "silent_s": None if self.silent_s is None else round(self.silent_s),
            "gpu_mib": self.gpu_mib,
            "suspended": self.suspended,
            "suspended_s": None if self.suspended_s is None else round(self.suspended_s),
            "why": self.why(lang),
        }


@dataclass(frozen=True)
class OtherTraining:
    """A training of another program: `kind` is healthy, plain (without torchrun), hung (it seems to), suspended, idle
    (a launcher without workers) or other_user. None is offered as a whole; what of it is suspended or idle is among
    the leftovers.
    """

    kind: str
    pid: int
    user: str
    command: str
    workers: int
    age_s: float

    def why(self, lang: str) -> str:
        """What it is, in a sentence."""
        return say(lang, f"doctor.job.{self.kind}", user=self.user, pid=self.pid)

    def to_json(self, lang: str) -> dict[str, Any]:
        """The job for other programs."""
        return {**asdict(self), "age_s": round(self.age_s, 1), "why": self.why(lang)}


@dataclass(frozen=True)
class Report:
    """One look at the machine."""

    results: tuple[Finding, ...]
    gpus: tuple[Gpu, ...]
    stale: tuple[StaleProcess, ...]
    seconds: float
    jobs: tuple[OtherTraining, ...] = ()

    @property
    def status(self) -> Status:
        """The worst status of all."""
        return max((result.status for result in self.results), key=RISING.index, default="ok")

    @property
    def findings(self) -> list[Finding]:
        """What there is to tell a person, worst first."""
        found = [result for result in self.results if result.is_finding]
        return sorted(found, key=lambda result: -RISING.index(result.status))

    @property
    def problems(self) -> list[Finding]:
        """The findings that need somebody to do something; the rest are notes."""
        return [result for result in self.findings if result.status != "info"]

    @property
    def errors(self) -> int:
        """How many things need somebody: with mere warnings one can go on."""
        return sum(result.status == "error" for result in self.results)

    @property
    def told(self) -> tuple[Finding, ...]:
        """The problems but for those that the list of leftover processes says, process by process."""
        return tuple(each for each in self.problems if not (self.stale and each.id in _LISTED))

    @property
    def notes(self) -> int:
        """How many things are worth a look: the list of leftover processes is one."""
        return len(self.told) + bool(self.stale)

    def summary(self, lang: str) -> str:
        """The report in one sentence, which counts as the page does."""
        made = sum(result.status != "skipped" for result in self.results)
        if count := self.errors or self.notes:
            case = ("one" if count == 1 else "many") if self.errors else ("note" if count == 1 else "notes")
        else:
            case = {0: "none", 1: "healthy_one"}.get(made, "healthy")
        return say(lang, f"doctor.summary.{case}", count=count, checks=made)

    def to_text(self, lang: str) -> str:
        """The report for somebody who helps, without names, paths or secrets."""
        lines = [f"GLM Studio {__version__}", self.summary(lang)]
        for finding in self.findings:
            lines += ["", f"[{say(lang, f'doctor.status.{finding.status}')}] {finding.id}: {finding.what(lang)}"]
        lines.append("")
        lines += [
            f"{result.id} ({result.case}): {result.fact(lang)}" for result in self.results if result.status != "skipped"
        ]
        people = {process.user for gpu in self.gpus for process in gpu.processes}
        people |= {process.user for process in self.stale} | {job.user for job in self.jobs}
        people |= {str(result.values["user"]) for result in self.results if "user" in result.values}
        return redact("\n".join(lines), people)

    def to_json(self, lang: str = "en") -> dict[str, Any]:
        """The report for other programs."""
        return {
            "schema": SCHEMA,
            "summary": {"status": _SUMMARY.get(self.status, self.status), "text": self.summary(lang)},
            "findings": [result.to_json(lang) for result in self.findings],
            "facts": {
                "seconds": round(self.seconds, 2),
                "checks": [result.to_fact(lang) for result in self.results],
                "gpus": [asdict(gpu) for gpu in self.gpus],
                "stale": [process.to_json(lang) for process in self.stale],
                "jobs": [job.to_json(lang) for job in self.jobs],
            },
        }


def _plain(value: Any) -> Any:
    """A value of a finding for JSON."""
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, LazyText):
        return value.text()
    return value.to_json() if isinstance(value, StudioError) else value
