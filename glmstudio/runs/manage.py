"""What its owner does with a run that is on the disk: rename it, write about it, delete it."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.files import read_table, write_json
from glmstudio.rundir import queue_file
from glmstudio.rundir.record import RunFiles
from glmstudio.rundir.run import Run, wait_until_gone
from glmstudio.runs.start import check_name

LONGEST_NOTE = 4000


def rename_run(run: Run, name: str) -> Run:
    """Give the run another name. Raises StudioError while it goes on, and for a name that is bad or taken."""
    _refuse_going(run)
    with queue_file.turn():
        _refuse_going(run)
        folder = check_name(name.strip())
        run.path.rename(folder)
        queue_file.rename(run.name, folder.name)
    return Run(folder.name, folder)


def read_note(run: Run) -> str:
    """What its owner wrote about the run."""
    return str(read_table(run.path / RunFiles.NOTES).get("note", ""))


def write_note(run: Run, note: str) -> None:
    """Keep a note with the run."""
    write_json(run.path / RunFiles.NOTES, {"note": note[:LONGEST_NOTE]}, parents=False)


def size_of(run: Run) -> int:
    """The bytes that the run takes on the disk; a file with several names counts once."""
    seen: dict[tuple[int, int], int] = {}
    for folder, _, names in os.walk(run.path):
        for name in names:
            with contextlib.suppress(OSError):
                stat = os.lstat(Path(folder) / name)
                seen[stat.st_dev, stat.st_ino] = stat.st_blocks * 512 if hasattr(stat, "st_blocks") else stat.st_size
    return sum(seen.values())


def delete_run(run: Run) -> int:
    """Delete the run's directory; returns the bytes that it took. Raises StudioError while it goes on."""
    _refuse_going(run)
    if run.path.is_symlink():
        raise StudioError("runs.not_ours", name=run.name)
    freed = size_of(run)
    with queue_file.turn():
        _refuse_going(run)
        queue_file.remove(run.name)
        # Without its run.json it is no run any more, whatever becomes of the rest.
        (run.path / RunFiles.RECORD).unlink(missing_ok=True)
    shutil.rmtree(run.path, ignore_errors=True)
    return freed


def leave_queue(run: Run) -> None:
    """Take a run that waits out of the queue; it counts as stopped and can be started later."""
    with queue_file.turn():
        if queue_file.remove(run.name):
            write_json(run.path / RunFiles.STATUS, {"state": "stopped"}, parents=False)


def _refuse_going(run: Run) -> None:
    if run.read_state().holds_device or not wait_until_gone(run):
        raise StudioError("runs.still_going", name=run.name)
