"""A request's side of the engine: what is told of its jobs, signs of life meanwhile, and a client that leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import Request

from glmstudio.serve.engine import Engine, GenerationJob

_BEAT = 1.0  # seconds between two signs of life while a request waits


class Listener:
    """Hears the jobs of one request, one job after the other. `left` once nobody waits for the answer any more."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._loop = engine, asyncio.get_running_loop()
        self._told: asyncio.Queue[Any] = asyncio.Queue()
        self._job: GenerationJob | None = None
        self.left = False

    def put(self, item: Any) -> None:
        """Take what the engine tells, in its thread; a loop that was closed meanwhile has nobody who listens."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._told.put_nowait, item)

    def submit(self, job: GenerationJob) -> None:
        """Have a job done that tells `put`. Raises FullError."""
        self._job = job
        self._engine.submit(job)

    async def items(self) -> AsyncIterator[Any]:
        """What is told of the job until it ends; an exception is the last item."""
        while (item := await self._told.get()) is not None:
            yield item
            if isinstance(item, Exception):
                return

    async def beating(self) -> AsyncIterator[Any]:
        """As `items`; while there is none, a comment (str) each second that says why."""
        waited = self._before()
        if waited:
            yield f": waiting {waited}\n\n"
        while True:
            try:
                item = await asyncio.wait_for(self._told.get(), _BEAT)
            except asyncio.TimeoutError:
                before = self._before()
                yield ": working\n\n" if before is None else f": waiting {before}\n\n"
                continue
            if item is None:
                return
            yield item
            if isinstance(item, Exception):
                return

    def leave(self) -> None:
        """Nobody waits any more: the engine may serve somebody else."""
        self.left = True
        if self._job is not None:
            self._job.cancel.set()
            self._engine.turns.leave(self._job)

    async def forget(self) -> None:
        """`leave`, as a coroutine, because each plain function of a background task would take a thread."""
        self.leave()

    @asynccontextmanager
    async def watching(self, request: Request) -> AsyncIterator[None]:
        """While this lasts, a client that leaves ends its answer, also while it waits; and so does what comes after."""
        watch = asyncio.create_task(self._watch(request))
        try:
            yield
        finally:
            self.leave()
            watch.cancel()

    async def _watch(self, request: Request) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.leave()
        self._told.put_nowait(None)

    def _before(self) -> int | None:
        return self._engine.before(self._job) if self._job is not None else None
