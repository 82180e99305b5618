"""A cache with a time limit for what many parts of the page read from the disk each second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_MAX_ENTRIES = 20
_clear: list[Callable[[], None]] = []


def cached(seconds: float, key: Callable[..., Hashable] = lambda: None) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Remember what a function returned for each `key` of its arguments, for so long or until `clear_caches`."""

    def decorate(look: Callable[P, T]) -> Callable[P, T]:
        lock = threading.Lock()
        kept: dict[Hashable, tuple[float, T]] = {}

        @wraps(look)
        def looked(*args: P.args, **kwargs: P.kwargs) -> T:
            name = key(*args, **kwargs)
            with lock:
                if name not in kept or time.monotonic() - kept[name][0] > seconds:
                    if len(kept) > _MAX_ENTRIES:
                        kept.clear()
                    kept[name] = (time.monotonic(), look(*args, **kwargs))
                return kept[name][1]

        def clear() -> None:
            with lock:
                kept.clear()

        on_clear(clear)
        return looked

    return decorate


def on_clear(clear: Callable[[], None]) -> None:
    """Call `clear`, too, whenever something was just changed."""
    _clear.append(clear)


def clear_caches() -> None:
    """Look again next time: something was just changed."""
    for clear in _clear:
        clear()
