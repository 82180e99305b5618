"""The state of each open page, kept so that two clicks at once do not undo each other."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import gradio as gr

_MOST_VISITS = 200
State = Any  # a frozen dataclass: see `PageRenderer`


class Visitors:
    """The state of each open page, by gradio's session hash.

    gradio hands a handler the state as it was when the click came in and keeps what the handler returns, so of two
    clicks in a row the second would undo the first. Here they take turns, and each begins where the last one ended.
    """

    def __init__(self) -> None:
        self._states: OrderedDict[str, tuple[threading.Lock, list[State]]] = OrderedDict()
        self._lock = threading.Lock()

    def latest(self, request: gr.Request, given: State) -> State:
        """The state of the page now."""
        return next(iter(self._visit(request)[1]), given)

    def turn(self, request: gr.Request, given: State, act: Callable[..., Any], *values: Any) -> tuple[Any, ...]:
        """`act(state, *values)` -> (state, *more), one at a time for each page."""
        lock, kept = self._visit(request)
        with lock:
            result: tuple[Any, ...] = act(next(iter(kept), given), *values)
            kept[:] = [result[0]]
            return result

    def _visit(self, request: gr.Request) -> tuple[threading.Lock, list[State]]:
        mark = str(getattr(request, "session_hash", None))
        with self._lock:
            found = self._states.setdefault(mark, (threading.Lock(), []))
            self._states.move_to_end(mark)
            if len(self._states) > _MOST_VISITS:
                self._states.popitem(last=False)
            return found
