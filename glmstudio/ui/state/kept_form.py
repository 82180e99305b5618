"""The form of the Fine-tune step as a browser keeps it, so that a reload or a restart of the studio loses nothing.

What a browser brings is not trusted: each value is checked as if it were typed, and what cannot be used is left out and
named.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from glmstudio.config.devices import choose
from glmstudio.config.presets import Preset, find_preset
from glmstudio.config.settings import Settings, change
from glmstudio.errors import StudioError
from glmstudio.paths import paths
from glmstudio.ui.state.page_state import FinetuneState, Sentence

SOURCES = ("sample", "file", "facts")
_MOST_BYTES = 1 << 16
_MOST_CHANGES = 100
_LONGEST = {"data": 4096, "name": 60, "preset": 160}


def keep(form: FinetuneState) -> str:
    """The form as text; "" for one in which nothing was chosen."""
    told = {"source": form.source, "data": form.data, "preset": form.preset, "name": form.name}
    if not any(told.values()) and not form.changes:
        return ""
    return json.dumps(told | {"changes": dict(form.changes), "home": _home()})


def bring_back(text: Any) -> FinetuneState:
    """The form of that text, as far as it can still be used; what cannot is told."""
    told = _table(text)
    if told is None or told.get("home") != _home():
        return FinetuneState()
    source = told["source"] if told.get("source") in SOURCES else ""
    data, name, wanted = (_text(told, each) for each in ("data", "name", "preset"))
    gone: list[Sentence] = []
    if source == "file" and data and not _is_there(data):
        gone.append(("ui.finetune.gone_data", {"path": data}))
        data = ""
    preset = _preset(wanted)
    if wanted and preset is None:
        gone.append(("ui.finetune.gone_preset", {"name": wanted}))
    changes = _changes(told.get("changes"), preset, gone) if preset or not wanted else ()
    return FinetuneState(
        source=source,
        data=data,
        picked=bool(data),
        preset=preset.name if preset else "",
        name=name,
        changes=changes,
        gone=tuple(gone),
    )


def _table(text: Any) -> dict[str, Any] | None:
    if not isinstance(text, str) or len(text) > _MOST_BYTES:
        return None
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def _text(told: dict[str, Any], name: str) -> str:
    value = told.get(name)
    return value if isinstance(value, str) and len(value) <= _LONGEST[name] and value.isprintable() else ""


def _is_there(data: str) -> bool:
    try:
        return Path(data).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, a user that is not
        return False


def _preset(name: str) -> Preset | None:
    try:
        return find_preset(name) if name else None
    except StudioError:
        return None


def _changes(told: Any, preset: Preset | None, gone: list[Sentence]) -> tuple[tuple[str, str], ...]:
    """The settings that can be taken; where no preset was chosen, they are checked against the defaults."""
    kept: list[tuple[str, str]] = []
    for name, value in list(told.items())[:_MOST_CHANGES] if isinstance(told, dict) else ():
        try:
            after = change(preset.settings if preset else Settings(), {name: value}, source="")
            if name == "device":
                choose(after.device)
        except StudioError:
            gone.append(("ui.finetune.gone_setting", {"name": str(name)[:80]}))
        else:
            kept.append((name, str(value)))
    return tuple(kept)


def _home() -> str:
    """A mark of this studio's folder: another one may have had the same address before."""
    return sha256(str(paths().home).encode()).hexdigest()[:12]
