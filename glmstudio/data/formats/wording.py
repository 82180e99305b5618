"""What all converters share: a conversation in official words, and small readings of other people's fields."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from glmstudio.data.protocol.prompt import TOOL_PROMPT, listed_tool, tools_intro
from glmstudio.data.protocol.tool_calls import call_content, read_arguments
from glmstudio.data.protocol.turns import PLACE, WRITTEN
from glmstudio.errors import StudioError
from glmstudio.files import short


@dataclass(frozen=True)
class ParsedConversation:
    """An official record, or a `Document`; `intro` stands before its tools in the first system message. `fact`: it is
    a question and the answer of a fact, with the place of its wording among all of them; None for others."""

    record: Any
    intro: str = TOOL_PROMPT
    fact: tuple[int, int] | None = None


def official(record: Any) -> ParsedConversation:
    """A record that is in the official format or a text, or has to be told that it is in none."""
    return ParsedConversation(record)


def conversation(turns: list[dict[Any, Any]], tools: Any = None) -> ParsedConversation:
    """Official turns with their tools. System texts before tools go into their message, as in a chat with them."""
    if not tools:
        return ParsedConversation({"conversations": turns})
    system = list(takewhile(_is_system, turns))
    intro = tools_intro([turn["content"] for turn in system], tools if isinstance(tools, list) else [])
    return ParsedConversation({"tools": tools, "conversations": turns[len(system) :]}, intro)


def tools_of(value: Any) -> Any:
    """Tools as ChatGLM3 lists them, from OpenAI's form or from its JSON text; what is no list comes back as it is."""
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise StudioError("data.tools_text") from error
    if not isinstance(value, list):
        return value
    return [listed_tool(tool) or tool for tool in value]


def call(name: Any, arguments: Any, number: int, loss: bool = True) -> dict[Any, Any]:
    """The official call of a turn with this number; it still waits for its result. Raises StudioError."""
    given = read_arguments(arguments)
    if given is None:
        raise StudioError("data.call_arguments", number=number, name=short(name))
    turn = {"role": "tool", "name": name, "parameters": given, PLACE: number, WRITTEN: call_content(name, given)}
    return turn if loss else turn | {"loss": False}


def _is_system(turn: dict[Any, Any]) -> bool:
    return turn.get("role") == "system" and isinstance(turn.get("content"), str)
