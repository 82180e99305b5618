"""One studio for each home folder: which one runs, and how to verify that it does."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from glmstudio import __version__
from glmstudio.access.door import cookie
from glmstudio.errors import StudioError
from glmstudio.files import read_table, write_json
from glmstudio.jobs.presence import STUDIO, hold
from glmstudio.paths import make_home, paths
from glmstudio.system.process import Identity, alive, identify

STARTING_S = 20.0
_LOOK_S = 1.0


def health() -> dict[str, Any]:
    """What `/health` answers the owner: enough to tell this studio from any other program on its port."""
    return {"studio": "glmstudio", "version": __version__, "home": str(paths().home), "pid": os.getpid()}


@dataclass(frozen=True)
class Running:
    """A studio that answers, and the key to its page."""

    port: int
    key: str


def running() -> Running | None:
    """The studio that serves this home, if one is alive and answers for it."""
    record = read_table(_record())
    port, key = record.get("port"), record.get("token")
    if not isinstance(port, int) or not isinstance(key, str):
        return None
    try:
        identity = Identity.from_json(record["identity"])
    except (KeyError, TypeError, ValueError):
        return None
    return Running(port, key) if alive(identity) and answers(port, key) else None


def answers(port: int, key: str) -> bool:
    """Whether a studio with this home and key listens on `port`."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/health", headers={"Cookie": cookie(key)})
    try:
        with direct.open(asked, timeout=2) as reply:
            found = json.loads(reply.read(4096))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("studio") == "glmstudio" and found.get("home") == str(paths().home)


@dataclass
class Claim:
    """The lock of this home; it ends with the process that holds it."""

    file: IO[str]
    over: threading.Event = field(default_factory=threading.Event)

    def announce(self, port: int, key: str) -> None:
        """Record where this studio is for a second start, also after the record was deleted."""
        me = identify(os.getpid())
        told = {"port": port, "token": key, "identity": me.to_json() if me else None}
        write_json(_record(), told)
        threading.Thread(target=self._keep, args=(told,), daemon=True, name="record").start()

    def release(self) -> None:
        """Release the lock."""
        self.over.set()
        if (read_table(_record()).get("identity") or {}).get("pid") == os.getpid():
            _record().unlink(missing_ok=True)
        self.file.close()

    def _keep(self, told: dict[str, Any]) -> None:
        while not self.over.wait(_LOOK_S):
            with contextlib.suppress(OSError):  # a home that is gone is not made again
                if not _record().exists():
                    write_json(_record(), told, parents=False)


def claim() -> Claim | Running:
    """The claim on this home, or the studio that already has it. Raises StudioError where that does not answer."""
    make_home()
    deadline = time.monotonic() + STARTING_S
    while True:
        if found := running():
            return found
        if file := _lock():
            return Claim(file)
        if time.monotonic() > deadline:
            raise StudioError("ui.home_taken", pid=_holder())
        time.sleep(0.1)


def _lock() -> IO[str] | None:
    """The lock's file with our process number in it; None where another process has it."""
    file = hold(STUDIO)
    if file is not None:
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
    return file


def _holder() -> str:
    try:
        return (paths().state / STUDIO).read_text(encoding="utf-8")[:20].strip() or "?"
    except (OSError, ValueError):
        return "?"


def _record() -> Path:
    return paths().state / "studio.json"
