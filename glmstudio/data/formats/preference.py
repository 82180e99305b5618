"""Preference data: records that say which of two answers is better, or that an answer is bad."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from glmstudio.data.formats.plain import normal_name

_PAIRS = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("response_chosen", "response_rejected"),
    ("answer_chosen", "answer_rejected"),
    ("preferred_output", "non_preferred_output"),  # OpenAI
    ("preferred", "rejected"),
    ("accepted", "rejected"),
    ("response_j", "response_k"),
    ("pos_resp", "neg_resp"),
)
_LEFT_OUT = (
    "rejected_response",
    "rejected_responses",
    "rejected_messages",
)  # beside a conversation that is the chosen one
_NUMBERED = (
    ("response_0", "response_1"),
    ("response_a", "response_b"),
    ("answer_a", "answer_b"),
    ("responses", "scores"),
)
_MARKS = ("label", "kto_tag", "desirable")
_QUESTIONS = ("prompt", "question", "query", "instruction", "问题", "提问")
_SPEAKER = re.compile(r"(?:\A|\n\n)(Human|Assistant): ?")
_TURNS = ("messages", "conversations")


def is_preference(names: Iterable[Any]) -> bool:
    """Whether a record of these fields holds a better and a worse answer."""
    named = {normal_name(name) for name in names if isinstance(name, str)}
    if _pair(named) is not None or any(name in named for name in _LEFT_OUT):
        return True
    return any(one in named and other in named for one, other in _NUMBERED)


def is_unwanted(record: dict[Any, Any]) -> bool:
    """Whether the answer is marked as a bad one."""
    for name, value in record.items():
        if isinstance(name, str) and normal_name(name) in _MARKS:
            return value is False or (isinstance(value, str) and value.strip().lower() == "false")
    return False


def chosen_record(record: dict[Any, Any]) -> dict[Any, Any] | None:
    """The record with its better answer alone, in a usual format; None where it does not say what was asked."""
    names = {normal_name(name): name for name in record if isinstance(name, str)}
    pair = _pair(names)
    given = set(pair or ()) | set(_LEFT_OUT)
    rest = {name: value for name, value in record.items() if normal_name(str(name)) not in given}
    if pair is None:
        return rest if any(isinstance(rest.get(name), list) for name in _TURNS) else None
    chosen = record[names[pair[0]]]
    asked = rest.get("input")
    if isinstance(asked, dict) and isinstance(asked.get("messages"), list) and isinstance(chosen, list):
        return {"messages": asked["messages"] + chosen, "tools": asked.get("tools")}
    if isinstance(chosen, dict):
        chosen = [chosen]
    return _of_messages(rest, chosen) if isinstance(chosen, list) else _of_text(rest, chosen)


def _pair(names: Iterable[str]) -> tuple[str, str] | None:
    return next((pair for pair in _PAIRS if pair[0] in names and pair[1] in names), None)


def _of_messages(rest: dict[Any, Any], chosen: list[Any]) -> dict[Any, Any] | None:
    """With an answer of one or more messages; some data sets repeat the question in it."""
    if not chosen or not all(isinstance(each, dict) for each in chosen):
        return None
    key = "conversations" if "from" in chosen[0] else "messages"
    role, text = ("from", "value") if "from" in chosen[0] else ("role", "content")
    whole = any(each.get(role) in ("user", "human") for each in chosen)
    before = next((rest[name] for name in _TURNS if isinstance(rest.get(name), list)), None)
    question = next((rest[name] for name in _QUESTIONS if rest.get(name)), None)
    more = {name: rest[name] for name in ("tools", "system") if name in rest}
    if whole:
        return {key: chosen, **more}
    if before is None and isinstance(question, list):
        before = question
    if before is not None:
        return {key: before + chosen, **more}
    return {key: [{role: "user", text: question}, *chosen], **more} if isinstance(question, str) else None


def _of_text(rest: dict[Any, Any], chosen: Any) -> dict[Any, Any] | None:
    for name in _TURNS:
        if isinstance(turns := rest.get(name), list) and turns and isinstance(turns[0], dict):
            role, text = ("from", "value") if "from" in turns[0] else ("role", "content")
            return rest | {name: [*turns, {role: "assistant", text: chosen}]}
    if "instruction" in rest:
        return {name: rest[name] for name in ("instruction", "input", "system", "history") if name in rest} | {
            "output": chosen
        }
    names = {normal_name(str(name)): name for name in rest}
    for question in _QUESTIONS:
        if question in names:
            return {name: rest[name] for name in ("system", "history") if name in rest} | {
                "prompt": rest[names[question]], "response": chosen,
            }  # fmt: skip
    return _of_dialogue(chosen)


def _of_dialogue(chosen: Any) -> dict[Any, Any] | None:
    """A whole conversation as one text, each turn after an empty line and its speaker."""
    parts = _SPEAKER.split(chosen) if isinstance(chosen, str) else []
    if len(parts) < 5 or parts[0].strip():
        return None
    roles = {"Human": "user", "Assistant": "assistant"}
    turns = [{"role": roles[who], "content": said.strip()} for who, said in zip(parts[1::2], parts[2::2], strict=True)]
    return {"messages": turns}
