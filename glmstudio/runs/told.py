"""What a run's files say, as far as it can be believed: they may be damaged, edited, or of another version."""

from __future__ import annotations

import contextlib
import math
import time
from typing import Any

from glmstudio import process
from glmstudio.errors import StudioError

_MOST = 1e18  # no step, loss, time or size is larger
_SILENT = 60.0  # seconds
_SILENT_FIRST = 600.0  # seconds without a first step, to which none can be compared


def table(value: Any) -> dict[str, Any]:
    """An object, or an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """A list, or an empty one."""
    return value if isinstance(value, list) else []


def number(value: Any, otherwise: float = 0.0) -> float:
    """A finite number of a size that can be, or `otherwise`."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _MOST
    return value if known and math.isfinite(value) else otherwise


def share(value: Any) -> float | None:
    """A number from 0 to 1, or None."""
    known = number(value, math.nan)
    return known if 0 <= known <= 1 else None


def numbers(row: dict[str, Any]) -> dict[str, Any]:
    """Of a line of the metrics what is a number, and a step that can be counted."""
    kept = {name: value for name, value in row.items() if number(value, math.nan) == value}
    return kept | {"step": int(kept["step"])} if "step" in kept else {}


def problem(data: Any) -> StudioError | None:
    """The error that was written down; None where there is none, and where its words are not known here."""
    with contextlib.suppress(TypeError, KeyError, ValueError, AttributeError, IndexError):
        error = StudioError.from_json(data)
        for lang in ("en", "zh"):
            error.what(lang)
            error.fix(lang)
        return error
    return None


def silence(progress: dict[str, Any], last: dict[str, Any]) -> float | None:
    """For how long nothing was heard, where that is far longer than the steps so far took; by a clock that nobody
    can set back."""
    beat, step = number(progress.get("monotonic"), math.nan), last.get("step", 0)
    if progress.get("boot_id") != process.boot_id() or math.isnan(beat):
        return None
    quiet = time.monotonic() - beat
    usual = max(_SILENT, 20 * last.get("seconds", 0) / step) if step else _SILENT_FIRST
    return quiet if quiet > usual else None
