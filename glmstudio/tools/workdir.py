"""The temporary folder of one call: how full it is, and that nothing of it stays, whatever a tool put there."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from glmstudio.system.portable.open_files import current_folders, nameless_bytes

PREFIX = "glmstudio-tool-"
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_DEEPEST = 100  # folders in folders
_OLD_S = 600.0  # longer than any call takes


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """A new empty folder, gone afterwards. Raises OSError where none can be made."""
    made = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        yield made
    finally:
        _remove(made)


class _Full(Exception):
    """More than it may hold, or something that cannot be looked at."""


def is_full(folder: Path, most: int, files: int, pid: int | None = None) -> bool:
    """Whether it holds more than so many bytes or so many files, looking at no more than that many; or folders that
    are closed to us or too deep. What the process `pid` holds without a name counts, too."""
    if os.scandir not in os.supports_fd:  # Windows, where only tools run that write nothing
        return False
    try:
        size, _ = _held(os.open(folder, _FOLDER), most, files, 0)
    except _Full:
        return True
    except OSError:
        return folder.exists()
    return size + (nameless_bytes(pid) if pid else 0) > most


def _held(handle: int, most: int, files: int, depth: int) -> tuple[int, int]:
    """Bytes and files below an open folder, by handles: a path can name only so many folders. Raises _Full."""
    size = count = 0
    try:
        with os.scandir(handle) as entries:
            for each in entries:
                count += 1
                if each.is_dir(follow_symlinks=False):
                    if depth == _DEEPEST:
                        raise _Full
                    inner = _held(os.open(each.name, _FOLDER, dir_fd=handle), most - size, files - count, depth + 1)
                    size, count = size + inner[0], count + inner[1]
                else:
                    size += os.stat(each.name, dir_fd=handle, follow_symlinks=False).st_blocks * 512
                if size > most or count > files:
                    raise _Full
    except FileNotFoundError:  # it went away while it was looked at
        pass
    except OSError as error:
        raise _Full from error
    finally:
        os.close(handle)
    return size, count


def sweep() -> None:
    """Delete what calls left behind whose studio was killed: folders of this user that no process stands in."""
    standing, own = current_folders(), os.getuid() if hasattr(os, "getuid") else 0
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            state = folder.lstat()
            old = time.time() - state.st_mtime > _OLD_S
            if stat.S_ISDIR(state.st_mode) and state.st_uid == own and old and str(folder) not in standing:
                _remove(folder)


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
