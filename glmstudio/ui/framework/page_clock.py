"""What an open page asks each second: whether anything on it has changed. It asks for a refresh only then."""

from __future__ import annotations

import secrets
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from glmstudio.ui.framework.live import PageRenderer


class PageClock:
    """The answers of one page's renderer."""

    def __init__(self, page: PageRenderer) -> None:
        self._page = page
        self._start = secrets.token_hex(8)

    def changed(self, request: Request) -> Response:
        """`1` or `0`; the page also learns from it that the studio is there, and whether it was started anew since."""
        asked: Any = request  # cookies and headers are named as in gradio's own
        mark, step = (request.query_params.get(name, "") for name in ("visit", "step"))
        changed = self._page.has_changed(self._page.speaks(asked), mark, step)
        headers = {"cache-control": "no-store", "x-studio-start": self._start}
        return PlainTextResponse("1" if changed else "0", headers=headers)
