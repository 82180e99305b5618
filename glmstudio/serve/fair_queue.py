"""Who is served next: first come first served within a client, and clients in turn, so that none waits for a flood."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class FullError(Exception):
    """So many wait already that one more would not be served in time."""


class FairQueue(Generic[T]):
    """A queue of jobs, each of a client."""

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def join(self, client: str, job: T) -> None:
        """Wait at the end of the client's line. Raises FullError."""
        with self._changed:
            if len(self) >= self._most:
                raise FullError
            self._waiting.setdefault(client, deque()).append(job)
            self._changed.notify_all()

    def leave(self, job: T) -> None:
        """Wait no longer; nothing where its turn has come."""
        with self._changed:
            for client, line in [*self._waiting.items()]:
                if job in line:
                    line.remove(job)
                    if not line:
                        del self._waiting[client]

    def next(self, timeout: float | None = None) -> T | None:
        """The job whose turn it is; waits for one. None after `timeout` seconds without one."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self) > 0, timeout):
                return None
            client, line = next(iter(self._waiting.items()))
            job = line.popleft()
            del self._waiting[client]
            if line:
                self._waiting[client] = line  # behind the others
            return job

    def order(self) -> list[T]:
        """All that wait, in the order in which they will be served."""
        with self._changed:
            lines: list[list[Any]] = [list(line) for line in self._waiting.values()]
        rounds = max(map(len, lines), default=0)
        return [line[number] for number in range(rounds) for line in lines if number < len(line)]
