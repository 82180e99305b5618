"""Refuses every request that another website could have caused, and has the browser load nothing from elsewhere."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# With any port: at the other end of `ssh -L 9000:127.0.0.1:7860` or of an editor's forwarding, the browser asks
# 127.0.0.1:9000. Nobody's domain server has a say in these names, whatever stands behind them.
_LOOPBACK = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::([1-9][0-9]{0,4}))?")
# gradio compiles templates and inlines its start-up script, hence the two "unsafe" sources; no other origin is allowed.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' data: blob:; worker-src 'self' blob:; "
    "connect-src 'self'; object-src 'none'; frame-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


@dataclass(frozen=True)
class Refusal:
    """What is answered to a request that is refused. Nothing of the request may be in it."""

    kind: str
    body: bytes


PLAIN = Refusal("text/plain; charset=utf-8", b"This address serves GLM Studio to this machine only.")


class Guard:
    """ASGI middleware: only pages of this studio, under a name of this machine, may talk to it.

    `beyond`: the server listens beyond this machine, so an address or the machine's own names are good hosts, too;
    a name that somebody else's domain server gave this machine is not.
    """

    def __init__(self, app: App, port: int, *, beyond: bool = False, refusal: Refusal = PLAIN) -> None:
        self.app = app
        own = {socket.gethostname().lower(), socket.gethostname().split(".")[0].lower()} if beyond else set()
        self._hosts = frozenset(f"{name}:{port}" for name in own)
        self._beyond = f":{port}" if beyond else ""
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self.trusts(scope["headers"]):
            await refuse(_with_headers(send), self._refusal)
        elif scope["type"] == "websocket" and not self.trusts(scope["headers"]):
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http":
            await self.app(scope, receive, _with_headers(send))
        else:
            await self.app(scope, receive, send)

    def trusts(self, headers: list[tuple[bytes, bytes]]) -> bool:
        """Whether Host, Origin and Sec-Fetch-Site say that the request comes from the studio's own page."""
        found: dict[str, str] = {}
        for name, value in headers:
            key = name.decode("latin-1").lower()
            if key in found and key in ("host", "origin"):
                return False
            found[key] = value.decode("latin-1").lower()
        host = found.get("host", "")
        if not (_is_loopback(host) or host in self._hosts or self._is_address(host)):
            return False
        # A page of another program of this machine has another port, and so another origin than the host it asks.
        if "origin" in found and found["origin"] != f"http://{host}":
            return False
        elsewhere = found.get("sec-fetch-site", "none") in ("cross-site", "same-site")
        return not elsewhere or found.get("sec-fetch-mode") == "navigate"

    def _is_address(self, host: str) -> bool:
        """Whether it is an address with this port: no name, so nobody's domain server had a say in it."""
        if not self._beyond or not host.endswith(self._beyond):
            return False
        try:
            ipaddress.ip_address(host[: -len(self._beyond)].strip("[]"))
        except ValueError:
            return False
        return True


def _is_loopback(host: str) -> bool:
    """Whether it is a name of the loopback, with any port or none."""
    found = _LOOPBACK.fullmatch(host)
    return found is not None and int(found[1] or 80) < 65536


async def refuse(send: Send, refusal: Refusal) -> None:
    """Answer 403 with this."""
    headers = [
        (b"content-type", refusal.kind.encode()),
        (b"content-length", str(len(refusal.body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": refusal.body})


def _with_headers(send: Send) -> Send:
    async def sender(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *HEADERS]
        await send(message)

    return sender
