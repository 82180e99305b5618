"""What is not there although it is written down: nulls and NaNs, as exports of tables and of `datasets` have them."""

from __future__ import annotations

import math
from typing import Any

TURNS = ("conversations", "messages")
_NO_INPUT = frozenset(("nan", "<na>", "<nan>", "<noinput>", "<no input>"))


def is_absent(value: Any) -> bool:
    """Whether it is null, or the number that is none."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def is_no_input(value: Any) -> bool:
    """Whether somebody's `input` says nothing: blank, a word that pandas or Alpaca writes for that, or all of it so."""
    if isinstance(value, str):
        return not (text := value.strip()) or text.lower() in _NO_INPUT
    if isinstance(value, dict):
        return all(map(is_no_input, value.values()))
    return all(map(is_no_input, value)) if isinstance(value, list) else is_absent(value)


def with_nulls(record: dict[Any, Any]) -> dict[Any, Any]:
    """The record with null in the place of NaN, and its turns without what is absent in them."""
    out = {name: None if is_absent(value) else value for name, value in record.items()}
    for name in TURNS:
        if isinstance(turns := out.get(name), list):
            out[name] = [_turn(turn) if isinstance(turn, dict) else turn for turn in turns]
    return out


def without_nulls(value: Any) -> Any:
    """A value whose objects, at every depth, have no fields that are null."""
    if isinstance(value, dict):
        return {name: without_nulls(inner) for name, inner in value.items() if not is_absent(inner)}
    return list(map(without_nulls, value)) if isinstance(value, list) else value


def _turn(turn: dict[Any, Any]) -> dict[Any, Any]:
    for value in turn.values():  # of a million records with several turns each
        if value is None or value.__class__ is float:
            break
    else:
        return turn
    result = "observation" if turn.get("role") == "tool" else None  # a tool may have returned nothing
    return {
        name: None if is_absent(value) else value
        for name, value in turn.items()
        if name == result or not is_absent(value)
    }
