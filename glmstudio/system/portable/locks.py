"""Locks between processes, which the system gives back however their holder ends.

`filelock` keeps two processes from doing a thing at once. A lock that says who is at work (`try_lock`) stays our own:
it may be shared, the doctor reads in /proc who has it, and the set-up takes it before there is any package.
`system/hosts_file.py` has one of its own, because it runs alone, without this package, with an administrator's rights.
"""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

_PACE_S = 0.02
_PATIENCE_S = 0.1  # a lock whose file goes away at this very moment is free
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)  # of the file system


@contextlib.contextmanager
def alone(folder: Path, name: str = "lock") -> Iterator[None]:
    """Whoever works in the folder waits for the others; a thread that has the lock may take it again.

    On a file system without locks everybody gets in. Raises OSError where the lock cannot be made.
    """
    from filelock import FileLock

    lock = FileLock(folder / name, is_singleton=True)
    with _without_locks():
        lock.acquire(poll_interval=_PACE_S)
    try:
        yield
    finally:
        lock.release()


def taken(file: Path) -> BaseFileLock | None:
    """The lock, until it is released; None where another process has it.

    On a file system without locks it is not `is_locked`. Raises OSError where it cannot be made.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(file, thread_local=False)
    try:
        with _without_locks():
            lock.acquire(timeout=_PATIENCE_S, poll_interval=_PACE_S)
    except Timeout:
        return None
    return lock


@contextlib.contextmanager
def _without_locks() -> Iterator[None]:
    try:
        yield
    except NotImplementedError:  # how older filelocks say it
        pass
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


if sys.platform == "win32":
    import msvcrt

    def try_lock(file: IO[str], *, shared: bool = False) -> bool:
        """Take the lock of an open file, until it is closed; False where another process has it."""
        if shared:  # there is no such lock here
            return True
        file.seek(1 << 20)  # beyond the text: a locked byte could not be read by others
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def try_lock(file: IO[str], *, shared: bool = False) -> bool:
        """Take the lock of an open file, until it is closed; False where another process has it.

        Raises OSError where the file system has no locks.
        """
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
