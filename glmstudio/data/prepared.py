"""The folder of prepared datasets: their names, and which of them may go."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from glmstudio.data.readers.sources import on_disk
from glmstudio.errors import StudioError
from glmstudio.families.recognition import family_of
from glmstudio.files import digest
from glmstudio.models.contents.vocabulary import check_vocabulary, vocabulary_file
from glmstudio.paths import paths
from glmstudio.system.portable.locks import taken

VERSION = 6  # of the files of a prepared dataset, and of what the examination finds
KEPT = 5
_WEEK_S = 7 * 24 * 3600.0
_DAY_S = 24 * 3600.0
_NAME = re.compile(r"[0-9a-f]{64}")
_BUILDING = ".building-"


def place() -> Path:
    """Where prepared datasets lie."""
    return paths().cache / "data"


def key_of(files: Sequence[Path], model_folder: Path, mark: str = "") -> str:
    """The name of a prepared dataset: another one for any other state of the files, tokenizer, format, or mixture
    (its `mark`)."""
    vocabulary = vocabulary_file(model_folder)
    parts = [f"glm studio data {VERSION} {mark}"]
    try:
        for file in files:
            state = on_disk(file).stat()
            parts.append(f"{file.resolve()}\0{state.st_size}\0{state.st_mtime_ns}")
    except OSError as error:
        raise StudioError("data.file_unreadable", file=str(file), reason=error.strerror or str(error)) from error
    try:
        if vocabulary.is_file():
            check_vocabulary(vocabulary)
        parts.append(f"{sum_of(vocabulary)} {family_of(model_folder).name}")
    except OSError as error:
        raise StudioError("data.tokenizer_missing", file=str(vocabulary)) from error
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def used(folder: Path) -> None:
    """Remember that this dataset was of use just now."""
    with contextlib.suppress(OSError):
        os.utime(folder / "about.json")


@contextlib.contextmanager
def building() -> Iterator[Path]:
    """A folder to build in; what is left of it at the end goes away. Nobody takes it for a leftover meanwhile."""
    place().mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=place()))
    lock = taken(_lock(folder))
    try:
        yield folder
    finally:
        _remove(folder)
        if lock is not None:
            lock.release()


def finish(folder: Path, key: str) -> Path:
    """Put what was built under its name; where somebody else was faster, theirs stays."""
    target = place() / key
    try:
        os.replace(folder, target)
    except OSError:
        if not (target / "about.json").is_file():
            raise
    return target


def prune() -> None:
    """Delete what nobody used for a week, but for the newest few, and what killed builders left."""
    try:
        found = [folder for folder in place().iterdir() if folder.is_dir() and not folder.is_symlink()]
    except OSError:
        return
    ready = sorted((folder for folder in found if _NAME.fullmatch(folder.name)), key=_last_use, reverse=True)
    old = [folder for folder in ready[KEPT:] if time.time() - _last_use(folder) > _WEEK_S]
    for folder in old + [folder for folder in found if folder.name.startswith(_BUILDING) and _is_left(folder)]:
        _remove(folder)


def sum_of(file: Path) -> str:
    """The sha256 of a file that is asked for again and again: read once for each state of it. Raises OSError."""
    state = file.stat()
    return _sum(file, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=8)
def _sum(file: Path, *_state: int) -> str:
    return digest(file)


def _last_use(folder: Path) -> float:
    try:
        return (folder / "about.json").stat().st_mtime
    except OSError:
        return 0.0


def _is_left(folder: Path) -> bool:
    """Whether nobody builds here any more: then the lock is free, or where there is none, a day has gone by."""
    try:
        if _lock(folder).exists():
            lock = taken(_lock(folder))
            if lock is None:
                return False
            free = lock.is_locked
            lock.release()
            if free:
                return True
        return time.time() - folder.stat().st_mtime > _DAY_S
    except OSError:
        return False


def _lock(folder: Path) -> Path:
    """Beside the folder: Windows renames none with an open file in it."""
    return folder.with_name(f".lock{folder.name}")


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # Windows deletes it with its release
        _lock(folder).unlink(missing_ok=True)
