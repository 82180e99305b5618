"""Take a run's files back to a step: what was written after it will be written again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from glmstudio.files import read_text, write_text
from glmstudio.rundir.checkpoints import list_checkpoints
from glmstudio.rundir.record import RunFiles


def take_back(folder: Path, step: int) -> None:
    """Leave of the run in `folder` what was written up to `step`; later checkpoints are ones that were cut short."""
    for name in (RunFiles.METRICS, RunFiles.SAMPLES, RunFiles.RANKS):
        file = folder / name
        if file.exists():
            kept = [line for line in read_text(file).splitlines() if _step(line) <= step]
            write_text(file, "".join(f"{line}\n" for line in kept))
    for each in list_checkpoints(folder / RunFiles.CHECKPOINTS):
        if each.step > step:
            shutil.rmtree(each.path, ignore_errors=True)  # a whole one would have been gone on from


def _step(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 1 << 62  # half a line is written again, too
