"""Ending by number, as a terminal does: a number names what the doctor lists, and is never a reason to end it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from glmstudio.doctor.engine.check import Probes
from glmstudio.doctor.engine.end_result import EndResult
from glmstudio.doctor.engine.report import StaleProcess
from glmstudio.doctor.stale.ending import StopRun, Tell, end_stale
from glmstudio.doctor.stale.stale_processes import list_stale, runs_by_id
from glmstudio.system.process import COOKIE, Identity, alive
from glmstudio.system.process_table import ProcessTable, read_table


def end_numbers(
    pids: Iterable[int], *, tell: Tell = lambda _: None, stop_run: StopRun | None = None
) -> list[EndResult]:
    """End those of these processes that are leftovers now, with the proof of `end_stale`; why not, for every other."""
    probes = Probes()
    listed = {process.identity.pid: process for process in probes.ask_with_probes(list_stale)}
    named = list(dict.fromkeys(pids))
    ended = _end([listed[pid] for pid in named if pid in listed], tell, stop_run)
    table = probes.ask(read_table)
    return [ended[listed[pid].identity] if pid in listed else _refused(pid, table) for pid in named]


def end_again(
    processes: Sequence[StaleProcess], *, tell: Tell = lambda _: None, stop_run: StopRun | None = None
) -> list[EndResult]:
    """End what was listed longer ago than its token is good for, if it still is that process, and for that reason."""
    wanted = {(each.identity, each.kind) for each in processes}
    ended = _end([each for each in list_stale(Probes()) if (each.identity, each.kind) in wanted], tell, stop_run)
    return [ended.get(each.identity) or _changed(each) for each in processes]


def _end(processes: Sequence[StaleProcess], tell: Tell, stop_run: StopRun | None) -> dict[Identity, EndResult]:
    if not processes:
        return {}
    results = end_stale([process.token for process in processes], tell=tell, stop_run=stop_run)
    return {process.identity: result for process, result in zip(processes, results, strict=True)}


def _changed(process: StaleProcess) -> EndResult:
    return EndResult("", process.identity.pid, "changed" if alive(process.identity) else "gone")


def _refused(pid: int, table: ProcessTable) -> EndResult:
    process = table.processes.get(pid)
    if process is None:
        return EndResult("", pid, "nobody")
    if not process.mine:
        return EndResult("", pid, "other_user", values={"user": process.user})
    run = runs_by_id().get(process.variables.get(COOKIE, ""))
    if run is not None:
        return EndResult("", pid, "run", values={"run": run.name})
    return EndResult("", pid, "training" if table.is_of_a_training(process) else "no_leftover")
