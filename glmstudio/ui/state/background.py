"""Things that take a while and belong to a run: an export, an answer of base and tuned model, the size on the disk."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from glmstudio.errors import StudioError

log = logging.getLogger(__name__)


@dataclass
class BackgroundTask:
    """One of them: at work, or what came of it."""

    running: bool = True
    result: Any = None
    problem: StudioError | None = None


class BackgroundTasks:
    """The last errand of each kind for each run, shared by every open page."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], BackgroundTask] = {}
        self._lock = threading.Lock()

    def get(self, run: str, kind: str) -> BackgroundTask | None:
        """The last one; None where there was none."""
        return self._known.get((run, kind))

    def start(self, run: str, kind: str, do: Callable[[], Any]) -> None:
        """Do something in the background; a second click while it is done changes nothing."""
        with self._lock:
            last = self._known.get((run, kind))
            if last is not None and last.running:
                return
            errand = self._known[run, kind] = BackgroundTask()
        threading.Thread(target=self._do, args=(errand, do), daemon=True, name=f"{kind}-{run}").start()

    def _do(self, errand: BackgroundTask, do: Callable[[], Any]) -> None:
        try:
            errand.result = do()
        except StudioError as error:
            errand.problem = error
        except Exception:
            # Whatever broke, the page must not say "at work" for ever.
            log.exception("An errand broke")
            errand.problem = StudioError("ui.broken")
        finally:
            errand.running = False


ERRANDS = BackgroundTasks()
