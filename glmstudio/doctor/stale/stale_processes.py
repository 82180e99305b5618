"""Processes that a training left behind: found by what they carry in their environment, never by their name alone.

A rank whose agent is gone keeps its GPU's memory and its port. That its parent is process 1 proves nothing (a healthy
job under nohup has that too, an orphan under a session manager has not): what counts is that nobody who
started it is left above it, or that our own run's processes are gone or have ended.
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from glmstudio import files
from glmstudio.doctor.engine.check import Probes
from glmstudio.doctor.engine.report import StaleProcess
from glmstudio.doctor.stale import plain_ranks
from glmstudio.jobs.presence import is_held_by
from glmstudio.paths import paths
from glmstudio.rundir.copies import is_copy
from glmstudio.rundir.record import Attempt, RunFiles, RunRecord
from glmstudio.rundir.state import ENDED
from glmstudio.system.gpu_memory import held_mib
from glmstudio.system.portable.open_files import open_files
from glmstudio.system.process import COOKIE, alive, ancestors, identify
from glmstudio.system.process_table import LOADER, ProcessInfo, ProcessTable, clean, read_table
from glmstudio.system.suspension import paused_s

SETTLING = 30.0  # seconds in which a run that ended may still tidy up
NOTHING: tuple[StaleProcess, ...] = ()
_NAMED = 8  # workers that are named
_GLANCE = 0.3  # seconds between two looks at what a process computes


@dataclass(frozen=True)
class Listed:
    """A stale process with what is needed to end it: its run id if it is ours."""

    process: StaleProcess
    cookie: str | None


def list_stale(probes: Probes) -> tuple[StaleProcess, ...]:
    """Everything left behind now, each with a fresh token and what a person decides by."""
    listed = tuple(find_stale(probes.ask(read_table)))
    if listed:
        busy, held = _busy([each.process.identity.pid for each in listed]), held_mib() or {}
        listed = tuple(replace(each, process=_described(each.process, busy, held)) for each in listed)
    _REGISTER.add(listed)
    return tuple(each.process for each in listed)


def find_stale(table: ProcessTable) -> list[Listed]:
    """Classify every process of this user."""
    spared = {os.getpid(), *ancestors()}
    mine = [each for each in table.processes.values() if each.mine and each.pid > 1 and each.pid not in spared]
    runs = runs_by_id() if any(COOKIE in process.variables for process in mine) else {}
    kinds = ((process, classify(process, table, runs)) for process in mine)
    listed = (_listed(process, kind, table, runs) for process, kind in kinds if kind)
    return [each for each in listed if each]


def classify(process: ProcessInfo, table: ProcessTable, runs: dict[str, RunFacts]) -> str:
    """The kind of stale process that this one is, or "" if it is none."""
    run = runs.get(process.variables.get(COOKIE, ""))
    if run is None and process.job and is_of_a_studio(process, table):
        return ""
    kind = run.kind if run is not None else _foreign_kind(process, table)
    if kind or not process.stopped:
        return kind
    if run is not None:
        return "ours_suspended"
    return "foreign_suspended" if table.is_of_a_training(process) else ""


def is_idle(agent: ProcessInfo, table: ProcessTable) -> bool:
    """Whether it is a launcher that goes on without a worker: all have ended, or none has come yet."""
    if not agent.is_agent or agent.stopped or COOKIE in agent.variables or agent.age_s < plain_ranks.GATHERING:
        return False
    below = table.below(agent.pid)
    return all(each.dead and _unheard(each.pid) for each in below)


def _unheard(pid: int) -> bool:
    """Whether it ended so long ago that a launcher that is well would have heard of it."""
    since = paused_s(pid)
    return since is None or since > SETTLING


def is_of_a_studio(process: ProcessInfo, table: ProcessTable) -> bool:
    """Whether it is a studio or a model server of this user, or what one started: where torchrun's variables are
    exported in a shell, all that is started there carries them."""
    return any(each.mine and is_held_by(each.pid) for each in (process, *table.above(process)))


def _foreign_kind(process: ProcessInfo, table: ProcessTable) -> str:
    if process.name == LOADER:
        return "foreign_loader" if _lost_its_rank(process, table) else ""
    if is_idle(process, table):
        return "foreign_idle"
    if table.is_plain_rank(process) and plain_ranks.missing(process, table):
        return "foreign_rank" if _is_orphan(process, table) else ""
    return "foreign_orphan" if _is_orphan(process, table) and not table.helps_a_worker(process) else ""


def _is_orphan(process: ProcessInfo, table: ProcessTable) -> bool:
    if process.number is not None:
        return plain_ranks.is_leftover(process, table)
    return bool(process.job) and process.is_python and not process.is_agent and not table.is_looked_after(process)


def _lost_its_rank(loader: ProcessInfo, table: ProcessTable) -> bool:
    """Whether what it loads data for is gone, or left behind itself."""
    rank = table.processes.get(loader.parent)
    if rank is not None and rank.is_python:
        return rank.pid != 1 and _is_orphan(rank, table)
    return bool(loader.job) or loader.age_s > SETTLING


def _listed(process: ProcessInfo, kind: str, table: ProcessTable, runs: dict[str, RunFacts]) -> Listed | None:
    identity = identify(process.pid)
    if identity is None or not _is_still(process):
        return None
    cookie = process.variables.get(COOKIE)
    run = runs.get(cookie) if cookie else None
    stale = StaleProcess(
        token=secrets.token_urlsafe(12),
        identity=identity,
        kind=kind,
        command=process.command,
        age_s=process.age_s,
        values={"run": run.name} if run else _values(process, table),
        user=process.user,
        in_terminal=process.in_terminal,
    )
    # Whoever suspended a run did so on purpose.
    stale = replace(stale, ticked=run is not None and not stale.suspended)
    if process.is_agent and not run:
        below = table.below(process.pid)
        running = sum(bool(each.job) and not each.stopped for each in below) if stale.suspended else 0
        stale = replace(stale, running=running, over=len(below) if all(each.dead for each in below) else 0)
    return Listed(stale, cookie if run else None)


def _values(process: ProcessInfo, table: ProcessTable) -> dict[str, Any]:
    values: dict[str, Any] = {"folder": _folder(process.pid)}
    if table.is_plain_rank(process):
        gone = ", ".join(map(str, plain_ranks.missing(process, table)[:_NAMED]))
        values |= {"rank": process.number, "meeting": clean(process.meeting, 80), "gone": gone}
    return values


def _described(process: StaleProcess, busy: set[int], held: dict[int, int]) -> StaleProcess:
    pid = process.identity.pid
    still = paused_s(pid) if process.suspended else None
    return replace(process, busy=pid in busy, silent_s=silence(pid), gpu_mib=held.get(pid), suspended_s=still)


def _is_still(process: ProcessInfo) -> bool:
    """Whether the number was not given to another process since the look at the table."""
    try:
        return abs(psutil.Process(process.pid).create_time() - process.created) < 0.01
    except psutil.Error:
        return False


def _busy(pids: list[int]) -> set[int]:
    """Which of these compute right now."""
    before = {pid: _computed(pid) for pid in pids}
    time.sleep(_GLANCE)
    return {pid for pid, seconds in before.items() if _computed(pid) - seconds > _GLANCE / 10}


def _computed(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def silence(pid: int) -> float | None:
    """Seconds since the process last wrote to the file that its output goes to; None where that is no file."""
    try:
        log = Path(open_files(pid).get(1, ""))
        return max(0.0, time.time() - log.stat().st_mtime) if log.is_file() else None
    except (OSError, ValueError):
        return None


def _folder(pid: int) -> str:
    try:
        return clean(psutil.Process(pid).cwd(), 200)
    except (psutil.Error, OSError):
        return "?"


@dataclass(frozen=True)
class RunFacts:
    """A run's name, and what a process is that still carries its id: a kind of stale process, or "" if all is well."""

    name: str
    kind: str


def runs_by_id() -> dict[str, RunFacts]:
    """The runs of this home by the id that their processes carry."""
    found_runs = {}
    for file in sorted(paths().runs.glob(f"*/{RunFiles.RECORD}")):
        try:
            record, state = RunRecord.read(file.parent), files.read_table(file.with_name(RunFiles.STATUS))
        except OSError:  # a folder that this user may not read; `run.dirs` says so
            continue
        if (run_id := record.attempt.run_id) and not is_copy(file.parent, record):
            found_runs[run_id] = RunFacts(file.parent.name, _kind(record.attempt, state))
    return found_runs


def _kind(attempt: Attempt, state: dict[str, Any]) -> str:
    owners = attempt.agent, attempt.supervisor
    if state.get("state") in ENDED:  # a word that only another version of the studio knows is no end
        ended = state.get("ended")
        settled = not isinstance(ended, (int, float)) or not 0 <= time.time() - ended <= SETTLING
        return "ours_ended" if settled else ""
    if any(alive(owner) for owner in owners) or not any(owners):
        return ""
    return "ours_orphan"


class Register:
    """What was listed, by token, for as long as a person may act on it."""

    def __init__(self, lifetime: float = 60.0) -> None:
        self._lifetime = lifetime
        self._listed: dict[str, tuple[float, Listed]] = {}

    def add(self, listed: tuple[Listed, ...]) -> None:
        """Remember these, and forget what nobody can use any more."""
        now = time.monotonic()
        fresh = {token: entry for token, entry in self._listed.items() if now - entry[0] <= self._lifetime}
        self._listed = fresh | {each.process.token: (now, each) for each in listed}

    def take(self, token: str) -> Listed | None:
        """What stands behind a token, once; None if it is unknown or too old."""
        listed_at, listed = self._listed.pop(token, (0.0, None))
        return listed if listed and time.monotonic() - listed_at <= self._lifetime else None


_REGISTER = Register()


def take(token: str) -> Listed | None:
    """What `list_stale` listed under this token within the last minute."""
    return _REGISTER.take(token)
