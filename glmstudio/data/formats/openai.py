"""OpenAI's chat records: `messages`, with `tools`, `tool_calls`, and the results of tools."""

from __future__ import annotations

from typing import Any

from glmstudio.data.formats.wording import ParsedConversation, call, conversation, tools_of
from glmstudio.data.protocol.turns import PLACE
from glmstudio.errors import StudioError
from glmstudio.files import short

ROLES = ("system", "developer", "user", "assistant", "tool", "function")


def from_openai(record: dict[str, Any]) -> ParsedConversation:
    """The record in official words: each call next to its result. Raises StudioError."""
    messages = record["messages"]
    if not isinstance(messages, list) or not messages:
        raise StudioError("data.openai_messages")
    turns: list[dict[Any, Any]] = []
    waiting: list[tuple[Any, int, dict[str, Any]]] = []  # id, number of the message, and the call
    for number, message in enumerate(messages, 1):
        role = _role(message, number)
        if role in ("tool", "function"):
            _answer(waiting, message, number)
            continue
        if waiting:
            raise StudioError("data.call_no_result", number=waiting[0][1])
        if role == "assistant":
            turns += _assistant(message, number, waiting)
        else:
            said = _content(message.get("content"), number)
            turns.append({"role": "system" if role == "developer" else role, "content": said, PLACE: number})
    for _, _, left in waiting:
        left["observation"] = ""  # never learned; its role is what ends the call
    given = record.get("tools")
    if given is None:
        given = record.get("functions")
    return conversation(turns, tools_of(given))


def _role(message: Any, number: int) -> str:
    if not isinstance(message, dict):
        raise StudioError("data.turn_not_object", number=number)
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise StudioError("data.turn_role", number=number, role=short(role), roles=", ".join(ROLES))
    return role


def _assistant(message: dict[str, Any], number: int, waiting: list[tuple[Any, int, Any]]) -> list[dict[Any, Any]]:
    trained = _trained(message, number)
    calls = message.get("tool_calls") or []
    if message.get("function_call"):
        calls = [{"id": None, "function": message["function_call"]}]
    if not isinstance(calls, list):
        raise StudioError("data.openai_calls", number=number)
    content = _content(message.get("content"), number)
    turns = [] if calls and content in (None, "") else [{"role": "assistant", "content": content, PLACE: number}]
    if not trained:
        turns = [turn | {"loss": False} for turn in turns]
    for each in calls:
        asked = each.get("function") if isinstance(each, dict) else None
        if not isinstance(asked, dict):
            raise StudioError("data.openai_calls", number=number)
        name = asked.get("name")
        turns.append(call(name, asked.get("arguments", {}), number, trained))
        waiting.append((each.get("id"), number, turns[-1]))
    return turns


def _answer(waiting: list[tuple[Any, int, Any]], message: dict[str, Any], number: int) -> None:
    """Put a result to the call that it names, or to the next one where it names none."""
    named = message.get("tool_call_id")
    place = next((index for index, (known, _, _) in enumerate(waiting) if named is None or known == named), None)
    if place is None:
        raise StudioError("data.result_no_call", number=number)
    _, _, asked = waiting.pop(place)
    said = _content(message.get("content"), number)
    asked["observation"] = "" if said is None else said


def _content(content: Any, number: int) -> Any:
    """A message's content; a list of parts as one text."""
    if not isinstance(content, list):
        return content
    if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
        raise StudioError("data.content_part", number=number)
    return "".join(part["text"] for part in content)


def _trained(message: dict[str, Any], number: int) -> bool:
    weight = message.get("weight", 1)
    if weight not in (0, 1):
        raise StudioError("data.openai_weight", number=number)
    return bool(weight)
