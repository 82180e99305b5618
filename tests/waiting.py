"""Waiting for what happens elsewhere: as long as a busy machine may need, and not a moment longer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def until(condition: Callable[[], Any], seconds: float = 90, why: Any = "the condition never came true") -> Any:
    """What `condition` gives as soon as it holds; after `seconds` the test fails with `why`, or with what `why()` says."""
    end, pause = time.monotonic() + seconds, 0.01
    while not (found := condition()):
        assert time.monotonic() < end, why() if callable(why) else why
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
    return found
