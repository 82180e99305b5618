"""Things that take a while and belong to a run or a place of the page: an export, a score, the size on the disk."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from glmstudio.errors import StudioError

log = logging.getLogger(__name__)


@dataclass
class BackgroundTask:
    """One of them: how far it is, and what came of it."""

    running: bool = True
    done: int = 0
    total: int = 0
    result: Any = None
    problem: StudioError | None = None
    cancel: threading.Event = field(default_factory=threading.Event)

    def moved(self, done: int, total: int) -> None:
        """So much is done."""
        self.done, self.total = done, total


class BackgroundTasks:
    """The last task of each kind for each owner, shared by every open page."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], BackgroundTask] = {}
        self._lock = threading.Lock()

    def get(self, owner: str, kind: str) -> BackgroundTask | None:
        """The last one; None where there was none."""
        return self._known.get((owner, kind))

    def start(self, owner: str, kind: str, do: Callable[[BackgroundTask], Any]) -> None:
        """Do something in the background; a second click while it is done changes nothing."""
        with self._lock:
            last = self._known.get((owner, kind))
            if last is not None and last.running:
                return
            task = self._known[owner, kind] = BackgroundTask()
        threading.Thread(target=self._do, args=(task, do), daemon=True, name=f"{kind}-{owner}").start()

    def stop(self, owner: str, kind: str) -> None:
        """Ask the last one to end; what it has until then is its result."""
        if (task := self._known.get((owner, kind))) is not None:
            task.cancel.set()

    def _do(self, task: BackgroundTask, do: Callable[[BackgroundTask], Any]) -> None:
        try:
            task.result = do(task)
        except StudioError as error:
            task.problem = error
        except Exception:
            # Whatever broke, the page must not say "at work" for ever.
            log.exception("A background task broke")
            task.problem = StudioError("ui.broken")
        finally:
            task.running = False


TASKS = BackgroundTasks()
