"""The check-up: one at a time, in the background, shared by every open page; and what the doctor is told to mend."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from glmstudio.doctor import EndResult, Finding, Gpu, Report, StaleProcess, diagnose, end_stale
from glmstudio.doctor.engine.audit import entries
from glmstudio.doctor.engine.fixes import FixOffer, apply, offer, undoable
from glmstudio.errors import StudioError
from glmstudio.runs.stop import stop_now

log = logging.getLogger(__name__)

FRESH_S = 30.0
CARDS_S = 3.0
LIST_S = 25.0  # a list of stale processes may be acted on for a minute; it is renewed while somebody reads it


@dataclass(frozen=True)
class Mending:
    """A fix at work, or what became of the last one."""

    offer: FixOffer
    line: str = ""
    problem: StudioError | None = None
    over: bool = False


class Checkup:
    """The latest report of this process, made in the background by one check-up at a time."""

    def __init__(self) -> None:
        self.report: Report | None = None
        self.failed = False
        self.running = False
        self.deep = False
        self.stage = ""
        self.arrived: list[Finding] = []
        self.ended: list[EndResult] = []
        self.offers: dict[str, FixOffer] = {}
        self.changes: list[dict[str, Any]] = []
        self.mending: Mending | None = None
        self._gpus: tuple[Gpu, ...] = ()
        self._lock = threading.Lock()
        self._finished = 0.0
        self._looked = 0.0
        self._listed = 0.0
        self._act: Callable[[], None] | None = None
        self._next: Callable[[], None] | None = None

    def start(self, *, unless_fresh: bool = False, deep: bool = False) -> None:
        """Begin a check-up, unless one runs (or the last one is only seconds old)."""
        fresh = self.report is not None and time.monotonic() - self._finished < FRESH_S
        if not self.running and not (unless_fresh and fresh):
            self._work(None, deep=deep)

    def end(self, tokens: list[str]) -> None:
        """End the processes behind these tokens, then look again."""
        self._work(lambda: self._end(tokens))

    def mend(self, key: str) -> None:
        """Do what was offered under this key, then look again."""
        if chosen := self.offers.get(key):
            self._work(lambda: self._mend(chosen))

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

    def stale(self) -> tuple[StaleProcess, ...]:
        """The stale processes, listed anew from time to time as long as there are any."""
        if self.report is None or not self.report.stale:
            return ()
        with self._lock:
            due = not self.running and time.monotonic() - self._listed > LIST_S
            if due:
                self._listed = time.monotonic()
        if due:
            threading.Thread(target=self._list, daemon=True, name="stale-list").start()
        return self.report.stale

    def _list(self) -> None:
        stale = diagnose(only=("proc.stale",)).stale
        if self.report is not None and not self.running:
            self.report = replace(self.report, stale=stale)

    def _end(self, tokens: list[str]) -> None:
        try:
            self.ended = list(end_stale(tokens, tell=lambda stage: setattr(self, "stage", stage), stop_run=stop_now))
        finally:
            self.stage = ""

    def _look(self) -> None:
        self._gpus = diagnose(only=("gpu.driver",)).gpus

    def _mend(self, chosen: FixOffer) -> None:
        self.mending = Mending(chosen)
        problem = None
        try:
            apply(chosen, lambda line: setattr(self, "mending", Mending(chosen, line)))
        except StudioError as error:
            problem = error
        self.mending = Mending(chosen, problem=problem, over=True)

    def _work(self, act: Callable[[], None] | None, *, deep: bool = False) -> None:
        """Do something that may take its time, if anything, and look at the machine afterwards.

        A click during a check-up waits for its end; a second click on what waits or goes on already does nothing.
        """
        with self._lock:
            if self.running:
                self._next = self._next or (None if self._act else act)
                return
            self.running, self.deep, self.arrived, self._act = True, deep, [], act
        threading.Thread(target=self._run, args=(act, deep), daemon=True, name="check-up").start()

    def _run(self, act: Callable[[], None] | None, deep: bool) -> None:
        try:
            if act:
                act()
            self._act = None
            self.report = diagnose(deep=deep, tell=self.arrived.extend)
            self._gpus, self._looked, self._listed = self.report.gpus, time.monotonic(), time.monotonic()
            found = {result.key: made for result in self.report.findings if (made := offer(result))}
            self.offers = found | {f"undo-{made.subject}": made for made in undoable()}
            self.changes = entries()
            self.failed = False
        except Exception:
            # The page must say that the check-up broke rather than show a spinner for ever.
            log.exception("The check-up broke")
            self.failed = True
            if self.mending and not self.mending.over:
                self.mending = replace(self.mending, problem=StudioError("ui.broken"), over=True)
        finally:
            self._finished = time.monotonic()
            with self._lock:
                self.running, waiting, self._next, self._act = False, self._next, None, None
        if waiting:
            self._work(waiting)


CHECKUP = Checkup()
