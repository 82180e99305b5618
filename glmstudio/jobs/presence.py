"""Who is at work in a home: the lock that a studio or a model server holds for as long as it lives.

The kernel gives it back however the process ends, so whoever holds one is alive and ours, whatever its variables say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from glmstudio.files import read_table
from glmstudio.paths import paths
from glmstudio.system.portable.locks import try_lock
from glmstudio.system.portable.open_files import has_locked, open_files
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
    names = tuple(f"/state/{name}" for name in (STUDIO, SERVER))
    locks = {handle: Path(file) for handle, file in open_files(pid).items() if file.endswith(names)}
    return any(has_locked(pid, handle) or _is_recorded(pid, lock) for handle, lock in locks.items())


def _is_recorded(pid: int, lock: Path) -> bool:
    """Whether the record beside the lock names it: there are file systems without locks."""
    known = Identity.from_json(read_table(lock.with_name(_PAGE)).get("identity"))
    return lock.name == STUDIO and known is not None and known.pid == pid and alive(known)


def ports() -> frozenset[int]:
    """Where this home's page and its model server listen now."""
    told = [read_table(paths().state / name) for name in (_PAGE, _MODEL)]
    living = (each.get("port") for each in told if alive(Identity.from_json(each.get("identity"))))
    return frozenset(port for port in living if type(port) is int and 0 < port < 1 << 16)
