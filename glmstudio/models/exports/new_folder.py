"""A folder that is there whole or not at all: written under another name, and renamed once it is done."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.paths import paths
from glmstudio.system.portable.locks import taken


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """The place to write in, which becomes `target` at the end; after an exception nothing is left of it.

    What a process that was killed left there goes at the next try. Raises StudioError where the folder exists, where
    somebody else is writing it, and where it cannot be written.
    """
    refuse_existing(target)
    part = target.with_name(f".{target.name}.part")
    with _alone(target):
        shutil.rmtree(part, ignore_errors=True)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            yield part
            for file in part.rglob("*"):
                if file.is_file():
                    file.chmod(0o644)  # some writers make it the owner's alone
            refuse_existing(target)  # somebody made it meanwhile
            part.rename(target)
        except OSError as error:
            raise StudioError("runs.no_folder", folder=str(target), reason=error.strerror or str(error)) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)


def exports_folder() -> Path:
    """Where the page puts exports."""
    return paths().home / "exports"


def free_folder(name: str, form: str, step: int | None = None) -> Path:
    """A folder there for a new export of the run or model of that name, or of a run's checkpoint."""
    base = f"{name}-{form}" + (f"-step{step}" if step is not None else "")
    folder, number = exports_folder() / base, 2
    while folder.exists():
        folder, number = exports_folder() / f"{base}-{number}", number + 1
    return folder


def absolute(target: Path) -> Path:
    """The folder that a person named, with `~` and without `..`."""
    return Path(os.path.abspath(target.expanduser()))  # noqa: PTH100  links stay as they are


def refuse_existing(target: Path) -> None:
    """Raise StudioError where there is something of that name."""
    if os.path.lexists(target):
        raise StudioError("runs.target_exists", folder=str(target))


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    name = hashlib.sha256(str(target).encode("utf-8", "surrogateescape")).hexdigest()[:20]
    folder = paths().state / "exports"
    folder.mkdir(parents=True, exist_ok=True)
    lock = taken(folder / f"{name}.lock")
    if lock is None:
        raise StudioError("exports.busy", folder=str(target))
    try:
        yield
    finally:
        lock.release()
