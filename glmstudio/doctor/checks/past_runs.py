"""Runs that died, and why: what the next one would meet again."""

from __future__ import annotations

import json
from pathlib import Path

from glmstudio.doctor.engine.check import Probes, check, found
from glmstudio.doctor.engine.report import Finding
from glmstudio.files import read_text
from glmstudio.paths import paths
from glmstudio.rundir.run import Run
from glmstudio.system.process_table import clean

_LOOKED_AT = 20  # runs; the newest ones tell enough


@check("run.dirs", family="leftovers")
def past_runs(_: Probes) -> list[Finding] | None:
    """The newest run, if it did not end well; and runs whose folder cannot be read."""
    files = sorted(paths().runs.glob("*/run.json"), key=_changed, reverse=True)
    created = {file.parent: _created(file) for file in files[:_LOOKED_AT]}
    broken = [folder for folder, when in created.items() if when is None]
    whole = {folder: when for folder, when in created.items() if when is not None}
    judged: list[Finding] = []
    if whole:
        newest = max(whole, key=whole.__getitem__)
        result = _judge(newest, len(files))
        judged, broken = ([result], broken) if result else ([], [newest, *broken])
    if broken:
        names = ", ".join(clean(folder.name, 80) for folder in broken)
        judged.append(found("info", "unreadable", subject=names[:80], names=names, folder=str(paths().runs)))
    return judged or None


def _judge(folder: Path, count: int) -> Finding | None:
    try:
        state = Run(folder.name, folder).read_state()
    except (OSError, ValueError, TypeError, AttributeError, KeyError):  # a file of it is damaged, or another user's
        return None
    if state.state in ("failed", "lost") and state.problem:
        return found("info", "died", name=folder.name, problem=state.problem)
    return found("ok", "ok", name=folder.name, count=count)


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _created(file: Path) -> float | None:
    """When the run was made; None where its description is damaged, or another user's alone."""
    try:
        return float(json.loads(read_text(file))["created"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
