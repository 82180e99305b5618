"""Lets in who has the key of this start, and nobody else: first by the address that was printed, then by a cookie.

The key stands in `state/studio.json`, which only the owner can read, and in no log.
"""

from __future__ import annotations

import hashlib
import hmac
import socket
import time
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlencode

from glmstudio.access.guard import App, Receive, Refusal, Scope, Send, refuse
from glmstudio.access.peer import FOREIGN
from glmstudio.paths import paths

_TICKET_S = 300
_COOKIE_S = 30 * 24 * 3600  # the key changes with each start; a browser that is closed meanwhile keeps it


def address(port: int, key: str) -> str:
    """Where the page is, for whoever has the key or a ticket."""
    return f"http://127.0.0.1:{port}/?token={key}"


def ticket(key: str) -> str:
    """What opens the door once, soon: it stands in the command line of a browser, where every user can read it."""
    now = str(time.time_ns())
    return f"{now}.{_sign(key, f'ticket {now}')}"


def cookie(key: str) -> str:
    """The cookie that stands for the key. A browser shares cookies between all ports of an address, and several studios
    may be reached at one, so each has a name of its own."""
    place = f"{socket.gethostname()}\0{paths().home}"
    return f"glmstudio-{hashlib.sha256(place.encode()).hexdigest()[:12]}={_sign(key, 'cookie')}"


class Door:
    """ASGI middleware: everything is refused that does not come with the key, or comes from another user."""

    def __init__(self, app: App, key: str, refusal: Refusal) -> None:
        self._app, self._key, self._refusal = app, key, refusal
        self._cookie = cookie(key).encode()
        self._used: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        known = not scope.get("state", {}).get(FOREIGN)
        came_before = known and self._has_cookie(scope)
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in query if name == "token"]
        page = scope["type"] == "http" and scope["path"] == "/" and scope["method"] in ("GET", "HEAD")
        if page and given and (came_before or (known and self._opens(given[-1]))):
            # Away from the address bar, the history and the Referer.
            await self._redirect(send, urlencode([each for each in query if each[0] != "token"]))
        elif came_before:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await refuse(send, self._refusal)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _has_cookie(self, scope: Scope) -> bool:
        return any(hmac.compare_digest(each, self._cookie) for each in _cookies(scope))

    def _opens(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._key.encode()) or self._takes(given)

    def _takes(self, given: str) -> bool:
        """Whether it is a ticket that is fresh and was not used before."""
        when, _, signed = given.partition(".")
        if not hmac.compare_digest(signed.encode(), _sign(self._key, f"ticket {when}").encode()) or when in self._used:
            return False
        self._used.add(when)
        return abs(time.time_ns() - int(when)) < _TICKET_S * 10**9

    async def _redirect(self, send: Send, query: str) -> None:
        headers = [
            (b"location", f"/{'?' * bool(query)}{query}".encode("latin-1")),
            (b"set-cookie", self._cookie + f"; Path=/; Max-Age={_COOKIE_S}; HttpOnly; SameSite=Strict".encode()),
            (b"cache-control", b"no-store"),
            (b"content-length", b"0"),
        ]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def _cookies(scope: Scope) -> Iterator[bytes]:
    for name, value in scope["headers"]:
        if name.lower() == b"cookie":
            yield from (each.strip() for each in value.split(b";"))


def _sign(key: str, said: str) -> str:
    return hmac.new(key.encode(), said.encode(), hashlib.sha256).hexdigest()
