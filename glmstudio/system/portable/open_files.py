"""What Linux tells of processes' files: which are open, which are locked, where a process stands. Nothing elsewhere."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")


def open_files(pid: int) -> dict[int, str]:
    """What its handles lead to, as far as this user may look: paths, or names as `socket:[7]`."""
    found: dict[int, str] = {}
    with contextlib.suppress(OSError), os.scandir(_PROC / str(pid) / "fd") as handles:
        for each in handles:
            with contextlib.suppress(OSError):  # it was closed meanwhile
                found[int(each.name)] = os.readlink(each.path)  # noqa: PTH115  the link may name what is no path
    return found


def all_open_files() -> Iterator[tuple[int, dict[int, str]]]:
    """The open files of each process."""
    for folder in _PROC.glob("[0-9]*"):
        yield int(folder.name), open_files(int(folder.name))


def has_locked(pid: int, handle: int) -> bool:
    """Whether it holds a lock of this open file (`flock`)."""
    try:
        told = (_PROC / str(pid) / "fdinfo" / str(handle)).read_text(encoding="ascii")
    except (OSError, ValueError):
        return False
    return any(line.startswith("lock:") and " FLOCK " in line for line in told.splitlines())


def current_folder(pid: int) -> os.stat_result | None:
    """The folder that it stands in, also one that was deleted; None where nobody tells."""
    place = _PROC / str(pid) / "cwd"
    with contextlib.suppress(OSError):
        if place.exists():
            return place.stat()
        import psutil

        with contextlib.suppress(psutil.Error):
            return Path(psutil.Process(pid).cwd()).stat()
    return None


def current_folders() -> set[str]:
    """The folders that processes stand in."""
    found = set()
    for each in _PROC.glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(each))  # noqa: PTH115
    return found


def thread_count(pid: int) -> int:
    """How many threads it has; 0 where nobody tells."""
    try:
        return (_PROC / str(pid) / "task").stat().st_nlink - 2  # a folder in it for each
    except OSError:
        return 0


def nameless_bytes(pid: int) -> int:
    """Bytes in files that it has open or mapped after their name went."""
    found: dict[tuple[int, int], int] = {}
    with contextlib.suppress(OSError), os.scandir(_PROC / str(pid) / "fd") as handles:
        for each in handles:
            with contextlib.suppress(OSError):
                state = os.stat(each.path)  # noqa: PTH116
                if stat.S_ISREG(state.st_mode) and not state.st_nlink:
                    found[state.st_dev, state.st_ino] = state.st_blocks * 512
    with contextlib.suppress(OSError, ValueError):
        for line in (_PROC / str(pid) / "maps").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.endswith(" (deleted)"):
                span, _, _, device, inode, *_ = line.split()
                major, minor = (int(each, 16) for each in device.split(":"))
                first, last = (int(each, 16) for each in span.split("-"))
                found.setdefault((os.makedev(major, minor), int(inode)), last - first)
    return sum(found.values())


def path_of_handle(handle: int) -> str:
    """Where other processes of this user find a file that this one has open without a name; Linux only."""
    return str(_PROC / str(os.getpid()) / "fd" / str(handle))
