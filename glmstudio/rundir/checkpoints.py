"""Checkpoints of a run: which there are, which are whole, and which may go.

A checkpoint counts once it is sealed: `checkpoint.json` in it names every file with its size and check sum, and was
written after all of them had reached the disk. One that was cut short, by a kill, a full disk or a power cut, is never
gone on from; one whose bytes changed later is refused.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.files import read_table, write_json
from glmstudio.untrusted import numbers, table

SEAL = "checkpoint.json"
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint; `size` in bytes, `time` in seconds since 1970. Of the losses, what was known when it was made;
    `facts`: the mean share of facts learned and of questions kept."""

    step: int
    path: Path
    size: int
    whole: bool
    time: float | None = None
    loss: float | None = None
    validation_loss: float | None = None
    facts: float | None = None


def list_checkpoints(folder: Path) -> list[Checkpoint]:
    """Every checkpoint in a run's `checkpoints` folder, by step; one that is cut short is there, and not whole."""
    found = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            match = _NAME.fullmatch(path.name)
            if match and path.is_dir() and not path.is_symlink():
                found.append(_read(path, int(match[1])))
    return sorted(found, key=lambda each: each.step)


def latest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole."""
    return next((each for each in reversed(list_checkpoints(folder)) if each.whole), None)


def best(checkpoints: Sequence[Checkpoint], by: str = "loss") -> Checkpoint | None:
    """The one with the lowest loss on the validation set, or by `facts` the one that learned and kept the most, of
    equal ones the newest; None where nothing of the kind was measured."""
    if by == "facts":
        asked = [each for each in checkpoints if each.whole and each.facts is not None]
        return max(asked, key=lambda each: (each.facts, each.step), default=None)
    judged = [each for each in checkpoints if each.whole and each.validation_loss is not None]
    return min(judged, key=lambda each: (each.validation_loss, each.step), default=None)


def seal(
    path: Path, *, step: int, loss: float | None, validation_loss: float | None, facts: float | None = None
) -> None:
    """Declare a checkpoint whole: every byte of it is on the disk before that is written down."""
    files, sums = {}, {}
    for file in sorted(path.rglob("*")):
        if file.is_file() and file.name != SEAL:
            _sync(file)
            name = file.relative_to(path).as_posix()
            files[name], sums[name] = file.stat().st_size, _sum(file)
    losses = {"loss": loss, "validation_loss": validation_loss} | ({} if facts is None else {"facts": facts})
    write_json(path / SEAL, {"step": step, "time": time.time(), **losses, "files": files, "crc32": sums})
    _sync(path / SEAL)
    _sync(path)


def verify(path: Path) -> None:
    """Read every byte of a sealed checkpoint. Raises StudioError where one is not what was written."""
    for name, wanted in table(read_table(path / SEAL).get("crc32")).items():
        if _sum(path / name) != wanted:
            raise StudioError("runs.checkpoint_broken", folder=str(path), file=name)


def prune(folder: Path, *, keep: int, by: str = "loss") -> None:
    """Delete all but the newest `keep` whole checkpoints and the best one, and what was cut short before the newest."""
    found = list_checkpoints(folder)
    whole = [each for each in found if each.whole]
    good = best(whole, by)
    kept = {each.step for each in whole[-keep:]} | ({good.step} if good else set())
    for each in found:
        if each.step not in kept and whole and each.step < whole[-1].step:
            shutil.rmtree(each.path, ignore_errors=True)


def _read(path: Path, step: int) -> Checkpoint:
    about = read_table(path / SEAL)
    files = about.get("files")
    whole = isinstance(files, dict) and bool(files) and about.get("step") == step
    size = 0
    for file in path.rglob("*"):
        with contextlib.suppress(OSError):
            size += file.stat().st_size if file.is_file() else 0
    if isinstance(files, dict):
        whole = whole and all(_size(path / name) == wanted for name, wanted in files.items())
    known = numbers(about | {"step": step})
    figures = (known.get(name) for name in ("time", "loss", "validation_loss", "facts"))
    return Checkpoint(step, path, size, whole, *figures)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1


def _sum(file: Path) -> int:
    found = 0
    with contextlib.suppress(OSError), file.open("rb") as stream:
        while block := stream.read(1 << 20):
            found = zlib.crc32(block, found)
    return found


def _sync(path: Path) -> None:
    """Wait until the disk has it; some file systems cannot do that for a folder."""
    with contextlib.suppress(PermissionError):
        handle = os.open(path, os.O_RDONLY)
        try:
            if path.is_dir():
                with contextlib.suppress(OSError):
                    os.fsync(handle)
            else:
                os.fsync(handle)
        finally:
            os.close(handle)
