"""A record of everything that the doctor changed, for whoever wonders later."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

from glmstudio.files import read_text
from glmstudio.paths import paths
from glmstudio.words import say

log = logging.getLogger(__name__)

_KEPT = 1000


def note(what: str, **facts: Any) -> None:
    """Write one change down: `what` names the kind ("end", "hosts.add"), `facts` say the rest."""
    line = json.dumps({"time": time.time(), "what": what, **facts}, ensure_ascii=False)
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        with _file().open("a", encoding="utf-8", errors="backslashreplace") as record:
            record.write(line + "\n")
    except OSError:  # the change is made; a full disk must not hide that it was
        log.exception("A change could not be written down: %s", line)


def entries() -> list[dict[str, Any]]:
    """The changes, newest first. A line that a crash cut off is passed over."""
    try:
        lines = read_text(_file(), errors="replace").splitlines()
    except OSError:
        return []
    read = (_parse(line) for line in reversed(lines[-_KEPT:]))
    return [entry for entry in read if entry]


def sentence(entry: dict[str, Any], lang: str) -> str:
    """A change in words; those of a newer studio by their name."""
    key = f"doctor.change.{str(entry.get('what', '?')).replace('.', '_')}"
    try:
        return say(lang, key, **{name: str(value) for name, value in entry.items()})
    except KeyError:
        return str(entry.get("what", "?"))[:80]


def _parse(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("time"), (int, float)) else None


def _file() -> Path:
    return paths().state / "changes.jsonl"
