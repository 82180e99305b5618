"""What files say that may be damaged, edited, or of another version: taken for what it can be, or for nothing."""

from __future__ import annotations

import contextlib
import math
from typing import Any

from glmstudio.errors import StudioError

_MOST = 1e18  # no step, loss, time or size is larger


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


def numbers(row: dict[str, Any]) -> dict[str, Any]:
    """Of a row what is a number, and a step that can be counted."""
    kept = {name: value for name, value in row.items() if number(value, math.nan) == value}
    return kept | {"step": int(kept["step"])} if "step" in kept else {}


def share(value: Any) -> float | None:
    """A number from 0 to 1, or None."""
    known = number(value, math.nan)
    return known if 0 <= known <= 1 else None


def problem(data: Any) -> StudioError | None:
    """The error that was written down; None where there is none, and where its words are not known here."""
    with contextlib.suppress(TypeError, KeyError, ValueError, AttributeError, IndexError):
        error = StudioError.from_json(data)
        for lang in ("en", "zh"):
            error.what(lang)
            error.fix(lang)
        return error
    return None
