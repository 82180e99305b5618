"""What went wrong, as OpenAI's protocol says it."""

from __future__ import annotations

import logging
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from glmstudio.access.guard import Refusal
from glmstudio.chat.openai_messages import ProtocolError
from glmstudio.serve.events import NoMemoryError

log = logging.getLogger(__name__)


def refusal(
    status: int, message: str, *, param: str | None = None, code: str | None = None, after: int = 0
) -> Response:
    """A request that is not served; `after` so many seconds it may be tried again."""
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(body, status, headers={"retry-after": str(after)} if after else None)


def full() -> Response:
    """So many wait that one more would not be served in time."""
    return refusal(429, "Too many requests are waiting.", code="rate_limit_exceeded", after=5)


def foreign() -> Refusal:
    """A request under a name or from a page that is none of this machine's."""
    said = "This server answers to its own machine only. From another one, use an ssh tunnel (ssh -L)."
    return Refusal("application/json", bytes(refusal(403, said, code="foreign_host").body))


def told_of(error: Exception) -> tuple[int, dict[str, Any]]:
    """What the model could not do, for the client, with its status; the rest is in the server's log."""
    status, code = 500, None
    said = f"The model could not answer ({type(error).__name__})."
    if isinstance(error, NoMemoryError):
        status, code = 503, "out_of_memory"
        said = f"The memory is not enough for a conversation of {error.tokens} tokens. Shorten it, or free memory."
    return status, {"error": {"message": said, "type": "server_error", "param": None, "code": code}}


def failed(error: Exception) -> Response:
    """The whole reply to a request that the model could not answer."""
    status, body = told_of(error)
    return JSONResponse(body, status)


async def _wrong(_: Request, error: Exception) -> Response:
    if not isinstance(error, ProtocolError):
        raise error
    return refusal(error.status, str(error), param=error.param, code=error.code)


async def _unknown(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    said = "Not allowed" if status == 405 else "Unknown request URL"
    code = None if status == 405 else "unknown_url"
    return refusal(status, f"{said}: {request.method} {request.url.path}", code=code)


async def _left(_: Request, __: Exception) -> Response:
    """The client went in the middle of its request, so nobody reads this."""
    return refusal(400, "The request was not whole.")


async def _broken(_: Request, error: Exception) -> Response:
    log.error("A request broke", exc_info=error)
    return failed(error)


HANDLERS: Any = {HTTPException: _unknown, ProtocolError: _wrong, ClientDisconnect: _left, Exception: _broken}
