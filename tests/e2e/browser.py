"""A headless Chromium for tests, and a record of what a page asked for and complained about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CHROMIUM = Path("/usr/bin/chromium")
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Visit:
    """One page with all that it did."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def outside(self) -> set[str]:
        """Hosts other than this machine that the page asked for something."""
        hosts = {urlsplit(url).hostname for url in self.requests if url.startswith(("http", "ws"))}
        return {host for host in hosts if host not in {"127.0.0.1", None}}

    def open(self, url: str) -> Any:
        """Go there and wait until the studio has drawn itself."""
        self.page.goto(url)
        self.page.wait_for_selector("html:not(.gs-wait) .gs-rail [aria-current]")
        return self.page


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium, ended at the end of the block."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=_ARGUMENTS)
        try:
            yield chromium
        finally:
            chromium.close()


@contextmanager
def visit(chromium: Any, *, locale: str = "en-US", scheme: str = "light", width: int = 1280) -> Iterator[Visit]:
    """A fresh visitor with that language, colour scheme and width of window."""
    context = chromium.new_context(
        locale=locale, color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce"
    )
    made = Visit(context.new_page())
    made.page.on("request", lambda request: made.requests.append(request.url))
    made.page.on("websocket", lambda socket: made.requests.append(socket.url))
    made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
    made.page.on("console", lambda line: line.type in {"error", "warning"} and made.complaints.append(line.text))
    try:
        yield made
    finally:
        context.close()
