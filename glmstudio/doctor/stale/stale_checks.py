"""What the report says of leftover processes, suspended trainings, and launchers without workers."""

from __future__ import annotations

from glmstudio.doctor.engine.check import Probes, check, found
from glmstudio.doctor.engine.report import Finding
from glmstudio.doctor.stale.stale_processes import list_stale


@check("proc.stale", family="leftovers", before_start=True)
def processes(probes: Probes) -> Finding:
    """Leftovers of trainings that still run."""
    listed = probes.ask_with_probes(list_stale)
    stale = [process for process in listed if not process.suspended and not process.idle]
    if not stale:
        return found("ok", "ok")
    pids = ", ".join(str(process.identity.pid) for process in stale)
    case = "ours" if any(process.ticked for process in stale) else "foreign"
    return found("warning", case, action="proc.end", count=len(stale), pids=pids)


@check("proc.suspended", family="leftovers", before_start=True)
def suspended(probes: Probes) -> Finding | list[Finding]:
    """Trainings that somebody suspended: deliberate, but easily forgotten, and all that they hold stays held."""
    by_run: dict[str, list[str]] = {}
    for process in probes.ask_with_probes(list_stale):
        if process.suspended:
            by_run.setdefault(process.values.get("run", ""), []).append(str(process.identity.pid))
    return [_suspended(run, pids) for run, pids in sorted(by_run.items())] or found("ok", "ok")


def _suspended(run: str, pids: list[str]) -> Finding:
    values = {"run": run, "pids": ", ".join(pids), "words": " ".join(pids)}
    return Finding("warning", "ours" if run else "foreign", values, subject=run, action="proc.end")


@check("proc.idle", family="leftovers")
def idle(probes: Probes) -> Finding | None:
    """Launchers without workers: nothing proves that they are over, for one that waits for other machines has none."""
    pids = [str(process.identity.pid) for process in probes.ask_with_probes(list_stale) if process.idle]
    if not pids:
        return None
    return found("info", "idle", action="proc.end", count=len(pids), pids=", ".join(pids), words=" ".join(pids))
