"""Work in a child process that outlives the page and the studio. All that is known of it lies in its folder:

job.json       who does it, and what was asked for    (whoever starts it)
status.json    how far it is, and how it ended        (the child; empty at the start)
log.txt        what the child printed
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmstudio import untrusted
from glmstudio.errors import StudioError, refused
from glmstudio.files import read_table, write_json
from glmstudio.system.portable.locks import alone
from glmstudio.system.portable.signals import KILL, TERMINATE
from glmstudio.system.process import Identity, alive, identify, send, spawn

_BIRTH_S = 10.0
_GRACE_S = 5.0


@dataclass(frozen=True)
class BackgroundJob:
    """The job of one folder; one at a time."""

    folder: Path

    @property
    def asked(self) -> dict[str, Any]:
        """What was asked for; empty where nothing ever was."""
        return read_table(self.folder / "job.json")

    @property
    def status(self) -> dict[str, Any]:
        """What the child told last."""
        return read_table(self.folder / "status.json")

    @property
    def log(self) -> Path:
        """What the child printed."""
        return self.folder / "log.txt"

    def start(self, module: str, *arguments: str, **asked: Any) -> bool:
        """Begin it, unless it is going on (False). Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with alone(self.folder):
            if self.at_work():
                return False
            self.launch(module, *arguments, **asked)
        return True

    def launch(self, module: str, *arguments: str, status: dict[str, Any] | None = None, **asked: Any) -> None:
        """Begin it; for whoever has the folder's lock and has looked whether it is going on."""
        run_id = os.urandom(16).hex()
        about = asked | {"run_id": run_id, "created": time.time()}
        self.tell(status or {})
        write_json(self.folder / "job.json", about)
        with self.log.open("wb") as log:
            child = spawn([sys.executable, "-m", module, *arguments], log, run_id)
        identity = identify(child.pid)
        write_json(self.folder / "job.json", about | {"identity": identity.to_json() if identity else None})

    def tell(self, status: dict[str, Any]) -> None:
        """Write down how far it is, or how it ended."""
        write_json(self.folder / "status.json", status)

    def look(self) -> tuple[bool, dict[str, Any]]:
        """Whether somebody is at it, and the status: read last, for it may end between the two looks."""
        return self.at_work(), self.status

    def at_work(self) -> bool:
        """Whether somebody is at it."""
        asked = self.asked
        identity = self._identity(asked)
        if asked and identity is None:  # it is being started right now, unless whoever started it was killed in between
            return time.time() - untrusted.number(asked.get("created")) < _BIRTH_S
        return alive(identity)

    def end(self, *, kill: bool = True) -> None:
        """End its process, at once where it does not leave by itself; returns when it is gone. Without `kill` it is
        only asked to leave."""
        identity = self._identity(self.asked)
        for number in (TERMINATE, KILL) if kill else (TERMINATE,):
            if identity is not None and send(identity, number) and kill:
                end = time.monotonic() + _GRACE_S
                while alive(identity) and time.monotonic() < end:
                    time.sleep(0.05)

    def _identity(self, asked: dict[str, Any]) -> Identity | None:
        """Who does it: whoever started it wrote that down, and the child itself may have."""
        return Identity.from_json(asked.get("identity")) or Identity.from_json(self.status.get("identity"))


def carry_out(
    do: Callable[[], object], failed: Callable[[StudioError], None], broken: Callable[[str], StudioError]
) -> int:
    """Do the child's work; `failed` is told what stopped it, `broken` puts what nobody expected in words. Returns the
    exit status."""
    try:
        do()
    except StudioError as problem:
        failed(problem)
        return 1
    except OSError as error:
        failed(refused(error))
        return 1
    except Exception as error:
        failed(broken(f"{type(error).__name__}: {error}"))
        raise  # for the log
    return 0
