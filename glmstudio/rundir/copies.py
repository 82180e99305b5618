"""Run directories that somebody copied by hand: the copy has the run id of the first one, but none of its processes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from glmstudio.files import read_table
from glmstudio.system import process
from glmstudio.system.portable.open_files import current_folder


def folder_mark(folder: Path) -> str | None:
    """What tells a folder from a copy of it, and stays when it is moved on its disk."""
    with contextlib.suppress(OSError, ValueError):  # a name out of a file may be none
        stat = folder.stat()
        return f"{stat.st_dev}:{stat.st_ino}"
    return None


def is_copy(folder: Path, about: dict[str, Any]) -> bool:
    """Whether the run directory `folder`, whose `run.json` is `about`, was copied from another one that is still there.

    A mark alone proves nothing: there are disks whose folders get another one with time. But a living supervisor stands
    in its run's folder, wherever that is by now; where it was killed, the command that still trains names the folder.
    """
    own = folder_mark(folder)
    if about.get("place") in (None, own):
        return False
    if (stands := _where_the_supervisor_stands(about)) is not None:
        return stands != own
    if process.alive(process.Identity.from_json(about.get("agent"))) and _named(about) == about["place"]:
        return True
    for other in folder.parent.glob("*/run.json"):
        told = read_table(other)
        if told.get("run_id") == about.get("run_id") and told.get("place") == folder_mark(other.parent):
            return True
    return False


def _where_the_supervisor_stands(about: dict[str, Any]) -> str | None:
    """The mark of that folder; None where there is no living supervisor, or its folder was deleted."""
    supervisor = process.Identity.from_json(about.get("supervisor"))
    if supervisor is None or not process.alive(supervisor):
        return None
    stat = current_folder(supervisor.pid)
    return f"{stat.st_dev}:{stat.st_ino}" if stat and stat.st_nlink else None


def _named(about: dict[str, Any]) -> str | None:
    """The mark of the folder that the run was started in, by its command."""
    argv = about.get("argv")
    last = argv[-1] if isinstance(argv, list) and argv else None
    return folder_mark(Path(last)) if isinstance(last, str) and os.path.isabs(last) else None  # noqa: PTH117
