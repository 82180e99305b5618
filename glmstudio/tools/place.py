"""The temporary folder of one call: how full it is, and that nothing of it stays, whatever a tool put there."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "glmstudio-tool-"


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """A new empty folder, gone afterwards. Raises OSError where none can be made."""
    made = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        yield made
    finally:
        _remove(made)


def is_full(folder: Path, most: int, files: int) -> bool:
    """Whether it holds more than so many bytes or so many files. Looks at no more than that many."""
    size = count = 0
    waiting = [folder]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for each in entries:
                count += 1
                if each.is_dir(follow_symlinks=False):
                    waiting.append(Path(each.path))
                else:
                    size += each.stat(follow_symlinks=False).st_blocks * 512
                if size > most or count > files:
                    return True
    return False


def _remove(folder: Path) -> None:
    # Folders in folders may be more than Python can descend, or a path can name: they are first laid side by side.
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        with contextlib.suppress(OSError):
            with os.scandir(here) as entries:
                inner = [Path(each.path) for each in entries if each.is_dir(follow_symlinks=False)]
            for each in inner:
                flat = folder / secrets.token_hex(16)
                each.chmod(0o700)
                each.rename(flat)
                waiting.append(flat)
    shutil.rmtree(folder, ignore_errors=True)
