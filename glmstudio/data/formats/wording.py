"""What all converters share: a conversation in official words, and small readings of other people's fields."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from glmstudio.data.prompt import TOOL_PROMPT
from glmstudio.data.turns import PLACE, short
from glmstudio.errors import StudioError


@dataclass(frozen=True)
class Conversation:
    """An official record; `intro` stands before its tools in the first system message."""

    record: Any
    intro: str = TOOL_PROMPT


def official(record: Any) -> Conversation:
    """A record that is in the official format, or has to be told that it is in none."""
    return Conversation(record)


def conversation(turns: list[dict[Any, Any]], tools: Any = None) -> Conversation:
    """Official turns with their tools. A system text before tools goes into their message, as in a chat with them."""
    if not tools:
        return Conversation({"conversations": turns})
    if turns and turns[0].get("role") == "system" and isinstance(turns[0].get("content"), str):
        intro = f"{turns[0]['content']}\n{TOOL_PROMPT}"
        return Conversation({"tools": tools, "conversations": turns[1:]}, intro)
    return Conversation({"tools": tools, "conversations": turns})


def tools_of(value: Any) -> Any:
    """Tools as ChatGLM3 lists them, from OpenAI's wrapping or from JSON text; what is no list comes back as it is."""
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise StudioError("data.tools_text") from error
    if not isinstance(value, list):
        return value
    return [_flat(tool) for tool in value]


def call(name: Any, arguments: Any, number: int, loss: bool = True) -> dict[Any, Any]:
    """The official call of a turn with this number; it still waits for its result. Raises StudioError."""
    turn = {"role": "tool", "name": name, "parameters": _arguments(arguments, number, name), PLACE: number}
    return turn if loss else turn | {"loss": False}


def _arguments(value: Any, number: int, name: Any) -> dict[str, Any]:
    """The arguments of a call, given as an object or as its JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else {}
        except (ValueError, RecursionError) as error:
            raise StudioError("data.call_arguments", number=number, name=short(name)) from error
    if not isinstance(value, dict):
        raise StudioError("data.call_arguments", number=number, name=short(name))
    return value


def _flat(tool: Any) -> Any:
    if isinstance(tool, dict) and isinstance(tool.get("function"), dict):
        return tool["function"]
    return tool
