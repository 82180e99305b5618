"""The model in use, remembered across starts; and what somebody chose in the chat, as their browser keeps it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from glmstudio.files import read_json, write_json
from glmstudio.models import Model, find_model
from glmstudio.models.inventory import InventoryItem, inventory
from glmstudio.paths import paths
from glmstudio.ui.framework.ttl_cache import cached
from glmstudio.ui.state.checkup import CHECKUP
from glmstudio.ui.state.page_state import ChatState

_LONGEST = 2000  # characters of a name or path
BITS = (16, 8, 4)


@cached(0.9)
def items() -> list[InventoryItem]:
    """Every model on this machine or in the catalogue, as of a moment ago."""
    return inventory()


def models() -> list[Model]:
    """Every model on this machine."""
    return [item.model for item in items() if item.model]


def model_in_use() -> Model | None:
    """The chosen model; else the first one that is ready and fits the machine: the demo where there is no GPU."""
    chosen = read_json(paths().state / "choice.json", {})
    wanted = chosen.get("model") if isinstance(chosen, dict) else None
    named = next((model for model in models() if model.name == wanted), None)
    ready = [model for model in models() if model.ready]
    if not CHECKUP.gpus():
        ready.sort(key=lambda model: model.kind != "demo")
    return named or next(iter(ready), None)


def use_model(name: str) -> None:
    """Work with this model from now on. Raises StudioError where there is none, or it cannot be used."""
    model = find_model(name)
    if model.problem:
        raise model.problem
    write_json(paths().state / "choice.json", {"model": model.name})


def kept_text(chat: ChatState) -> str:
    """What the browser is to keep; "" where nothing was chosen."""
    if not chat.model and not chat.adapter and not chat.engine:
        return ""
    told = {"model": chat.model, "adapter": chat.adapter, "rival": chat.rival, "bits": chat.bits, "used": _used()}
    told |= {"engine": chat.engine} if chat.engine else {}
    return json.dumps(told, ensure_ascii=False)


def kept_chat(text: Any) -> ChatState:
    """The chat of a browser that kept this text, which may say anything. Another model in use since then counts more:
    it was chosen later."""
    try:
        told = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        told = None
    if not isinstance(told, dict) or told.get("used") != _used():
        return ChatState()
    names: dict[str, Any] = {
        name: told[name] for name in ("model", "adapter", "rival", "engine") if _is_name(told.get(name))
    }
    bits = told.get("bits")
    return replace(ChatState(bits=bits if type(bits) is int and bits in BITS else 16), **names)


def _used() -> str:
    model = model_in_use()
    return model.name if model else ""


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST and value.isprintable()
