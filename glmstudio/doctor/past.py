"""Runs that died, and why: what the next one would meet again."""

from __future__ import annotations

from glmstudio.doctor.checks import Found, Probes, check, found
from glmstudio.paths import paths
from glmstudio.runs.run import Run

_LOOKED_AT = 20  # folders; the newest ones tell enough


@check("run.dirs", family="leftovers")
def past_runs(_: Probes) -> Found | None:
    """The newest run, if it did not end well."""
    folders = sorted(paths().runs.glob("*/run.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    newest = [Run(file.parent.name, file.parent) for file in folders[:_LOOKED_AT]]
    if not newest:
        return None
    last = max(newest, key=lambda run: float(run.about.get("created", 0.0)))
    state = last.read_state()
    if state.state in ("failed", "lost") and state.problem:
        return found("info", "died", name=last.name, problem=state.problem)
    return found("ok", "ok", name=last.name, count=len(folders))
