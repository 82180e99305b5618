"""What all converters share: a conversation in official words, and small readings of other people's fields."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from glmstudio.data.formats.absent import without_nulls
from glmstudio.data.protocol.turns import PLACE
from glmstudio.errors import StudioError
from glmstudio.families.message import listed_tool
from glmstudio.families.python_calls import arguments_of
from glmstudio.files import short


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong; `fix` names its fix (text, joined, end, nulls, decoded, chosen, choices, duplicate,
    fit), None where it has none."""

    reason: StudioError
    fix: str | None = None


@dataclass(frozen=True)
class ParsedConversation:
    """An official record, or a `Document`; `system` are texts before its tools in the first system message. `fact`: it
    is a question and the answer of a fact, with the place of its wording among all of them; None for others.

    `faults`: what its converter found wrong. `only_fixed`: the record is what its fixes make of it, and cannot be
    written as it stands. `calls_read`: calls that stood in the text of answers are calls in it.
    """

    record: Any
    system: tuple[str, ...] = ()
    fact: tuple[int, int] | None = None
    faults: tuple[Fault, ...] = ()
    only_fixed: bool = False
    calls_read: bool = False


def official(record: Any) -> ParsedConversation:
    """A record that is in the official format or a text, or has to be told that it is in none."""
    return ParsedConversation(record)


def conversation(turns: list[dict[Any, Any]], tools: Any = None) -> ParsedConversation:
    """Official turns with their tools. System texts before tools go into their message, as in a chat with them."""
    if not tools:
        return ParsedConversation({"conversations": turns})
    system = list(takewhile(_is_system, turns))
    before = tuple(turn["content"] for turn in system)
    return ParsedConversation({"tools": tools, "conversations": turns[len(system) :]}, before)


def tools_of(value: Any) -> Any:
    """Tools as ChatGLM3 lists them, from OpenAI's form or from its JSON text; what is no list comes back as it is."""
    value = tools_given(value)
    if not isinstance(value, list):
        return value
    return [listed_tool(tool) or tool for tool in map(without_nulls, value)]


def tools_given(value: Any) -> Any:
    """Tools from their JSON text, be it encoded twice; a blank one is none."""
    for _ in range(2):
        if not isinstance(value, str):
            break
        try:
            value = json.loads(value) if value.strip() else None
        except (ValueError, RecursionError) as error:
            raise StudioError("data.tools_text") from error
    return value


def content_of(content: Any, role: str, number: int) -> Any:
    """A turn's content; a list of parts as one text. Raises StudioError for parts and answers that are not one."""
    if not isinstance(content, list) or not content:
        return content
    if all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
        return "".join(part["text"] for part in content)
    if all(isinstance(part, dict) for part in content):
        raise StudioError("data.content_part", number=number)
    if role == "assistant" and all(isinstance(part, str) for part in content):
        return content[0] if len(content) == 1 else _several(number)
    return content


def _several(number: int) -> Any:
    raise StudioError("data.several_answers", number=number)


def call(name: Any, arguments: Any, number: int, loss: bool = True) -> tuple[dict[Any, Any], tuple[Fault, ...]]:
    """The official call of a turn with this number; it still waits for its result. With it what was wrong with its
    arguments. Raises StudioError."""
    given, twice = arguments_of(arguments)
    if given is None:
        raise StudioError("data.call_arguments", number=number, name=short(name))
    faults = (Fault(StudioError("data.call_twice", number=number, name=short(name)), "decoded"),) if twice else ()
    turn = {"role": "tool", "name": name, "parameters": given, PLACE: number}
    return (turn if loss else turn | {"loss": False}), faults


def _is_system(turn: dict[str, Any]) -> bool:
    return turn.get("role") == "system" and isinstance(turn.get("content"), str)
