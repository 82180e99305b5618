"""The environment in which gradio is imported: proxies, no telemetry, no network access."""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PROXIES = ("ALL_PROXY", "all_proxy")
_QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_SSR_MODE": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}


@contextmanager
def quiet_import(environ: MutableMapping[str, str] = os.environ) -> Iterator[None]:
    """An environment in which importing gradio accesses no network.

    What children of the studio need (a SOCKS proxy for downloads, an online hub) is put back afterwards; that this
    machine itself is never reached through a proxy stays.
    """
    bypass_proxy(environ)
    hidden = {name: environ.get(name) for name in (*_QUIET, *_PROXIES)}
    for name in _PROXIES:
        # httpx, which gradio builds a client of at import, refuses a SOCKS address without an extra package.
        if environ.get(name, "").lower().startswith("socks"):
            del environ[name]
    environ.update(_QUIET)
    try:
        yield
    finally:
        for name, value in hidden.items():
            if name == "GRADIO_ANALYTICS_ENABLED":
                continue
            if value is None:
                environ.pop(name, None)
            else:
                environ[name] = value


def bypass_proxy(environ: MutableMapping[str, str] = os.environ) -> None:
    """Never reach this machine through a proxy: without this, gradio's own check of its address fails."""
    for name in ("no_proxy", "NO_PROXY"):
        known = [part.strip() for part in environ.get(name, "").split(",") if part.strip()]
        environ[name] = ",".join([*known, *(host for host in LOOPBACK if host not in known)])
