"""One official multi-turn record as messages: the one place where roles, tools and calls become text.

A record is `{"tools": ..., "conversations": [{"role", "content", "loss"?}, ...]}`; the role `tool` holds a call and
its result: `{"role": "tool", "name", "parameters", "observation"}`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.families.message import INTERPRETER, Message, is_text, tools_message
from glmstudio.files import short

ROLES = ("system", "user", "assistant", "observation", "tool")
PLACE, TOGETHER = 0, 1  # keys that no JSON has: the turn's number in the user's file; made beside the call before


def record_messages(record: Any, system: Sequence[str] = ()) -> tuple[Message, ...]:
    """The messages of one record; `system` are texts that stand before its tools. Raises StudioError that says what is
    wrong with it."""
    if not isinstance(record, dict):
        raise StudioError("data.record_not_object")
    turns = record.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise StudioError("data.record_no_conversations")
    try:
        messages = [record_tools(record, system)] if "tools" in record else []
        for number, turn in enumerate(turns, 1):
            messages += turn_messages(turn, number_of(turn, number) if isinstance(turn, dict) else number)
    except RecursionError as error:
        raise StudioError("data.record_deep") from error
    if not any(message.trained for message in messages):
        raise StudioError("data.record_nothing_trained")
    if not is_text(messages):
        raise StudioError("data.record_half_character")
    return tuple(messages)


def record_tools(record: dict[str, Any], system: Sequence[str] = ()) -> Message:
    """The system message with the tools of a record that has some."""
    tools, turns = record["tools"], record["conversations"]
    runs_code = isinstance(tools, list) and any(
        isinstance(each, dict) and each.get("name") == INTERPRETER for each in tools
    )
    converted = any(isinstance(turn, dict) and PLACE in turn for turn in turns)
    return tools_message(tools, system, official=runs_code and not converted)


def turn_messages(turn: Any, number: int) -> list[Message]:
    """The messages of the turn with this number, counted from 1; a call and its result are two. Raises StudioError."""
    if not isinstance(turn, dict):
        raise StudioError("data.turn_not_object", number=number)
    role, loss = turn.get("role"), turn.get("loss", True)
    if role not in ROLES:
        raise StudioError("data.turn_role", number=number, role=short(role), roles=", ".join(ROLES))
    if not isinstance(loss, bool):
        raise StudioError("data.turn_loss", number=number)
    if role == "tool":
        return _tool_messages(turn, number, loss)
    content = turn.get("content")
    if not isinstance(content, str):
        raise StudioError("data.turn_content", number=number)
    return [Message(role, content, trained=loss and role == "assistant")]


def is_official(turn: dict[Any, Any]) -> bool:
    """Whether a call is one of the code interpreter that no converter made (`Message.official`)."""
    return turn.get("name") == INTERPRETER and PLACE not in turn


def number_of(turn: dict[Any, Any], index: int) -> int:
    """Which turn of the user's file this is: a converter says so, because its turns are not those of the file."""
    number: int = turn.get(PLACE, index)
    return number


def _tool_messages(turn: dict[Any, Any], number: int, loss: bool) -> list[Message]:
    name, arguments = turn.get("name"), turn.get("parameters")
    if not isinstance(name, str) or not name or "\n" in name:
        raise StudioError("data.tool_name", number=number)
    if not isinstance(arguments, dict):
        raise StudioError("data.tool_parameters", number=number, name=short(name))
    for key in arguments:
        if not key.isidentifier():
            raise StudioError("data.tool_argument", number=number, name=short(name), argument=short(key))
    seen = turn.get("observation")
    text = seen if isinstance(seen, str) else json.dumps(seen, ensure_ascii=False)
    call = Message(
        "assistant", "", metadata=name, trained=loss, arguments=arguments, together=turn.get(TOGETHER, False)
    )
    return [replace(call, official=is_official(turn)), Message("observation", text)]
