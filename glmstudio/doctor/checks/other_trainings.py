"""Trainings of other programs on this machine: told, and never touched."""

from __future__ import annotations

import os
import time

from glmstudio.doctor.engine.check import Probes, check, found
from glmstudio.doctor.engine.report import Finding, OtherTraining
from glmstudio.doctor.stale.plain_ranks import PlainTraining, by_training, running_ranks
from glmstudio.doctor.stale.stale_processes import is_idle, is_of_a_studio, silence
from glmstudio.system.process import COOKIE, ancestors
from glmstudio.system.process_table import ProcessInfo, ProcessTable, read_table

_SILENT = 15 * 60.0  # seconds without a word in its log
_WATCH = 2.0  # seconds in which a training that lives would compute something
NO_JOBS: tuple[OtherTraining, ...] = ()


@check("proc.jobs", family="leftovers", limit=8)
def jobs(probes: Probes) -> list[Finding] | None:
    """Other trainings: healthy ones as a fact, one that seems to hang with the command that ends it."""
    found_jobs = probes.ask_with_probes(find_jobs)
    hung = [
        found("info", "hung", subject=str(job.pid), pid=job.pid, command=job.command)
        for job in found_jobs
        if job.kind == "hung"
    ]
    facts = []
    for kind in ("healthy", "plain", "other_user"):
        of_kind = [job for job in found_jobs if job.kind == kind]
        pids = ", ".join(f"{job.pid} ({job.user})" for job in of_kind[:10])
        facts += [found("ok", kind, subject=kind, count=len(of_kind), pids=pids)] if of_kind else []
    return [*hung, *facts] or None


def find_jobs(probes: Probes) -> tuple[OtherTraining, ...]:
    """Every torchrun that is nobody's child of our runs, with its workers; and workers that no torchrun started."""
    table = probes.ask(read_table)
    agents = [each for each in table.processes.values() if each.is_agent and COOKIE not in each.variables]
    outermost = [agent for agent in agents if not table.has_agent_above(agent)]
    launched = (
        OtherTraining(
            _kind(agent, table), agent.pid, agent.user, agent.command, len(table.living_below(agent.pid)), agent.age_s
        )
        for agent in outermost
    )
    ranks = (each for each in running_ranks(table) if not _is_ours(each, table))
    return (*launched, *map(_plain, by_training(ranks)))


def _plain(training: PlainTraining) -> OtherTraining:
    kind = "suspended" if any(rank.stopped for rank in training.ranks) else "plain"
    first = training.first
    return OtherTraining(kind, first.pid, first.user, first.command, training.count, first.age_s)


def _is_ours(rank: ProcessInfo, table: ProcessTable) -> bool:
    """Whether a studio started it, or it looks itself: variables that were exported in a shell make no training."""
    return rank.pid in {os.getpid(), *ancestors()} or COOKIE in rank.variables or is_of_a_studio(rank, table)


def _kind(agent: ProcessInfo, table: ProcessTable) -> str:
    if not agent.mine:
        return "other_user"
    family = [agent, *table.below(agent.pid)]
    if any(each.stopped and table.is_of_a_training(each) for each in family):
        return "suspended"
    if is_idle(agent, table):
        return "idle"
    quiet = silence(agent.pid)
    if quiet is None or quiet < _SILENT or agent.age_s < _SILENT:
        return "healthy"
    before = sum(each.cpu_s for each in family)
    time.sleep(_WATCH)
    now = read_table().processes
    after = sum(now[each.pid].cpu_s for each in family if each.pid in now)
    return "hung" if after - before < 0.02 else "healthy"
