"""What the routes of the model server share: the body of a request, a stream of events, work that takes long."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from glmstudio.chat.openai_messages import ProtocolError

if TYPE_CHECKING:  # before vLLM, the server runs without torch
    from glmstudio.serve.job_listener import Listener

_LARGE_BODY, _LARGEST_BODY = 200_000, 4_000_000  # bytes
_NOT_KEPT = {"cache-control": "no-store", "x-accel-buffering": "no"}

T = TypeVar("T")
P = ParamSpec("P")


async def read_body(request: Request) -> dict[str, Any]:
    """The JSON object that a request carries. Raises ProtocolError."""
    raw = b""
    async for piece in request.stream():
        raw += piece
        if len(raw) > _LARGEST_BODY:
            raise ProtocolError("The request is too large.", status=413)
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("The request is not valid JSON.") from error
    if not isinstance(body, dict):
        raise ProtocolError("The request must be a JSON object.")
    return body


async def beside(request: Request, do: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `do` returns; a prompt of megabytes takes a second, in which the others must not wait."""
    size = request.headers.get("content-length", "")
    if size.isdecimal() and int(size) < _LARGE_BODY:
        return do(*args, **kwargs)
    return await run_in_threadpool(do, *args, **kwargs)


class EventStream(StreamingResponse):
    """Server-sent events of the listener's jobs, which end with the response, however that ends."""

    def __init__(self, events: AsyncIterator[str], listener: Listener) -> None:
        super().__init__(events, media_type="text/event-stream", headers=_NOT_KEPT)
        self._listener = listener

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        async with self._listener.running():
            await super().__call__(scope, receive, send)
