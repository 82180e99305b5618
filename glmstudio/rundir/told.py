"""What a run's files say, as far as it can be believed: they may be damaged, edited, or of another version."""

from __future__ import annotations

import math
import time
from typing import Any

from glmstudio.system import process
from glmstudio.untrusted import items, number, problem, share, table

__all__ = ["items", "number", "numbers", "problem", "share", "silence", "table"]

_SILENT = 60.0  # seconds
_SILENT_FIRST = 600.0  # seconds without a first step, to which none can be compared


def numbers(row: dict[str, Any]) -> dict[str, Any]:
    """Of a line of the metrics what is a number, and a step that can be counted."""
    kept = {name: value for name, value in row.items() if number(value, math.nan) == value}
    return kept | {"step": int(kept["step"])} if "step" in kept else {}


def silence(progress: dict[str, Any], last: dict[str, Any]) -> float | None:
    """For how long nothing was heard, where that is far longer than the steps so far took; by a clock that nobody
    can set back."""
    beat, step = number(progress.get("monotonic"), math.nan), last.get("step", 0)
    if progress.get("boot_id") != process.boot_id() or math.isnan(beat):
        return None
    quiet = time.monotonic() - beat
    usual = max(_SILENT, 20 * last.get("seconds", 0) / step) if step else _SILENT_FIRST
    return quiet if quiet > usual else None
