"""One look at all processes, shared by the checks: who they are, who started them, and what they carry."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

import psutil

from glmstudio.runs.process import COOKIE, environment

JOB = "TORCHELASTIC_RUN_ID"  # torchrun sets it for its workers, and they for all that they start
LOADER = "pt_data_worker"  # how torch 2.5 and later name the processes that load data
_AGENT_NAME = "pt_elastic"  # and how they name torchrun itself
_AGENT_PROGRAMS = ("torchrun", "accelerate", "deepspeed")
_AGENT_MODULES = re.compile(
    r"torch\.distributed\.(run|launch|elastic\b.*)|accelerate\.commands\b.*|deepspeed\.launcher\b.*"
)
_PYTHON = re.compile(r"python[\d.]*(\.exe)?")
_WITH_VALUE = ("-X", "-W", "--check-hash-based-pycs")


@dataclass(frozen=True)
class Seen:
    """A process as it was at that look. `variables` are only known of this user's processes."""

    pid: int
    parent: int
    name: str
    argv: tuple[str, ...]
    user: str
    mine: bool
    created: float
    cpu_s: float
    variables: dict[str, str] = field(repr=False)

    @property
    def command(self) -> str:
        """The command line, cut to what a table can show."""
        return (" ".join(self.argv) or self.name)[:300]

    @property
    def age_s(self) -> float:
        """Seconds since it was started."""
        return max(0.0, time.time() - self.created)

    @property
    def is_python(self) -> bool:
        """Whether Python runs in it; a shell or an editor opened from within a training carries its variables, too."""
        return self.name.startswith(("python", "pt_")) or bool(_PYTHON.fullmatch(_base(self.argv[:1])))

    @property
    def is_agent(self) -> bool:
        """Whether it is torchrun or its like: by the program that runs, never by a word somewhere in its command."""
        if self.name == _AGENT_NAME or _base(self.argv[:1]) in _AGENT_PROGRAMS:
            return True
        if not _PYTHON.fullmatch(_base(self.argv[:1])):
            return False
        kind, program = _program(self.argv[1:])
        return bool(_AGENT_MODULES.fullmatch(program)) if kind == "-m" else _base((program,)) in _AGENT_PROGRAMS


@dataclass(frozen=True)
class Table:
    """All processes by number."""

    processes: dict[int, Seen]

    def above(self, process: Seen) -> Iterator[Seen]:
        """Its parent, its parent's parent, and so on, as far as they are still there."""
        seen = {process.pid}
        current = self.processes.get(process.parent)
        while current is not None and current.pid not in seen:
            yield current
            seen.add(current.pid)
            current = self.processes.get(current.parent)

    def below(self, pid: int) -> list[Seen]:
        """Everything that it started, and what they started."""
        found: list[Seen] = []
        waiting = [pid]
        while waiting:
            parent = waiting.pop()
            children = [each for each in self.processes.values() if each.parent == parent and each not in found]
            found += children
            waiting += [child.pid for child in children]
        return found

    def has_agent_above(self, process: Seen) -> bool:
        """Whether a torchrun still looks after it."""
        return any(each.is_agent for each in self.above(process))


def read_table() -> Table:
    """Look at every process once."""
    own = os.getuid() if hasattr(os, "getuid") else None
    names = ["pid", "ppid", "name", "cmdline", "username", "uids", "create_time", "cpu_times"]
    seen = (_seen(process.info, own) for process in psutil.process_iter(names, ad_value=None))
    return Table({each.pid: each for each in seen})


def _seen(info: dict[str, object], own: int | None) -> Seen:
    uids, times = info["uids"], info["cpu_times"]
    mine = own is None or (uids is not None and uids.real == own)  # type: ignore[attr-defined]
    pid = int(str(info["pid"]))
    return Seen(
        pid=pid,
        parent=int(str(info["ppid"] or 0)),
        name=str(info["name"] or "")[:60],
        argv=tuple(str(part) for part in info["cmdline"] or ()),  # type: ignore[attr-defined]
        user=str(info["username"] or "?")[:60],
        mine=mine,
        created=float(str(info["create_time"] or 0.0)),
        cpu_s=float(times.user + times.system) if times is not None else 0.0,  # type: ignore[attr-defined]
        variables={name: value for name, value in environment(pid).items() if name in (COOKIE, JOB)} if mine else {},
    )


def _program(arguments: tuple[str, ...]) -> tuple[str, str]:
    """What Python was told to run: ("-m", module), ("-c", code) or ("", script)."""
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word in ("-m", "-c"):
            return word, rest[0] if rest else ""
        if word in _WITH_VALUE:
            rest = rest[1:]
        elif not word.startswith("-"):
            return "", word
    return "", ""


def _base(words: tuple[str, ...]) -> str:
    return PurePath(words[0]).name if words else ""
