"""Calls of tools that somebody wrote into an answer's text: as ChatGLM3 writes them, and as other models do."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from glmstudio.families.message import INTERPRETER
from glmstudio.families.python_calls import LONGEST_CALL, CallError, arguments_of, fenced, json_arguments, parse_call

_TAGGED = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
_NAME = re.compile(r"(?:<\|assistant\|>)?[ \t]*([^\s<>`{}()\[\]\"',:：，。]{1,64})[ \t]*")
_LONGEST = 4 * LONGEST_CALL
_TRACE = re.compile(r"^(?:```python\s*)?tool_call\(|<tool_call>", re.MULTILINE)
_FIELDS = frozenset(("name", "arguments", "parameters", "id", "type"))


@dataclass(frozen=True)
class WrittenCalls:
    """The calls in a text, and what it says before them. `sure`: only a call is written like this; else it may be an
    answer that is JSON."""

    thought: str
    calls: tuple[tuple[str, dict[str, Any]], ...]
    sure: bool


def written_calls(text: str) -> WrittenCalls | None:
    """The calls that a text is, or ends with; None where there is none that can be read."""
    if len(text) > _LONGEST or ("{" not in text and "tool_call(" not in text and "```" not in text):
        return None
    if "<tool_call>" in text:
        return _tagged(text)
    if (calls := calls_in(_unfenced(text))) is not None:
        return WrittenCalls("", calls, sure=False)
    return _named(text) if "\n" in text.strip() else None


def has_trace(text: str) -> bool:
    """Whether a text holds what looks like a call, readable or not."""
    return "tool_call" in text and _TRACE.search(text) is not None


def calls_in(value: Any) -> tuple[tuple[str, dict[str, Any]], ...] | None:
    """Names and arguments of one call, or of a list of them, given as objects or as their JSON text."""
    if isinstance(value, str):
        if value.strip()[:1] not in ("{", "["):
            return None
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    each = value if isinstance(value, list) else [value]
    found = [_call(one) for one in each]
    return tuple(call for call in found if call is not None) if found and None not in found else None


def _call(value: Any) -> tuple[str, dict[str, Any]] | None:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value.keys() <= _FIELDS:
        return None
    if "arguments" not in value and "parameters" not in value:
        return None
    arguments, _ = arguments_of(value.get("arguments", value.get("parameters")))
    return None if arguments is None or not value["name"] else (value["name"], arguments)


def _tagged(text: str) -> WrittenCalls | None:
    found = [calls_in(body) for body in _TAGGED.findall(text)]
    if not found or None in found or _TAGGED.split(text)[-1].strip():
        return None
    thought = text.partition("<tool_call>")[0].strip()
    return WrittenCalls(thought, tuple(call for calls in found for call in calls or ()), sure=True)


def _named(text: str) -> WrittenCalls | None:
    """A name on a line of its own, and below it arguments: `tool_call(...)` or JSON, bare or in a fence."""
    said = text.strip()
    start = _body_start(said)
    thought, _, line = said[: max(start, 0)].rstrip().rpartition("\n")
    name = _NAME.fullmatch(line) if start > 0 else None
    if name is None:
        return None
    body, thought = said[start:].strip(), thought.strip()
    if name[1] == INTERPRETER and body.startswith("```python"):
        return WrittenCalls(thought, ((name[1], {"code": fenced(body).strip("\n")}),), sure=True)
    if (arguments := json_arguments(body)) is not None:
        return WrittenCalls(thought, ((name[1], arguments),), sure=False)
    try:
        return WrittenCalls(thought, ((name[1], parse_call(body)),), sure=True)
    except CallError:
        return None


def _body_start(said: str) -> int:
    """Where the line begins with which the arguments do; -1 where there is none."""
    if said.endswith("```"):
        return said.rfind("\n```", 0, -3)
    return said.rfind("\ntool_call(") if said.endswith(")") else said.find("\n{") if said.endswith("}") else -1


def _unfenced(text: str) -> str:
    """What stands in the fence that is the whole text; else the text."""
    bare = text.strip()
    if bare.startswith("```") and bare.endswith("```") and bare.count("```") == 2:
        return fenced(bare).removeprefix("json").strip()
    return bare
