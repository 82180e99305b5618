"""Values on their way to the browser and back, as JSON."""

from __future__ import annotations

import json
import math
from typing import Any

from glmstudio.files import whole_text


def carried(value: Any) -> Any:
    """A value that gradio can send as JSON: valid Unicode, integers of 64 bits, finite numbers."""
    if isinstance(value, str):
        return value if _is_whole(value) else type(value)(whole_text(value))
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {carried(name): carried(each) for name, each in value.items()}
    return type(value)(map(carried, value)) if type(value) in (list, tuple) else value


def table_of(text: str) -> dict[str, Any]:
    """The JSON object that a browser sent; an empty one where it is none."""
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _is_whole(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
