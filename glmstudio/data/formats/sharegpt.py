"""ShareGPT's records: `conversations` of `from` and `value`, with calls and results of tools."""

from __future__ import annotations

import json
from typing import Any

from glmstudio.data.formats.wording import ParsedConversation, call, conversation, tools_of
from glmstudio.data.protocol.turns import PLACE
from glmstudio.errors import StudioError
from glmstudio.files import short

ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "function_call": "call",
    "observation": "result",
    "tool": "result",
}


def from_sharegpt(record: dict[str, Any]) -> ParsedConversation:
    """The record in official words. Raises StudioError."""
    turns: list[dict[Any, Any]] = []
    if record.get("system"):
        turns.append({"role": "system", "content": record["system"]})
    waiting = False  # whether the last turn is a call without its result
    for number, turn in enumerate(record["conversations"], 1):
        role, value = _turn(turn, number)
        if waiting and role != "result":
            raise StudioError("data.call_no_result", number=number - 1)
        if role == "result":
            if not waiting:
                raise StudioError("data.result_no_call", number=number)
            turns[-1]["observation"] = value
        elif role == "call":
            turns.append(_call(value, number))
        else:
            turns.append({"role": role, "content": value, PLACE: number} | _loss(turn))
        waiting = role == "call"
    if waiting:
        turns[-1]["observation"] = ""  # never learned; its role is what ends the call
    return conversation(turns, tools_of(record.get("tools")))


def _turn(turn: Any, number: int) -> tuple[str, Any]:
    if not isinstance(turn, dict):
        raise StudioError("data.turn_not_object", number=number)
    given = turn.get("from")
    role = ROLES.get(given) if isinstance(given, str) else None
    if role is None:
        raise StudioError("data.turn_role", number=number, role=short(given), roles=", ".join(ROLES))
    return role, turn.get("value")


def _call(value: Any, number: int) -> dict[Any, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise StudioError("data.call_text", number=number) from error
    if not isinstance(value, dict):
        raise StudioError("data.call_text", number=number)
    name = value.get("name")
    return call(name, value.get("arguments", value.get("parameters", {})), number)


def _loss(turn: dict[str, Any]) -> dict[str, Any]:
    return {"loss": turn["loss"]} if "loss" in turn else {}
