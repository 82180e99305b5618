"""The state of each open page, kept so that two clicks at once do not undo each other."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

_MOST_VISITS = 200
State = Any  # a frozen dataclass: see `PageRenderer`


@dataclass
class Visit:
    """One open page: its state, once it has one, and a hash of what each of its components was sent."""

    states: list[State] = field(default_factory=list)
    seen: dict[int, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    drawing: threading.Lock = field(default_factory=threading.Lock)  # what is sent and what is marked as sent are one


class Visitors:
    """The visit of each open page, by gradio's session hash.

    gradio hands a handler the state as it was when the click came in and keeps what the handler returns, so of two
    clicks in a row the second would undo the first. Here they take turns, and each begins where the last one ended.
    """

    def __init__(self) -> None:
        self._visits: OrderedDict[str, Visit] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, mark: str) -> Visit | None:
        """The visit of that session hash; None where this process has not drawn it."""
        return self._visits.get(mark)

    def latest(self, request: gr.Request, given: State) -> State:
        """The state of the page now."""
        return next(iter(self.visit(request).states), given)

    def turn(self, request: gr.Request, given: State, act: Callable[..., Any], *values: Any) -> tuple[Any, ...]:
        """`act(state, *values)` -> (state, *more), one at a time for each page."""
        visit = self.visit(request)
        with visit.lock:
            result: tuple[Any, ...] = act(next(iter(visit.states), given), *values)
            visit.states[:] = [result[0]]
            return result

    def visit(self, request: gr.Request) -> Visit:
        """The visit that a request belongs to."""
        mark = str(getattr(request, "session_hash", None))
        with self._lock:
            found = self._visits.setdefault(mark, Visit())
            self._visits.move_to_end(mark)
            if len(self._visits) > _MOST_VISITS:
                self._visits.popitem(last=False)
            return found
