"""The check-up: one at a time, in the background, shared by every open page."""

from __future__ import annotations

import logging
import threading
import time

from glmstudio.doctor import EndResult, Gpu, Report, diagnose, end_stale

log = logging.getLogger(__name__)

FRESH_S = 30.0
CARDS_S = 3.0


class Checkup:
    """The latest report of this process, made in the background by one check-up at a time."""

    def __init__(self) -> None:
        self.report: Report | None = None
        self.failed = False
        self.running = False
        self.ended: list[EndResult] = []
        self._gpus: tuple[Gpu, ...] = ()
        self._lock = threading.Lock()
        self._finished = 0.0
        self._looked = 0.0

    def start(self, *, unless_fresh: bool = False) -> None:
        """Begin a check-up, unless one runs (or the last one is only seconds old)."""
        with self._lock:
            fresh = self.report is not None and time.monotonic() - self._finished < FRESH_S
            if self.running or (unless_fresh and fresh):
                return
            self.running = True
        threading.Thread(target=self._run, daemon=True, name="check-up").start()

    def gpus(self) -> tuple[Gpu, ...]:
        """The GPUs as they were a moment ago; where there are any, asking begins the next look."""
        if self.report is None or not self.report.gpus:
            return ()
        with self._lock:
            due = not self.running and time.monotonic() - self._looked > CARDS_S
            if due:
                self._looked = time.monotonic()
        if due:
            threading.Thread(target=self._look, daemon=True, name="gpu-look").start()
        return self._gpus or self.report.gpus

    def _look(self) -> None:
        self._gpus = diagnose(only=("gpu",)).gpus

    def end(self, tokens: list[str]) -> None:
        """End the processes behind these tokens, then look again."""
        with self._lock:
            if self.running:
                return
            self.running = True
        threading.Thread(target=self._end, args=(tokens,), daemon=True, name="end-stale").start()

    def _end(self, tokens: list[str]) -> None:
        try:
            self.ended = list(end_stale(tokens))
        finally:
            self._run()

    def _run(self) -> None:
        try:
            self.report = diagnose()
            self._gpus, self._looked = self.report.gpus, time.monotonic()
            self.failed = False
        except Exception:
            # The page must say that the check-up broke rather than show a spinner for ever.
            log.exception("The check-up broke")
            self.failed = True
        finally:
            self._finished = time.monotonic()
            self.running = False


CHECKUP = Checkup()
