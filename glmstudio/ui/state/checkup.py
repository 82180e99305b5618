"""The check-up: one at a time, in the background, shared by every open page; and what the doctor is told to fix."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from glmstudio.doctor import EndResult, Finding, Gpu, Report, StaleProcess, diagnose, end_stale
from glmstudio.doctor.engine.audit import entries
from glmstudio.doctor.fixes.fixes import FixOffer, apply, offer, undoable
from glmstudio.errors import StudioError
from glmstudio.runs.stop import stop_now

log = logging.getLogger(__name__)

FRESH_S = 30.0
GPUS_S = 3.0
STALE_S = 25.0  # a list of stale processes may be acted on for a minute; it is renewed while somebody reads it

Act = Callable[[], None]


@dataclass(frozen=True)
class FixProgress:
    """A fix at work, or what became of the last one."""

    offer: FixOffer
    line: str = ""
    problem: StudioError | None = None
    over: bool = False


@dataclass(frozen=True)
class CheckupState:
    """What is known of the machine, and what is being done about it."""

    report: Report | None = None
    gpus: tuple[Gpu, ...] = ()  # as they were a moment ago
    offers: Mapping[str, FixOffer] = field(default_factory=dict)
    changes: Sequence[dict[str, Any]] = ()
    failed: bool = False
    finished: float = 0.0
    looked: Mapping[str, float] = field(default_factory=dict)  # when the GPUs and the stale processes were, by name
    running: bool = False
    deep: bool = False
    arrived: tuple[Finding, ...] = ()  # of the check-up that runs
    stage: str = ""  # of ending processes
    ended: Sequence[EndResult] = ()
    fix: FixProgress | None = None
    acting: bool = False  # whether something is being done before the check-up
    waiting: Act | None = None  # what is done after it


class Checkup:
    """The latest report of this process, made in the background by one check-up at a time.

    Threads never change the state but put a new one in its place, so that whoever draws it sees one moment.
    """

    def __init__(self) -> None:
        self.state = CheckupState()
        self._lock = threading.Lock()

    def start(self, *, unless_fresh: bool = False, deep: bool = False) -> None:
        """Begin a check-up, unless one runs (or the last one is only seconds old)."""
        state = self.state
        fresh = state.report is not None and time.monotonic() - state.finished < FRESH_S
        if not (unless_fresh and fresh):
            self._work(None, deep=deep)

    def clear(self) -> None:
        """Forget the result of the last fix and of the processes that were ended."""
        self._put(ended=(), fix=None)

    def end(self, tokens: list[str]) -> None:
        """End the processes behind these tokens, then look again."""
        self._work(lambda: self._end(tokens))

    def fix(self, key: str) -> None:
        """Do what was offered under this key, then look again."""
        if chosen := self.state.offers.get(key):
            self._work(lambda: self._fix(chosen))

    def gpus(self) -> tuple[Gpu, ...]:
        """The GPUs as they were a moment ago; where there are any, asking begins the next look."""
        report = self.state.report
        if report is None or not report.gpus:
            return ()
        self._renew("gpus", GPUS_S, lambda: self._put(gpus=diagnose(only=("gpu.driver",)).gpus))
        return self.state.gpus

    def stale(self) -> tuple[StaleProcess, ...]:
        """The stale processes, listed anew from time to time as long as there are any."""
        report = self.state.report
        if report is None or not report.stale:
            return ()
        self._renew("stale", STALE_S, self._list)
        return report.stale

    def _put(self, **changes: Any) -> None:
        with self._lock:
            self.state = replace(self.state, **changes)

    def _renew(self, name: str, every: float, look: Act) -> None:
        """Look again in the background, where the last look is old and no check-up runs."""
        with self._lock:
            state, now = self.state, time.monotonic()
            if state.running or now - state.looked.get(name, 0.0) <= every:
                return
            self.state = replace(state, looked={**state.looked, name: now})
        threading.Thread(target=look, daemon=True, name=f"look-{name}").start()

    def _list(self) -> None:
        stale = diagnose(only=("proc.stale",)).stale
        with self._lock:
            if self.state.report is not None and not self.state.running:
                self.state = replace(self.state, report=replace(self.state.report, stale=stale))

    def _end(self, tokens: list[str]) -> None:
        try:
            self._put(ended=end_stale(tokens, tell=lambda stage: self._put(stage=stage), stop_run=stop_now))
        finally:
            self._put(stage="")

    def _fix(self, chosen: FixOffer) -> None:
        self._put(fix=FixProgress(chosen))
        problem = None
        try:
            apply(chosen, lambda line: self._put(fix=FixProgress(chosen, line)))
        except StudioError as error:
            problem = error
        self._put(fix=FixProgress(chosen, problem=problem, over=True))

    def _work(self, act: Act | None, *, deep: bool = False) -> None:
        """Do something that may take its time, if anything, and look at the machine afterwards.

        A click during a check-up waits for its end; a second click on what waits or goes on already does nothing.
        """
        with self._lock:
            state = self.state
            if state.running:
                waiting = state.waiting or (None if state.acting else act)
                self.state = replace(state, waiting=waiting)
                return
            self.state = replace(state, running=True, deep=deep, arrived=(), acting=act is not None)
        threading.Thread(target=self._run, args=(act, deep), daemon=True, name="check-up").start()

    def _run(self, act: Act | None, deep: bool) -> None:
        try:
            if act:
                act()
            self._put(acting=False)
            self._look(deep)
        except Exception:
            # The page must say that the check-up broke rather than show a spinner for ever.
            log.exception("The check-up broke")
            last = self.state.fix
            broken = replace(last, problem=StudioError("ui.broken"), over=True) if last and not last.over else last
            self._put(failed=True, fix=broken)
        with self._lock:
            waiting = self.state.waiting
            self.state = replace(self.state, running=False, acting=False, waiting=None, finished=time.monotonic())
        if waiting:
            self._work(waiting)

    def _look(self, deep: bool) -> None:
        report = diagnose(deep=deep, tell=self._arrive)
        offers = {result.key: made for result in report.findings if (made := offer(result))}
        offers |= {f"undo-{made.subject}": made for made in undoable()}
        looked = dict.fromkeys(("gpus", "stale"), time.monotonic())
        self._put(report=report, gpus=report.gpus, offers=offers, changes=entries(), looked=looked, failed=False)

    def _arrive(self, results: list[Finding]) -> None:
        with self._lock:
            self.state = replace(self.state, arrived=(*self.state.arrived, *results))


CHECKUP = Checkup()
