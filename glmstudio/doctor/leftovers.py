"""Processes that a training left behind: found by what they carry in their environment, never by their name alone.

A rank whose agent is gone keeps its card's memory and its port. That its parent is process 1 proves nothing (a healthy
job under nohup has that too, an orphan under a session manager has not): what counts is that no torchrun agent is left
above a process that torchrun started, or that our own run's processes are gone or have ended.
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from glmstudio.doctor.checks import Found, Probes, check, found
from glmstudio.doctor.report import StaleProcess
from glmstudio.doctor.table import JOB, LOADER, Seen, Table, read_table
from glmstudio.files import read_json
from glmstudio.paths import paths
from glmstudio.runs.process import COOKIE, Identity, alive, ancestors, identify

SETTLING = 30.0  # seconds in which a run that ended may still tidy up
NOTHING: tuple[StaleProcess, ...] = ()
_LIVE = ("starting", "running", "stopping")
_GLANCE = 0.3  # seconds between two looks at what a process computes


@dataclass(frozen=True)
class Listed:
    """A stale process with what is needed to end it: its run id if it is ours."""

    process: StaleProcess
    cookie: str | None


@check("proc.stale", family="leftovers", before_start=True)
def processes(probes: Probes) -> Found:
    """Leftovers of trainings that still run."""
    stale = probes.ask(list_stale)
    if not stale:
        return found("ok", "ok")
    pids = ", ".join(str(process.identity.pid) for process in stale)
    case = "ours" if any(process.ticked for process in stale) else "foreign"
    return found("warning", case, action="proc.end", count=len(stale), pids=pids)


def list_stale() -> tuple[StaleProcess, ...]:
    """Everything left behind now, each with a fresh token."""
    listed = tuple(find_stale(watch=True))
    _REGISTER.add(listed)
    return tuple(each.process for each in listed)


def find_stale(table: Table | None = None, *, watch: bool = False) -> list[Listed]:
    """Classify every process of this user; `watch` also tells which of the stale ones compute right now."""
    table = table or read_table()
    spared = {os.getpid(), *ancestors()}
    runs = _runs_by_id()
    mine = (process for process in table.processes.values() if process.mine and process.pid > 1)
    kinds = [(process, classify(process, table, runs)) for process in mine if process.pid not in spared]
    stale = [(process, kind) for process, kind in kinds if kind]
    busy = _busy([process for process, _ in stale]) if watch else set()
    listed = (_listed(process, kind, runs, process.pid in busy) for process, kind in stale)
    return [each for each in listed if each]


def classify(process: Seen, table: Table, runs: dict[str, RunFacts]) -> str:
    """The kind of stale process that this one is, or "" if it is none."""
    run = runs.get(process.variables.get(COOKIE, ""))
    if run is not None:
        return run.kind
    if not process.is_python or process.is_agent or table.has_agent_above(process):
        return ""
    if JOB in process.variables:
        return "foreign_loader" if process.name == LOADER else "foreign_orphan"
    lost_loader = process.name == LOADER and process.age_s > SETTLING and not _has_python_above(process, table)
    return "foreign_loader" if lost_loader else ""


def _listed(process: Seen, kind: str, runs: dict[str, RunFacts], busy: bool) -> Listed | None:
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
        ticked=run is not None,
        values={"run": run.name} if run else {"folder": _folder(process.pid)},
        user=process.user,
        busy=busy,
        silent_s=silence(process.pid),
    )
    return Listed(stale, cookie if run else None)


def _is_still(process: Seen) -> bool:
    """Whether the number was not given to another process since the look at the table."""
    try:
        return abs(psutil.Process(process.pid).create_time() - process.created) < 0.01
    except psutil.Error:
        return False


def _has_python_above(process: Seen, table: Table) -> bool:
    parent = table.processes.get(process.parent)
    return parent is not None and parent.is_python


def _busy(processes: list[Seen]) -> set[int]:
    """Which of these compute right now."""
    before = {process.pid: _computed(process.pid) for process in processes}
    if before:
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
        log = Path(os.readlink(f"/proc/{pid}/fd/1"))  # noqa: PTH115  the link may name what is no path
        return max(0.0, time.time() - log.stat().st_mtime) if log.is_file() else None
    except (OSError, ValueError):
        return None


def _folder(pid: int) -> str:
    try:
        return str(psutil.Process(pid).cwd())[:200]
    except (psutil.Error, OSError):
        return "?"


@dataclass(frozen=True)
class RunFacts:
    """A run's name, and what a process is that still carries its id: a kind of stale process, or "" if all is well."""

    name: str
    kind: str


def _runs_by_id() -> dict[str, RunFacts]:
    found_runs = {}
    for file in sorted(paths().runs.glob("*/run.json")):
        facts = read_json(file, {})
        if isinstance(facts, dict) and isinstance(facts.get("run_id"), str):
            state = read_json(file.with_name("status.json"), {})
            found_runs[facts["run_id"]] = RunFacts(
                file.parent.name, _kind(facts, state if isinstance(state, dict) else {})
            )
    return found_runs


def _kind(facts: dict[str, Any], state: dict[str, Any]) -> str:
    owners = [Identity.from_json(facts.get(name)) for name in ("agent", "supervisor")]
    if state.get("state") not in (None, *_LIVE):
        ended = state.get("ended")
        settled = not isinstance(ended, (int, float)) or time.time() - ended > SETTLING
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
