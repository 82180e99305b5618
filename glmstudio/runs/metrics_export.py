"""The figures of a run for other programs: a CSV table, and event files for TensorBoard."""

from __future__ import annotations

import csv
import io
import os
import shutil
from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.files import write_text
from glmstudio.jobs.json_child import ask
from glmstudio.rundir.metric_table import COLUMNS, by_step
from glmstudio.rundir.run import Run

METRICS_FORMS = ("csv", "tensorboard")


def metrics_csv(run: Run) -> str:
    """A row for each step; an empty cell where nothing was measured. Raises StudioError where nothing was at all."""
    rows = by_step(run.metrics()[0])
    if not rows:
        raise StudioError("runs.no_metrics", name=run.name)
    out = io.StringIO()
    table = csv.DictWriter(out, COLUMNS, restval="")
    table.writeheader()
    table.writerows(rows)
    return out.getvalue()


def export_metrics(run: Run, form: str, target: Path) -> Path:
    """Write them to the new file `target`, or as event files into the new folder `target`.

    Raises StudioError where it exists, cannot be written, or nothing was measured.
    """
    target = target.expanduser().absolute()
    if os.path.lexists(target):
        raise StudioError("runs.target_exists", folder=str(target))
    text = metrics_csv(run)
    try:
        if form == "csv":
            write_text(target, text)
        else:
            _write_events(run, target)
    except OSError as error:
        raise StudioError("runs.no_folder", folder=str(target), reason=error.strerror or str(error)) from error
    return target


def _write_events(run: Run, target: Path) -> None:
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        ask("glmstudio.runs.tensorboard_process", str(run.path), str(part), broke="runs.events_broke")
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
