"""What is wrong with one conversation, and what of it has a safe fix."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from glmstudio.data.formats import Fault, ParsedConversation
from glmstudio.data.formats.absent import is_no_input
from glmstudio.data.formats.media import asks_about_media
from glmstudio.data.formats.text import Document
from glmstudio.data.notes import noticed
from glmstudio.data.protocol.tool_schema import without_null_arguments, wrong_calls
from glmstudio.data.protocol.turns import number_of, record_messages
from glmstudio.errors import StudioError
from glmstudio.families.message import Message
from glmstudio.files import short

_SPACES = "".join(sign for sign in map(chr, range(0x3001)) if sign.isspace())
_UNSEEN = _SPACES + "\u00ad\u200b\u200c\u200d\u2060\ufeff"  # and characters without a width
_TEXTS = ("system", "user", "assistant", "observation")


@dataclass(frozen=True)
class ExaminedRecord:
    """One conversation as it stands (None where it cannot be written down), its faults, and what it is when fixed.

    `notes`: what was noticed about it that is no fault, by kind, each with a sample. `tools`: whether it tells the
    model of tools. `form`: the format that it came in, "rehearsal" for a general record.
    `extra`: it was mixed in, and may say what another one says.
    """

    messages: tuple[Message, ...] | None
    faults: tuple[Fault, ...] = ()
    mended: tuple[Message, ...] | None = None
    notes: tuple[tuple[str, str], ...] = ()
    tools: bool = False
    form: str = ""
    extra: bool = False

    @property
    def worst(self) -> Fault | None:
        """The fault to tell: one without a fix before one with a fix."""
        return next((fault for fault in self.faults if fault.fix is None), self.faults[0] if self.faults else None)


def examine(conversation: ParsedConversation) -> ExaminedRecord:
    """Look at a conversation. Nothing is raised, whatever it holds."""
    if isinstance(conversation.record, Document):
        messages = conversation.record.messages
        return ExaminedRecord(messages, mended=messages, notes=noticed(messages))
    try:
        found = _examine(conversation)
        notes = noticed(found.mended or found.messages or (), calls_read=conversation.calls_read)
        return replace(found, notes=notes, tools=bool(conversation.record.get("tools")))
    except StudioError as reason:
        worst = next((fault for fault in conversation.faults if fault.fix is None), Fault(reason))
        return ExaminedRecord(None, (worst,))
    except RecursionError:
        return ExaminedRecord(None, (Fault(StudioError("data.record_deep")),))


def _examine(conversation: ParsedConversation) -> ExaminedRecord:
    record, faults = _with_texts(conversation.record)
    messages = record_messages(record, conversation.system)
    as_it_stands = None if faults or conversation.only_fixed else messages
    turns, found = _ordered(record["conversations"])
    turns, nulls = _without_nulls(turns, record.get("tools"))
    fixed = record | {"conversations": turns}
    faults = [*conversation.faults, *faults, *found, *nulls, *map(Fault, wrong_calls(fixed)), *_about_media(turns)]
    if not all(fault.fix for fault in faults):
        return ExaminedRecord(as_it_stands, tuple(faults))
    if not found and not nulls:
        return ExaminedRecord(as_it_stands, tuple(faults), messages)
    try:
        mended = record_messages(fixed, conversation.system)
    except StudioError:  # without its end, the record has nothing left to learn
        return ExaminedRecord(as_it_stands, tuple(replace(fault, fix=None) for fault in faults))
    return ExaminedRecord(as_it_stands, tuple(faults), mended)


def _without_nulls(turns: list[dict[Any, Any]], tools: Any) -> tuple[list[dict[Any, Any]], list[Fault]]:
    """The turns without arguments that are null for no reason: one fault for all of them, because it has one cause."""
    kept, places = without_null_arguments(turns, tools)
    if not places:
        return turns, []
    turn = turns[places[0]]
    reason = StudioError("data.call_nulls", number=number_of(turn, places[0] + 1), name=short(turn["name"]))
    return kept, [Fault(reason, "nulls")]


def _about_media(turns: list[dict[Any, Any]]) -> list[Fault]:
    asked = any(turn["role"] == "user" and asks_about_media(turn["content"]) for turn in turns)
    return [Fault(StudioError("data.media"))] if asked else []


def _with_texts(record: Any) -> tuple[Any, list[Fault]]:
    """The record with text wherever another plain value stood as a content."""
    turns = record.get("conversations") if isinstance(record, dict) else None
    if not isinstance(turns, list):
        return record, []
    faults, out = [], []
    for index, turn in enumerate(turns, 1):
        content = turn.get("content") if isinstance(turn, dict) and turn.get("role") in _TEXTS else None
        if content is None or isinstance(content, str):
            out.append(turn)
            continue
        if turn["role"] != "observation" and isinstance(content, (list, dict)) and is_no_input(content):
            out.append(turn | {"content": None})  # a tool may have found nothing, but nobody says a pair of brackets
            continue
        faults.append(Fault(StudioError("data.turn_not_text", number=number_of(turn, index)), "text"))
        out.append(turn | {"content": _json(content)})
    return (record | {"conversations": out} if faults else record), faults


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except ValueError as error:  # a number with more digits than Python will write
        raise StudioError("data.number_huge") from error


def _ordered(turns: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[Fault]]:
    """The turns in an order that a chat can have, and what was wrong with theirs."""
    out: list[dict[str, Any]] = []
    faults: list[Fault] = []
    for index, turn in enumerate(turns, 1):
        key = _misplaced(out, turn)
        if key is None:
            out.append(turn)
            continue
        joined = key in ("data.two_questions", "data.two_answers") and _same(out[-1], turn)
        faults.append(Fault(StudioError(key, number=number_of(turn, index)), "joined" if joined else None))
        if joined:
            out[-1] = out[-1] | {"content": f"{out[-1]['content']}\n{turn['content']}"}
        else:
            out.append(turn)
    return _ended(out, faults)


def _misplaced(before: list[dict[str, Any]], turn: dict[str, Any]) -> str | None:
    role = turn["role"]
    last = before[-1] if before else {"role": ""}
    if role == "system":
        return "data.system_late" if before else None
    if role == "observation":
        return None if last["role"] == "assistant" and _is_call(last) else "data.observation_alone"
    if role in ("assistant", "tool") and last["role"] in ("", "system"):
        return "data.assistant_first"
    if role == last["role"] == "user":
        return "data.two_questions"
    if role == last["role"] == "assistant" and not _is_call(turn):
        return "data.two_answers"
    return None


def _ended(turns: list[dict[str, Any]], faults: list[Fault]) -> tuple[list[dict[str, Any]], list[Fault]]:
    """The turns up to the last answer that says something."""
    end = len(turns)
    while end and (turns[end - 1]["role"] == "user" or _is_empty(turns[end - 1])):
        end -= 1
    if any(map(_is_empty, turns[end:])):
        number = next(index for index, turn in enumerate(turns, 1) if index > end and _is_empty(turn))
        faults.append(Fault(StudioError("data.answer_empty", number=number_of(turns[number - 1], number)), "end"))
    elif end < len(turns):
        faults.append(Fault(StudioError("data.question_last", number=number_of(turns[-1], len(turns))), "end"))
    for index, turn in enumerate(turns[:end], 1):
        if _is_empty(turn) and turns[index]["role"] != "tool":
            faults.append(Fault(StudioError("data.answer_empty", number=number_of(turn, index))))
    return turns[:end], faults


def _is_empty(turn: dict[str, Any]) -> bool:
    return turn["role"] == "assistant" and turn.get("loss", True) is True and not turn["content"].strip(_UNSEEN)


def _is_call(turn: dict[str, Any]) -> bool:
    """Whether somebody wrote a call by hand as the content of an answer."""
    return "tool_call(" in turn["content"]


def _same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.get("loss", True) == second.get("loss", True)
