"""The places that models are downloaded from, asked all at once. To be offline is no fault."""

from __future__ import annotations

import threading
import time

import requests

from glmstudio.doctor.engine.check import Probes, check, found
from glmstudio.doctor.engine.report import Finding
from glmstudio.errors import StudioError
from glmstudio.models import list_models
from glmstudio.models.hub.connection import endpoint, told_offline, use_proxies
from glmstudio.models.hub.hubs import TITLES

_LIMIT = 3.0


@check("hub.reach", family="network", limit=_LIMIT + 2)
def reach(_: Probes) -> Finding:
    """Which hubs answer. Nobody is asked where a model is on this machine already."""
    if any(model.kind != "demo" and model.ready for model in list_models()):
        return found("ok", "local")
    if name := told_offline():
        return found("ok", "told_offline", name=name)
    try:
        use_proxies()
        places = hubs()
    except StudioError as problem:
        return found("warning", "misset", problem=problem)
    answered = _ask(places)
    if not answered:
        return found("info", "offline", names=", ".join(places))
    missing = [name for name in places if name not in answered]
    fastest_first = sorted(answered.items(), key=lambda pair: pair[1])
    words = ", ".join(f"{name} ({seconds:.1f} s)" for name, seconds in fastest_first)
    return found("ok", "some" if missing else "ok", answered=words, missing=", ".join(missing))


def hubs() -> dict[str, str]:
    """The hubs' names and addresses, moved by the variables that their own programs obey."""
    return {title: endpoint(source) for source, title in TITLES.items()}


def _ask(places: dict[str, str]) -> dict[str, float]:
    """Seconds until each answered, of those that did in time; a look-up of a name can hang longer than one waits."""
    answered: dict[str, float] = {}

    def ask(name: str, address: str) -> None:
        seconds = _answer_time(address)
        if seconds is not None:
            answered[name] = seconds

    threads = [threading.Thread(target=ask, args=place, daemon=True) for place in places.items()]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + _LIMIT
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(answered)


def _answer_time(address: str) -> float | None:
    """Seconds until this address answered anything at all, on the way that downloads take; None if it did not."""
    begun = time.monotonic()
    try:
        requests.head(address, headers={"User-Agent": "glm-studio"}, timeout=_LIMIT, allow_redirects=False).close()
    except (OSError, ValueError):  # the first is every error of requests
        return None
    return time.monotonic() - begun
