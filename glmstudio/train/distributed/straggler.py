"""Who of those that train together is slow: all wait for the slowest, and the clock on the wall does not tell whom."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

SPAN = 10  # steps over which processes are compared
_FACTOR = 1.5  # times as long as the others
_LEAST = 0.02  # seconds of a step: less is noise


class Stopwatch:
    """What one process does by itself: reading its batches, and the forward pass, in which nobody waits for anybody.

    On a GPU the times are the GPU's own.
    """

    def __init__(self) -> None:
        self._on_card = torch.cuda.is_available()
        self._reading = self._computing = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Batches are fetched."""
        begun = time.perf_counter()
        yield
        self._reading += time.perf_counter() - begun

    @contextmanager
    def computing(self) -> Iterator[None]:
        """The forward pass."""
        if self._on_card:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            yield
            end.record()
            self._events.append((begin, end))
        else:
            begun = time.perf_counter()
            yield
            self._computing += time.perf_counter() - begun

    def take(self) -> tuple[float, float]:
        """Seconds of reading and of computing since the last call. Waits for the GPU."""
        for begin, end in self._events:
            end.synchronize()
            self._computing += begin.elapsed_time(end) / 1000
        taken = self._reading, self._computing
        self._reading = self._computing = 0.0
        self._events.clear()
        return taken


def slowest(seconds: Sequence[float]) -> tuple[int, float] | None:
    """The rank that takes far longer for a step than the others do in the middle, and how many times as long."""
    if len(seconds) < 2:
        return None
    rank = max(range(len(seconds)), key=seconds.__getitem__)
    others = statistics.median(each for other, each in enumerate(seconds) if other != rank)
    if seconds[rank] < _LEAST or seconds[rank] < _FACTOR * others:
        return None
    return rank, seconds[rank] / max(others, 1e-9)
