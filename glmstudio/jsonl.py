"""Files that grow while they are read: each look costs only what is new."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from glmstudio.files import LARGEST, opened


def rows_from(file: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """The JSON objects on the whole lines since byte `offset`, and the offset after the last of them.

    A line that is none, as a full disk or a power cut leaves it, is passed over.
    """
    whole, newline, _ = bytes_from(file, offset).rpartition(b"\n")
    rows = (_row(line) for line in whole.splitlines())
    return [row for row in rows if row is not None], offset + len(whole) + len(newline)


def bytes_from(file: Path, offset: int) -> bytes:
    """What was written since byte `offset`, so much at most as a look can take; nothing where there is no such file."""
    try:
        with opened(file) as stream:
            stream.seek(offset)
            return stream.read(LARGEST)
    except OSError:
        return b""


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
