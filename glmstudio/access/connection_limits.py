"""Limits on the connections of a server: who never ends a request, or sends one endlessly slowly, is cut off.

What is asked and not yet answered has no limit here: an answer may take long, and a stream of it longer. Both the page
and the model server use this.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limits:
    """`head_s` for the headers of a request, counted from the connection's start or the last answer; `body_bytes` at
    least in each `body_s` while a body arrives; and how many `connections` may be open."""

    head_s: float = 30.0
    body_s: float = 30.0
    body_bytes: int = 30_000
    connections: int = 512


_HEAD, _BODY, _ANSWER = "head", "body", "answer"


def limited(protocol: Any, limits: Limits | None = None) -> Any:
    """The class of uvicorn's connections with these limits."""
    return type("Limited", (_Limited, protocol), {"limits": limits or Limits()})


class _Limited(asyncio.Protocol):
    """Stands before uvicorn's own class, whose state it reads: the same in both that uvicorn has."""

    limits: Limits
    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    connections: set[_Limited]
    cycle: Any
    flow: Any

    phase = ""  # what it waits for
    since = 0.0  # when it began to wait for headers
    _timer: asyncio.TimerHandle | None = None
    _came = 0  # bytes since the timer was set
    _held = False  # whether the server itself did not read on meanwhile

    def connection_made(self, transport: Any) -> None:
        """Let it in, instead of another one where there are too many."""
        super().connection_made(transport)
        self._look()
        if len(self.connections) > self.limits.connections:
            # Of those that ask nothing at the moment, the one that has waited longest goes.
            idle = [each for each in self.connections if each.phase == _HEAD and not each.transport.is_closing()]
            min(idle, key=lambda each: each.since).hang_up()

    def data_received(self, data: bytes) -> None:
        """Count what comes."""
        self._came += len(data)
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """From here on the next request is waited for."""
        super().on_response_complete()  # type: ignore[misc]
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop()
        super().connection_lost(exc)

    def hang_up(self) -> None:
        """Close it; what was answered before still goes out, as long as somebody takes it."""
        self._stop()
        self.transport.close()
        self._timer = self.loop.call_later(self.limits.head_s, self._drained, self.transport.get_write_buffer_size())

    def _look(self) -> None:
        """Set the timer for what is waited for now."""
        self._held = self._held or self.flow.read_paused
        phase = _phase(self.cycle)
        if self.transport.is_closing() or phase == self.phase:
            return
        self._stop()
        self.phase = phase
        if phase == _HEAD:
            self.since = self.loop.time()
            self._timer = self.loop.call_later(self.limits.head_s, self.hang_up)
        elif phase == _BODY:
            self._wait_for_body()

    def _wait_for_body(self) -> None:
        self._came, self._held = 0, self.flow.read_paused
        self._timer = self.loop.call_later(self.limits.body_s, self._count)

    def _count(self) -> None:
        if self._held or self._came >= self.limits.body_bytes:
            self._wait_for_body()
        else:
            self.transport.abort()

    def _drained(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left < before:
            self._timer = self.loop.call_later(self.limits.head_s, self._drained, left)
        else:
            self.transport.abort()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _phase(cycle: Any) -> str:
    """What a connection waits for, by uvicorn's state of its newest request."""
    if cycle is None or cycle.response_complete:
        return _HEAD
    return _BODY if cycle.more_body else _ANSWER
