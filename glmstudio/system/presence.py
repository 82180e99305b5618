"""Who is at work in a home: the lock that a studio or a model server holds for as long as it lives.

The kernel gives it back however the process ends, so whoever holds one is alive and ours, whatever its variables say.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from glmstudio.files import read_table
from glmstudio.paths import paths
from glmstudio.system.locks import try_lock
from glmstudio.system.process import Identity, alive

STUDIO, SERVER = "studio.lock", "serve.lock"
_PAGE, _MODEL = (
    "studio.json",
    "server.json",
)  # who they are and where, written by `ui.shell.instance` and `chat.model_server`


def hold(name: str, *, shared: bool = False) -> IO[str] | None:
    """The open lock of this home, held until it is closed; None where another process has it. Raises OSError.

    Several hold a `shared` one. On a file system without locks everybody gets the file.
    """
    file = (paths().state / name).open("a", encoding="utf-8")
    try:
        mine = try_lock(file, shared=shared)
    except OSError:
        return file
    if not mine:
        file.close()
    return file if mine else None


@contextlib.contextmanager
def serving() -> Iterator[None]:
    """Be known as a model server of this home meanwhile, one of several; where nothing can be written, as none."""
    file = None
    with contextlib.suppress(OSError):
        file = hold(SERVER, shared=True)
    with file or contextlib.nullcontext():
        yield


def is_held_by(pid: int) -> bool:
    """Whether this process of ours has the lock of a home, of whichever one; only Linux tells."""
    return any(_is_locked(pid, number) or _is_recorded(pid, lock) for number, lock in _open_locks(pid))


def _open_locks(pid: int) -> list[tuple[str, Path]]:
    """The locks that it has open, by their handles."""
    found = []
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208
            file = os.readlink(f"/proc/{pid}/fd/{number}")  # noqa: PTH115
            if file.endswith(tuple(f"/state/{name}" for name in (STUDIO, SERVER))):
                found.append((number, Path(file)))
    except OSError:  # it has ended, or closed one meanwhile
        return found
    return found


def _is_locked(pid: int, number: str) -> bool:
    try:
        told = Path(f"/proc/{pid}/fdinfo/{number}").read_text(encoding="ascii")
    except (OSError, ValueError):
        return False
    return any(line.startswith("lock:") and " FLOCK " in line for line in told.splitlines())


def _is_recorded(pid: int, lock: Path) -> bool:
    """Whether the record beside the lock names it: there are file systems without locks."""
    known = Identity.from_json(read_table(lock.with_name(_PAGE)).get("identity"))
    return lock.name == STUDIO and known is not None and known.pid == pid and alive(known)


def ports() -> frozenset[int]:
    """Where this home's page and its model server listen now."""
    told = [read_table(paths().state / name) for name in (_PAGE, _MODEL)]
    living = (each.get("port") for each in told if alive(Identity.from_json(each.get("identity"))))
    return frozenset(port for port in living if type(port) is int and 0 < port < 1 << 16)
