"""Calls and results of tools in the fields of a turn, as OpenAI and ShareGPT write them."""

from __future__ import annotations

import json
from typing import Any

from glmstudio.data.formats.written_calls import written_calls
from glmstudio.errors import StudioError

Call = tuple[Any, Any, Any]  # id, name, arguments


def call_list(value: Any, number: int) -> tuple[tuple[Any, Any], ...]:
    """Names and arguments of a turn that is a call, or a list of calls."""
    for _ in range(2):
        if not isinstance(value, str):
            break
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            made = written_calls(value)
            if made is None:
                raise StudioError("data.call_text", number=number) from error
            return made.calls
    each = value if isinstance(value, list) else [value]
    if not each or not all(isinstance(one, dict) for one in each):
        raise StudioError("data.call_text", number=number)
    each = [one["function"] if isinstance(one.get("function"), dict) else one for one in each]
    return tuple((one.get("name"), one.get("arguments", one.get("parameters"))) for one in each)


def openai_calls(turn: dict[Any, Any], number: int) -> list[Call]:
    given = turn.get("tool_calls")
    if isinstance(given, str) and given.strip():
        given = _json(given)
    calls = given or []
    if turn.get("function_call"):
        calls = [{"id": None, "function": _json(turn["function_call"])}]
    if not isinstance(calls, list):
        raise StudioError("data.openai_calls", number=number)
    found = []
    for each in calls:
        asked = each.get("function") if isinstance(each, dict) else None
        if not isinstance(asked, dict):
            raise StudioError("data.openai_calls", number=number)
        found.append((each.get("id"), asked.get("name"), asked.get("arguments", {})))
    return found


def result_list(said: Any, count: int) -> list[str] | None:
    """The results of so many calls, where they stand in one list."""
    value = _json(said) if isinstance(said, str) and said.lstrip().startswith("[") else said
    if count < 2 or not isinstance(value, list) or len(value) != count:
        return None
    return [each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in value]


def _json(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value
