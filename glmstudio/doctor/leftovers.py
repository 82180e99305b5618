"""Processes that a training left behind: found by what they carry in their environment, never by their name alone.

A rank whose agent is gone keeps its card's memory and its port. That its parent is process 1 proves nothing (a healthy
job under nohup has that too, an orphan under a session manager has not): what counts is that no torchrun agent is left
above a process that torchrun started, or that our own run's processes are gone or have ended.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from dataclasses import dataclass
from typing import Any

import psutil

from glmstudio.doctor.checks import Found, Probes, check, found
from glmstudio.doctor.report import StaleProcess
from glmstudio.files import read_json
from glmstudio.paths import paths
from glmstudio.runs.process import COOKIE, Identity, alive, ancestors, environment, identify

SETTLING = 30.0  # seconds in which a run that ended may still tidy up
_JOB = "TORCHELASTIC_RUN_ID"
_AGENT = re.compile(r"\b(torchrun|torch\.distributed\.(run|launch|elastic)|accelerate|deepspeed)\b")
NOTHING: tuple[StaleProcess, ...] = ()
_LIVE = ("starting", "running", "stopping")


@dataclass(frozen=True)
class Listed:
    """A stale process with what is needed to end it: its run id if it is ours."""

    process: StaleProcess
    cookie: str | None


@check("proc.stale", family="leftovers")
def processes(probes: Probes) -> Found:
    """Leftovers of trainings that still run."""
    stale = probes.ask(list_stale)
    if not stale:
        return found("ok", "ok")
    pids = ", ".join(str(process.identity.pid) for process in stale)
    return found("warning", "stale", count=len(stale), pids=pids)


def list_stale() -> tuple[StaleProcess, ...]:
    """Everything left behind now, each with a fresh token."""
    listed = tuple(find_stale())
    _REGISTER.add(listed)
    return tuple(each.process for each in listed)


def find_stale() -> list[Listed]:
    """Classify every process of this user."""
    table = {process.pid: process for process in psutil.process_iter(["pid", "ppid", "name", "cmdline", "create_time"])}
    spared = {os.getpid(), *ancestors()}
    runs = _runs_by_id()
    stale = (_classify(process, table, runs) for pid, process in table.items() if pid not in spared)
    return [each for each in stale if each]


def _classify(process: psutil.Process, table: dict[int, psutil.Process], runs: dict[str, _RunFacts]) -> Listed | None:
    variables = environment(process.pid)
    cookie = variables.get(COOKIE)
    run = runs.get(cookie) if cookie else None
    if run is not None:
        kind = run.kind
    elif _JOB in variables and _is_python(process):
        kind = "" if _is_agent(process) or _has_agent_above(process, table) else "foreign_orphan"
    else:
        kind = "foreign_loader" if variables and _is_lost_loader(process, table) else ""
    identity = identify(process.pid) if kind else None
    if identity is None:
        return None
    stale = StaleProcess(
        token=secrets.token_urlsafe(12),
        identity=identity,
        kind=kind,
        command=" ".join(process.info["cmdline"] or [process.info["name"]])[:300],
        age_s=max(0.0, time.time() - process.info["create_time"]),
        ticked=run is not None,
        values={"run": run.name} if run else {"folder": _folder(process)},
    )
    return Listed(stale, cookie if run else None)


def _is_agent(process: psutil.Process) -> bool:
    return process.info["name"] == "pt_elastic" or bool(_AGENT.search(" ".join((process.info["cmdline"] or [])[:6])))


def _has_agent_above(process: psutil.Process, table: dict[int, psutil.Process]) -> bool:
    seen = {process.pid}
    above = table.get(process.info["ppid"])
    while above is not None and above.pid not in seen:
        if _is_agent(above):
            return True
        seen.add(above.pid)
        above = table.get(above.info["ppid"])
    return False


def _is_lost_loader(process: psutil.Process, table: dict[int, psutil.Process]) -> bool:
    """A data loader of a training without torchrun, whose training is gone."""
    if process.info["name"] != "pt_data_worker" or time.time() - process.info["create_time"] < SETTLING:
        return False
    above = table.get(process.info["ppid"])
    return above is None or not _is_python(above)


def _is_python(process: psutil.Process) -> bool:
    # A shell or an editor opened from within a training carries its variables too.
    name = process.info["name"] or ""
    return name.startswith(("python", "pt_")) or "python" in os.path.basename((process.info["cmdline"] or [""])[0])  # noqa: PTH119


def _folder(process: psutil.Process) -> str:
    try:
        return str(process.cwd())
    except (psutil.Error, OSError):
        return "?"


@dataclass(frozen=True)
class _RunFacts:
    """A run's name, and what a process is that still carries its id: a kind of stale process, or "" if all is well."""

    name: str
    kind: str


def _runs_by_id() -> dict[str, _RunFacts]:
    found_runs = {}
    for file in sorted(paths().runs.glob("*/run.json")):
        facts = read_json(file, {})
        if isinstance(facts, dict) and isinstance(facts.get("run_id"), str):
            state = read_json(file.with_name("status.json"), {})
            found_runs[facts["run_id"]] = _RunFacts(
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
