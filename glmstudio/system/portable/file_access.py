"""Bytes at their places in an open file, and files that take the place of others, on every system."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

BINARY = getattr(os, "O_BINARY", 0)  # Windows changes the ends of lines without it
NO_LINKS = getattr(os, "O_NOFOLLOW", 0)
DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_SEEK = threading.Lock()
_PATIENCE_S, _PACE_S = 1.0, 0.01


def write_at(handle: int, data: memoryview, offset: int) -> None:
    """Put all the bytes to their place. Raises OSError."""
    while data:
        if hasattr(os, "pwrite"):
            written = os.pwrite(handle, data, offset)
        else:
            with _SEEK:
                os.lseek(handle, offset, os.SEEK_SET)
                written = os.write(handle, data)
        data, offset = data[written:], offset + written


def read_at(handle: int, size: int, offset: int) -> bytes:
    """So many bytes from their place, fewer at the end of the file. Raises OSError."""
    if hasattr(os, "pread"):
        return os.pread(handle, size, offset)
    with _SEEK:
        os.lseek(handle, offset, os.SEEK_SET)
        return os.read(handle, size)


def read_into(handle: int, buffer: memoryview, offset: int) -> int:
    """Fill the buffer from that place; returns how many bytes there were. Raises OSError."""
    if hasattr(os, "preadv"):
        return os.preadv(handle, [buffer], offset)
    data = read_at(handle, len(buffer), offset)
    buffer[: len(data)] = data
    return len(data)


def drop_from_memory(handle: int, offset: int = 0, size: int = 0) -> None:
    """Let the system forget these bytes (0: all), which lie on the disk, and write out those that do not yet."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(handle, offset, size, os.POSIX_FADV_DONTNEED)


def is_in_memory(handle: int, offset: int) -> bool | None:
    """Whether the system still has what lies there, so that no disk is asked; None where it does not tell."""
    try:
        return os.preadv(handle, [bytearray(4096)], offset, os.RWF_NOWAIT) > 0
    except BlockingIOError:
        return False
    except (AttributeError, OSError):
        return None


def replace(source: Path, target: Path) -> None:
    """`os.replace`, waiting on Windows for whoever reads the target at this moment. Raises OSError."""
    end = time.monotonic() + (_PATIENCE_S if os.name == "nt" else 0.0)
    while True:
        try:
            os.replace(source, target)
        except PermissionError:
            if time.monotonic() >= end:
                raise
            time.sleep(_PACE_S)
        else:
            return
