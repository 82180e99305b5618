"""Looks at the disk that many parts of the page share: made once a tick, not once a part."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, TypeVar

A = TypeVar("A")
T = TypeVar("T")
_MOST_KEPT = 20
_forgetters: list[Callable[[], None]] = []


def shared(seconds: float) -> Callable[[Callable[[], T]], Callable[[], T]]:
    """Remember what a function without arguments returned, for so long or until `forget`."""

    def decorate(look: Callable[[], T]) -> Callable[[], T]:
        one: Callable[[None], T] = shared_by(seconds, lambda _: None)(lambda _: look())

        @wraps(look)
        def looked() -> T:
            return one(None)

        return looked

    return decorate


def shared_by(seconds: float, key: Callable[[Any], Hashable]) -> Callable[[Callable[[A], T]], Callable[[A], T]]:
    """The same for a function of one argument, for each `key` of it."""

    def decorate(look: Callable[[A], T]) -> Callable[[A], T]:
        lock = threading.Lock()
        kept: dict[Hashable, tuple[float, T]] = {}

        @wraps(look)
        def looked(given: A) -> T:
            name = key(given)
            with lock:
                if name not in kept or time.monotonic() - kept[name][0] > seconds:
                    if len(kept) > _MOST_KEPT:
                        kept.clear()
                    kept[name] = (time.monotonic(), look(given))
                return kept[name][1]

        def drop() -> None:
            with lock:
                kept.clear()

        on_forget(drop)
        return looked

    return decorate


def on_forget(drop: Callable[[], None]) -> None:
    """Call `drop`, too, whenever something was just changed."""
    _forgetters.append(drop)


def forget() -> None:
    """Look again next time: something was just changed."""
    for drop in _forgetters:
        drop()
