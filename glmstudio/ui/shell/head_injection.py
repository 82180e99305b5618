"""What a browser gets before gradio's own scripts run: the theme, and the step that is open.

gradio adds a page's `head` only once its bundle has started, which shows the wrong theme first and widgets without
words, and it rewrites a stylesheet so that rules for the page as a whole no longer match. So both go into the HTML.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from functools import cache
from pathlib import Path
from typing import Any

from glmstudio.access.guard import App, Receive, Scope, Send

_HERE = Path(__file__).parent
_SCRIPTS = ("page.js", "keys.js", "form.js", "composer.js", "../runs/chart.js", "../runs/unfold.js")


@cache
def head_elements() -> bytes:
    """The first elements of the page's head."""
    style, *scripts = ((_HERE / name).read_text(encoding="utf-8") for name in ("style.css", *_SCRIPTS))
    run = "".join(f"<script>{script}</script>" for script in scripts)
    return f'<style id="studio-style">{style}</style>{run}'.encode()


class HeadInjection:
    """ASGI middleware that puts `head_elements()` at the start of the page's head."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/" or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        # The body must arrive as text to be added to.
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name.lower() != b"accept-encoding"]
        start: MutableMapping[str, Any] = {}
        body = bytearray()

        async def collect(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            elif message["type"] == "http.response.body":
                body.extend(message.get("body", b""))
                if not message.get("more_body"):
                    await _send(send, start, bytes(body))

        await self.app(scope, receive, collect)


async def _send(send: Send, start: MutableMapping[str, Any], body: bytes) -> None:
    headers = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
    if dict(headers).get(b"content-type", b"").startswith(b"text/html"):
        body = body.replace(b"<head>", b"<head>" + head_elements(), 1)
    headers.append((b"content-length", str(len(body)).encode()))
    await send({**start, "headers": headers})
    await send({"type": "http.response.body", "body": body})
