"""One look at all processes, shared by the checks: who they are, who started them, and what they carry."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import psutil

from glmstudio.system.process import COOKIE, environment

JOB = "TORCHELASTIC_RUN_ID"  # torchrun sets it for its workers, and they for all that they start
LOADER = "pt_data_worker"  # how torch 2.5 and later name the processes that load data
_DEEPSPEED = "CROSS_RANK"  # DeepSpeed's launcher gives no job id, but it alone sets this
_RANK = ("MASTER_PORT", "RANK", "TORCHELASTIC_RESTART_COUNT")  # with the job, which worker of it
_BY_MPI = (("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE"))
_MEETING = "MASTER_ADDR"  # where the workers of scripts that start them without torchrun meet
_KEPT = (COOKIE, JOB, _DEEPSPEED, *_RANK, _MEETING, "WORLD_SIZE", *(name for pair in _BY_MPI for name in pair))
_RANKS, _SIZES = ("RANK", *(rank for rank, _ in _BY_MPI)), ("WORLD_SIZE", *(size for _, size in _BY_MPI))
_AGENT_NAME = "pt_elastic"  # and how they name torchrun itself
_AGENT_PROGRAMS = ("torchrun", "accelerate", "accelerate-launch", "deepspeed")
_AGENT_MODULES = re.compile(
    r"torch\.distributed\.(run|launch|elastic\b.*)|accelerate\.commands\b.*|deepspeed\.launcher\b.*"
    r"|glmstudio\.train\.distributed\.torchrun"
)
_AGENT_FILES = re.compile(
    r".*/(torch/distributed/(run|launch)|accelerate/commands/launch|deepspeed/launcher/(launch|runner))\.py"
)
_PYTHON = re.compile(r"(python|pypy)\d*(\.\d+)*(t|d|-dbg)?(\.exe)?")
_ASKED = [
    name
    for name in ("pid", "ppid", "name", "cmdline", "username", "uids", "create_time", "cpu_times", "exe", "status")
    if hasattr(psutil.Process, name)  # Windows has no uids
]
_LONGEST = 1000  # characters of one word of a command line, of which there may be megabytes


@dataclass(frozen=True)
class ProcessInfo:
    """A process as it was at that look. `variables` and `program` are only known of this user's processes."""

    pid: int
    parent: int
    name: str
    argv: tuple[str, ...]
    user: str
    mine: bool
    created: float
    cpu_s: float
    variables: dict[str, str] = field(repr=False)
    program: str = ""  # the file that runs, whatever the command line says
    in_terminal: bool = False
    stopped: bool = False  # by Ctrl+Z or SIGSTOP; one that a debugger holds is in another state
    dead: bool = False  # it has ended, and only waits for its parent to hear of it

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
        if self.program:
            return bool(_PYTHON.fullmatch(_base(self.program)))
        return self.name.startswith(("python", "pt_")) or bool(_PYTHON.fullmatch(_base(*self.argv[:1])))

    @property
    def is_agent(self) -> bool:
        """Whether it is torchrun or its like: by the program that runs, never by a word somewhere in its command."""
        if self.dead:
            return False
        if self.name == _AGENT_NAME or _base(*self.argv[:1]) in _AGENT_PROGRAMS:
            return True
        if not _PYTHON.fullmatch(_base(*self.argv[:1])):
            return False
        kind, program = _told_to_run(self.argv[1:])
        if kind == "-m":
            return bool(_AGENT_MODULES.fullmatch(program))
        return kind == "" and (_base(program) in _AGENT_PROGRAMS or bool(_AGENT_FILES.fullmatch(program)))

    @property
    def job(self) -> str:
        """The training that it was started for, "" if for none."""
        launched = self.variables.get(JOB) or ("DeepSpeed" if _DEEPSPEED in self.variables else "")
        return launched or (self.meeting if self.number is not None else "")

    @property
    def meeting(self) -> str:
        """Where it meets the other workers, as its environment says."""
        address = self.variables.get(_MEETING, "")
        return f"{address}:{self.variables.get('MASTER_PORT', '')}" if address else ""

    @property
    def number(self) -> int | None:
        """Which worker it is, where only RANK (or MPI's word for it) and MASTER_ADDR say so: no torchrun started it."""
        if self.variables.get(JOB) or _DEEPSPEED in self.variables or not self.variables.get(_MEETING):
            return None
        return _number(next((self.variables[name] for name in _RANKS if name in self.variables), ""))

    @property
    def workers(self) -> int | None:
        """How many workers that training has, where the environment says it."""
        return _number(next((self.variables[name] for name in _SIZES if name in self.variables), ""))

    @property
    def is_by_mpi(self) -> bool:
        """Whether mpirun or its like started it, which stays as long as its workers do."""
        return self.number is not None and any(rank in self.variables for rank, _ in _BY_MPI)

    @property
    def rank(self) -> tuple[str, ...] | None:
        """Which worker of which training it is, or was started by; None where it does not say."""
        values = tuple(self.variables.get(name, "") for name in _RANK)
        return (self.job, *values) if self.job and all(values[:2]) else None


@dataclass(frozen=True)
class ProcessTable:
    """All processes by number."""

    processes: dict[int, ProcessInfo]

    def above(self, process: ProcessInfo) -> Iterator[ProcessInfo]:
        """Its parent, its parent's parent, and so on, as far as they are still there."""
        seen = {process.pid}
        current = self.processes.get(process.parent)
        while current is not None and current.pid not in seen:
            yield current
            seen.add(current.pid)
            current = self.processes.get(current.parent)

    def below(self, pid: int) -> list[ProcessInfo]:
        """Everything that it started, and what they started."""
        children: dict[int, list[ProcessInfo]] = {}
        for each in self.processes.values():
            children.setdefault(each.parent, []).append(each)
        found: dict[int, ProcessInfo] = {}
        waiting = [pid]
        while waiting:
            new = [child for child in children.get(waiting.pop(), ()) if child.pid not in found]
            found |= {child.pid: child for child in new}
            waiting += [child.pid for child in new]
        return list(found.values())

    def has_agent_above(self, process: ProcessInfo) -> bool:
        """Whether a torchrun still looks after it."""
        return any(each.is_agent for each in self.above(process))

    def is_looked_after(self, process: ProcessInfo) -> bool:
        """Whether the one who started this part of a training is still there: torchrun or its like, a launcher that
        somebody wrote in Python, or a shell in whose terminal it runs.
        """
        # Process 1 adopts what is left alone, so that it is Python proves nothing.
        above = list(self.above(process))
        if any(each.is_agent or (each.in_terminal and process.in_terminal) for each in above):
            return True
        return self._has_python_launcher(process)

    def is_of_a_training(self, process: ProcessInfo) -> bool:
        """Whether it is a launcher, or what one that is still there started; a terminal makes no training."""
        if process.is_agent or self.is_plain_rank(process):
            return True
        is_part = process.name == LOADER or (process.is_python and bool(process.job))
        launched = bool(process.job) and process.number is None and self._has_python_launcher(process)
        return is_part and (launched or self.has_agent_above(process))

    def is_plain_rank(self, process: ProcessInfo) -> bool:
        """Whether it is a worker that no torchrun started: a program in Python that has RANK and MASTER_ADDR.

        What process 1 has, everything in a container has, and it says nothing.
        """
        if process.number is None or process.is_agent or not process.is_python or self.has_agent_above(process):
            return False
        first = self.processes.get(1)
        prompt = bool(process.argv) and _runs_nothing(process.argv)
        return not prompt and (first is None or first.job != process.job)

    def living_below(self, pid: int) -> list[ProcessInfo]:
        """What it started, and what they started, and still runs or is suspended."""
        return [each for each in self.below(pid) if not each.dead]

    def training_of(self, process: ProcessInfo) -> set[int]:
        """The numbers of all that belongs to the same training, itself among them."""
        agent = next((each for each in reversed([process, *self.above(process)]) if each.is_agent), None)
        if agent is not None:
            return {agent.pid, *(each.pid for each in self.below(agent.pid))}
        run, job = process.variables.get(COOKIE), process.job and process.parent > 1
        kin = (
            each.pid
            for each in self.processes.values()
            if (run and each.variables.get(COOKIE) == run)
            or (process.number is not None and each.job == process.job)
            or (job and (each.job, each.parent) == (process.job, process.parent))
        )
        return {process.pid, *kin}

    def _has_python_launcher(self, process: ProcessInfo) -> bool:
        starter = next((each for each in self.above(process) if each.job != process.job), None)
        return starter is not None and starter.is_python and starter.pid != 1

    def helps_a_worker(self, process: ProcessInfo) -> bool:
        """Whether the worker that started it is well: some let their helpers go, and process 1 adopts them."""
        return process.rank is not None and any(
            each.rank == process.rank
            and each.pid != process.pid
            and each.created <= process.created
            and self.is_looked_after(each)
            for each in self.processes.values()
        )


def read_table() -> ProcessTable:
    """Look at every process once."""
    own = os.getuid() if hasattr(os, "getuid") else None
    # Not `process_iter`: it keeps what it saw, and would take a new process for the one that had its number before.
    seen = (_look(pid, own) for pid in psutil.pids())
    return ProcessTable({each.pid: each for each in seen if each})


def is_stopped(pid: int) -> bool:
    """Whether it is suspended now, and hears no signal but the one to go on and the one that kills."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


def clean(text: object, longest: int) -> str:
    """A name that a program gave itself, fit to be shown: no control characters, no halves of characters."""
    return "".join(sign if sign.isprintable() else " " if sign.isspace() else "�" for sign in str(text)[:longest])


def _look(pid: int, own: int | None) -> ProcessInfo | None:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return _seen(process.as_dict(_ASKED, ad_value=None), own)
    except (psutil.Error, OSError):  # it has ended meanwhile
        return None


def _seen(info: dict[str, Any], own: int | None) -> ProcessInfo:
    mine = own is None or (info.get("uids") is not None and info["uids"].real == own)
    times = info["cpu_times"]
    return ProcessInfo(
        pid=info["pid"],
        parent=info["ppid"] or 0,
        name=clean(info["name"] or "", 60),
        argv=tuple(clean(word, _LONGEST) for word in (info["cmdline"] or ())[:100]),
        user=clean(info["username"] or "?", 60),
        mine=mine,
        created=info["create_time"] or 0.0,
        cpu_s=times.user + times.system if times is not None else 0.0,
        variables={name: value for name, value in environment(info["pid"]).items() if name in _KEPT} if mine else {},
        program=info["exe"] or "",
        in_terminal=_has_terminal(info["pid"]),
        stopped=info["status"] == psutil.STATUS_STOPPED,
        dead=info["status"] in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD),
    )


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 10 else None


def _runs_nothing(argv: tuple[str, ...]) -> bool:
    """Whether somebody types into it: Python without a program."""
    return bool(_PYTHON.fullmatch(_base(argv[0]))) and _told_to_run(argv[1:])[0] == "-i"


def _has_terminal(pid: int) -> bool:
    """Whether a terminal controls it (field 7); `psutil` knows no terminals that were opened after its first look."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat[stat.rindex(b")") + 2 :].split()[4] != b"0"


def _told_to_run(arguments: tuple[str, ...]) -> tuple[str, str]:
    """What Python was told to run: ("-m", module), ("-c", code) or ("", script). Options may be written together."""
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            return "", word
        if word == "--check-hash-based-pycs":
            rest = rest[1:]
        letter = "" if word.startswith("--") else next((each for each in word[1:] if each in "mcXW"), "")
        if letter:
            value = word.partition(letter)[2] or (rest.pop(0) if rest else "")
            if letter in "mc":
                return f"-{letter}", value
    return "-i", ""


def _base(path: str = "") -> str:
    return PurePath(path).name.removesuffix(".exe") if path else ""
