"""Waiting for what happens elsewhere, and an end for what would never end: however busy the machine is."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def until(condition: Callable[[], Any], seconds: float = 90, why: Any = "the condition never came true") -> Any:
    """What `condition` gives as soon as it holds; after `seconds` the test fails with `why`, or with what `why()` says."""
    end, pause = time.monotonic() + seconds, 0.01
    while not (found := condition()):
        assert time.monotonic() < end, why() if callable(why) else why
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
    return found


@contextmanager
def not_for_ever(seconds: float = 30) -> Iterator[None]:
    """Fails what computes for hours where it should take a moment: after so many seconds of the processor's."""

    def late(*_: object) -> None:
        raise AssertionError(f"it still computes after {seconds} s")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
