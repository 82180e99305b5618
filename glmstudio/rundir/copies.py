"""Run directories that somebody copied by hand: the copy has the run id of the first one, but none of its processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from glmstudio.rundir.record import RunFiles, RunRecord, folder_mark
from glmstudio.system import process
from glmstudio.system.portable.open_files import current_folder


def is_copy(folder: Path, record: RunRecord) -> bool:
    """Whether the run directory `folder` with this record was copied from another one that is still there.

    A mark alone proves nothing: there are disks whose folders get another one with time. But a living supervisor stands
    in its run's folder, wherever that is by now; where it was killed, the command that still trains names the folder.
    """
    own, mark, attempt = folder_mark(folder), record.placement.folder_mark, record.attempt
    if mark in (None, own):
        return False
    if (stands := _where_it_stands(attempt.supervisor)) is not None:
        return stands != own
    if process.alive(attempt.agent) and _named(attempt.argv) == mark:
        return True
    for file in folder.parent.glob(f"*/{RunFiles.RECORD}"):
        other = RunRecord.read(file.parent)
        if other.attempt.run_id == attempt.run_id and other.placement.folder_mark == folder_mark(file.parent):
            return True
    return False


def _where_it_stands(supervisor: process.Identity | None) -> str | None:
    """The mark of that folder; None where there is no living supervisor, or its folder was deleted."""
    if supervisor is None or not process.alive(supervisor):
        return None
    stat = current_folder(supervisor.pid)
    return f"{stat.st_dev}:{stat.st_ino}" if stat and stat.st_nlink else None


def _named(argv: Sequence[str]) -> str | None:
    """The mark of the folder that the run was started in, by its command."""
    return folder_mark(Path(argv[-1])) if argv and os.path.isabs(argv[-1]) else None  # noqa: PTH117
