"""Tool calls of a record against the tools that it lists: the name, the arguments, and the way back from text."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from glmstudio.data.protocol.turns import number_of
from glmstudio.errors import StudioError
from glmstudio.families.python_calls import CallError, parse_call, render_call
from glmstudio.files import short

_DEEPEST = 20
_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


def wrong_calls(record: dict[str, Any]) -> Iterator[StudioError]:
    """What is wrong with the tools of an official record and the calls of them."""
    if "tools" in record and not isinstance(record["tools"], list):
        yield StudioError("data.tools_kind")
        return
    tools = _by_name(record.get("tools"))
    for index, turn in enumerate(record["conversations"], 1):
        if turn["role"] != "tool":
            continue
        number, name = number_of(turn, index), turn["name"]
        if tools is not None and name not in tools:
            yield StudioError("data.call_unknown", number=number, name=short(name))
            continue
        yield from _arguments(tools[name] if tools else None, turn["parameters"], number, name)


def without_null_arguments(turns: list[dict[Any, Any]], tools: Any) -> tuple[list[dict[Any, Any]], list[int]]:
    """The turns whose calls have no nulls that their tool does not ask for, and the places of those that had some.

    Who unites the columns of several tools, as `datasets` does, gives each call the arguments of all of them.
    """
    named = _by_name(tools) or {}
    out, places = [], []
    for place, turn in enumerate(turns):
        schema = named.get(turn["name"]) if turn["role"] == "tool" else None
        kept = _wanted(schema, turn["parameters"]) if schema is not None else None
        if kept is None or kept == turn["parameters"]:
            out.append(turn)
            continue
        places.append(place)
        out.append(turn | {"parameters": kept})
    return out, places


def _arguments(schema: Any, arguments: dict[str, Any], number: int, name: str) -> Iterator[StudioError]:
    about = {"number": number, "name": short(name)}
    try:
        same = parse_call(render_call(arguments)) == arguments
    except (CallError, RecursionError, ValueError):
        same = False
    if not same:
        yield StudioError("data.call_unreadable", **about)
        return
    for place, key, more in _differences(schema, arguments, ""):
        yield StudioError(key, **about, argument=short(place), **more)


def _by_name(tools: Any) -> dict[str, Any] | None:
    """The schema of each tool's arguments; None where the tools are not given as tables with names."""
    if not isinstance(tools, list):
        return None
    named: dict[str, Any] = {}
    for tool in tools:
        inner = tool.get("function", tool) if isinstance(tool, dict) else None
        name = inner.get("name") if isinstance(inner, dict) else None
        if not isinstance(inner, dict) or not isinstance(name, str):
            return None
        named[name] = inner.get("parameters")
    return named


def _wanted(schema: Any, value: Any, depth: int = 0) -> Any:
    """A value without the nulls in its objects that the schema neither requires nor allows."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return value
    if isinstance(value, list):
        return [_wanted(schema.get("items"), each, depth + 1) for each in value]
    known = schema.get("properties")
    if not isinstance(value, dict) or not isinstance(known, dict):
        return value
    required = schema.get("required")
    required = required if isinstance(required, list) else ()
    kept = {}
    for name, inner in value.items():
        if not _is_nothing(inner) or name in required or _may_be_null(schema, known.get(name)):
            kept[name] = _wanted(known.get(name), inner, depth + 1)
    return kept


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _may_be_null(schema: Any, inner: Any) -> bool:
    """Whether null is a value of this property of a schema; of one that is not known, where others are welcome."""
    if inner is None:
        return _open_to_more(schema)
    return next(_differences(inner, None, ""), None) is None


def _open_to_more(schema: Any) -> bool:
    more = schema.get("additionalProperties")
    return more is True or isinstance(more, dict) or "patternProperties" in schema


def _differences(schema: Any, value: Any, place: str, depth: int = 0) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Where a value breaks its schema: the place, the key of what is wrong there, and what was expected."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return
    if value is None and schema.get("nullable") is True:
        return
    kinds = _kinds(schema.get("type"))
    if kinds and not any(_is(value, kind) for kind in kinds):
        yield place, "data.call_kind", {"kind": " / ".join(kinds), "value": short(_shown(value))}
        return
    allowed = schema.get("enum")
    if isinstance(allowed, list) and not any(_equal(value, each) for each in allowed):
        choices = short(", ".join(map(_shown, allowed[:20])), 120)
        yield place, "data.call_choice", {"choices": choices, "value": short(_shown(value))}
        return
    if isinstance(value, dict) and isinstance(schema.get("properties"), dict):
        yield from _inside(schema, value, place, depth)
    if isinstance(value, list):
        for index, each in enumerate(value):
            yield from _differences(schema.get("items"), each, f"{place}[{index}]", depth + 1)


def _inside(schema: Any, value: dict[str, Any], place: str, depth: int) -> Iterator[tuple[str, str, dict[str, Any]]]:
    known = schema["properties"]
    open_to_more = _open_to_more(schema)
    required = schema.get("required")
    for name in required if isinstance(required, list) else ():
        if isinstance(name, str) and name not in value:
            yield _joined(place, name), "data.call_missing", {}
    for name, inner in value.items():
        if known.get(name) is not None:
            yield from _differences(known[name], inner, _joined(place, name), depth + 1)
        elif not open_to_more:
            yield _joined(place, name), "data.call_extra", {}


def _kinds(given: Any) -> list[str]:
    """The JSON types that a schema names; none where it names one that is not JSON's."""
    names = given if isinstance(given, list) else [given]
    return names if all(isinstance(name, str) and name in _KINDS for name in names) else []


def _is(value: Any, kind: str) -> bool:
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _equal(first: Any, second: Any) -> bool:
    """As JSON has it: 1 and 1.0 are equal, true is no number."""
    return bool(first == second) and isinstance(first, bool) == isinstance(second, bool)


def _joined(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
