"""Run directories that somebody copied by hand: the copy has the run id of the first one, but none of its processes."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from glmstudio.files import read_table


def folder_mark(folder: Path) -> str | None:
    """What tells a folder from a copy of it, and stays when it is moved on its disk."""
    with contextlib.suppress(OSError):
        stat = folder.stat()
        return f"{stat.st_dev}:{stat.st_ino}"
    return None


def is_copy(folder: Path, about: dict[str, Any]) -> bool:
    """Whether the run directory `folder`, whose `run.json` is `about`, was copied from another one that is still there.

    A mark alone proves nothing: there are disks whose folders get another one with time.
    """
    if about.get("place") in (None, folder_mark(folder)):
        return False
    for other in folder.parent.glob("*/run.json"):
        told = read_table(other)
        if told.get("run_id") == about.get("run_id") and told.get("place") == folder_mark(other.parent):
            return True
    return False
