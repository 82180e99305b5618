"""vLLM's server as a child of the studio's: started, waited for, and ended with all its workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from glmstudio.access.api_key import new_key
from glmstudio.chat.vllm.installation import PYTHONS_OWN
from glmstudio.chat.vllm.launch import VllmLaunch
from glmstudio.errors import StudioError
from glmstudio.paths import paths
from glmstudio.system import process
from glmstudio.system.die_with_parent import on_leash
from glmstudio.system.portable.signals import KILL

_PATIENCE = 3600.0  # seconds: a large model from a slow disk, compiled for the first time
_GRACE = 8.0  # less than the studio waits for this process itself


@dataclass(frozen=True)
class VllmServer:
    """One that answers: at which socket, with which key, and its process."""

    socket: Path
    key: str
    child: subprocess.Popen[bytes]

    def when_gone(self, do: Callable[[], None]) -> None:
        """Call `do` once it has ended."""

        def watch() -> None:
            self.child.wait()
            do()

        threading.Thread(target=watch, daemon=True, name="vllm").start()

    def ended(self) -> StudioError:
        """The error once it has ended unasked."""
        return _ended(self.child)


@contextmanager
def running(launch: VllmLaunch) -> Iterator[VllmServer]:
    """The server, once it answers; afterwards it and all its workers are gone. Raises StudioError."""
    key = new_key()
    with tempfile.TemporaryDirectory(prefix="glmstudio-") as folder:  # closed to other users
        socket = Path(folder) / "vllm.sock"
        own = {name: value for name, value in os.environ.items() if name not in PYTHONS_OWN}
        child = subprocess.Popen(
            on_leash(launch.command(socket), gently=True),  # killed, it would leave its workers behind
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            stderr=sys.stderr,
            env=own | launch.variables(key),
            start_new_session=True,
            cwd=folder,  # a Python finds the modules of the folder in which it is started
        )
        try:
            _wait(child, socket)
            yield VllmServer(socket, key, child)
        finally:
            _end(child)


def _wait(child: subprocess.Popen[bytes], socket: Path) -> None:
    end = time.monotonic() + _PATIENCE
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), timeout=5) as client:
        while child.poll() is None:
            try:
                if client.get("http://vllm/health").status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            if time.monotonic() > end:
                raise StudioError("chat.server_slow", seconds=round(_PATIENCE))
            time.sleep(0.2)
    raise _ended(child)


def _ended(child: subprocess.Popen[bytes]) -> StudioError:
    return StudioError("chat.vllm.ended", code=child.returncode, log=str(paths().state / "server.log"))


def _end(child: subprocess.Popen[bytes]) -> None:
    """End it and whatever it started: asked first, as its workers have memory of GPUs to give back. They are found by
    their session: where it ended before them, nothing else says whose they are."""
    end = time.monotonic() + _GRACE
    child.send_signal(signal.SIGTERM)
    while (left := process.in_session(child.pid)) and time.monotonic() < end:
        child.poll()  # until it is collected, its number stays
        time.sleep(0.05)
    for each in left:
        process.send(each, KILL)
    child.wait()
