"""A request's side of the engine: what is told of its jobs, signs of life meanwhile, and a client that leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.requests import Request

from glmstudio.serve.engine import Engine, GenerationJob
from glmstudio.serve.events import Event, JobFailed, JobFinished

_BEAT = 1.0  # seconds between two signs of life while a request waits


@dataclass(frozen=True)
class Heartbeat:
    """Nothing new: so many are served before the job; None while it is worked on."""

    before: int | None

    @property
    def comment(self) -> str:
        """As a comment of server-sent events."""
        return ": working\n\n" if self.before is None else f": waiting {self.before}\n\n"


class Listener:
    """Hears the jobs of one request, one job after the other. `left` once nobody waits for the answer any more."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._loop = engine, asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._job: GenerationJob | None = None
        self.left = False

    def put(self, event: Event) -> None:
        """Take what the engine tells, in its thread; a loop that was closed meanwhile has nobody who listens."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def submit(self, job: GenerationJob) -> None:
        """Have a job done that tells `put`. Raises FullError."""
        self._job = job
        self._engine.submit(job)

    async def events(self) -> AsyncIterator[Event]:
        """What is told of the job until it ends; the last one is `JobFailed` where it broke."""
        while not isinstance(event := await self._events.get(), JobFinished):
            yield event
            if isinstance(event, JobFailed):
                return

    async def events_or_heartbeats(self) -> AsyncIterator[Event | Heartbeat]:
        """As `events`; while there is none, a heartbeat each second."""
        if waited := self._before():
            yield Heartbeat(waited)
        while True:
            try:
                event = await asyncio.wait_for(self._events.get(), _BEAT)
            except asyncio.TimeoutError:
                yield Heartbeat(self._before())
                continue
            if isinstance(event, JobFinished):
                return
            yield event
            if isinstance(event, JobFailed):
                return

    @asynccontextmanager
    async def running(self, request: Request | None = None) -> AsyncIterator[None]:
        """The request's jobs run while this lasts, and end with it. With a request, its client's leaving ends them,
        too, also while they wait."""
        watch = asyncio.create_task(self._watch(request)) if request else None
        try:
            yield
        finally:
            self._leave()
            if watch:
                watch.cancel()

    async def _watch(self, request: Request) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self._leave()
        self._events.put_nowait(JobFinished())

    def _leave(self) -> None:
        """Nobody waits any more: the engine may serve somebody else."""
        self.left = True
        if self._job is not None:
            self._engine.cancel(self._job)

    def _before(self) -> int | None:
        return self._engine.before(self._job) if self._job is not None else None
