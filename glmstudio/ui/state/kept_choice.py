"""What somebody chose in the chat, as their browser keeps it: a page that is loaded anew names the same."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from glmstudio.ui.state.choice import model_in_use
from glmstudio.ui.state.page_state import ChatState

_LONGEST = 2000  # characters of a name or path
BITS = (16, 8, 4)


def kept_text(chat: ChatState) -> str:
    """What the browser is to keep; "" where nothing was chosen."""
    if not chat.model and not chat.adapter:
        return ""
    told = {"model": chat.model, "adapter": chat.adapter, "rival": chat.rival, "bits": chat.bits, "used": _used()}
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
    names: dict[str, Any] = {name: told[name] for name in ("model", "adapter", "rival") if _is_name(told.get(name))}
    bits = told.get("bits")
    return replace(ChatState(bits=bits if type(bits) is int and bits in BITS else 16), **names)


def _used() -> str:
    model = model_in_use()
    return model.name if model else ""


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST and value.isprintable()
