"""One studio a home folder: who is running, and the proof that it is."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from glmstudio import __version__
from glmstudio.files import read_json, write_json
from glmstudio.paths import paths
from glmstudio.process import Identity, alive, identify

try:
    import fcntl
except ImportError:  # Windows has no flock; there the answer of /health alone decides
    fcntl = None  # type: ignore[assignment]

STARTING_S = 20.0


def health() -> dict[str, Any]:
    """What `/health` answers: enough to tell this studio from any other program on its port."""
    return {"studio": "glmstudio", "version": __version__, "home": str(paths().home), "pid": os.getpid()}


def running_port() -> int | None:
    """The port of the studio that serves this home, if one is alive and answers for it."""
    record = read_json(_record())
    if not isinstance(record, dict) or not isinstance(record.get("port"), int):
        return None
    try:
        identity = Identity.from_json(record["identity"])
    except (KeyError, TypeError, ValueError):
        return None
    return record["port"] if alive(identity) and answers(record["port"]) else None


def answers(port: int) -> bool:
    """Whether a studio with this home listens on `port`."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"http://127.0.0.1:{port}/health", timeout=2) as reply:
            found = json.loads(reply.read(4096))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("studio") == "glmstudio" and found.get("home") == str(paths().home)


@dataclass
class Claim:
    """The right to be the studio of this home; it ends with the process that holds it."""

    file: IO[str] | None

    def announce(self, port: int) -> None:
        """Tell a second start where this one is."""
        me = identify(os.getpid())
        write_json(_record(), {"port": port, "identity": me.to_json() if me else None})

    def release(self) -> None:
        """Let the next start be the studio."""
        record = read_json(_record(), {})
        if isinstance(record, dict) and (record.get("identity") or {}).get("pid") == os.getpid():
            _record().unlink(missing_ok=True)
        if self.file:
            self.file.close()


def claim() -> Claim | int:
    """The claim on this home, or the port of the studio that already has it."""
    if port := running_port():
        return port
    file = _lock()
    if file is None:
        deadline = time.monotonic() + STARTING_S
        while time.monotonic() < deadline:
            if port := running_port():
                return port
            if file := _lock():
                break
            time.sleep(0.1)
    return Claim(file)


def _lock() -> IO[str] | None:
    path = paths().state / "studio.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a", encoding="utf-8")
    if fcntl is None:
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:  # a file system without locks
        return file
    return file


def _record() -> Path:
    return paths().state / "studio.json"
