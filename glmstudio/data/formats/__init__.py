"""Every format that people bring, as official records: one small converter for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from glmstudio.data.formats.absent import with_nulls
from glmstudio.data.formats.benchmark import benchmark_of, is_choice, is_programming_task, question_with_choices
from glmstudio.data.formats.chat_turns import from_messages, from_official, from_sharegpt
from glmstudio.data.formats.facts import is_fact, question_and_answer, read_fact
from glmstudio.data.formats.media import has_media
from glmstudio.data.formats.plain import (
    QUESTION_AND_ANSWER,
    from_alpaca,
    from_pair,
    in_alpaca_words,
    is_known,
    pair,
    pair_of,
)
from glmstudio.data.formats.preference import chosen_record, is_preference, is_unwanted
from glmstudio.data.formats.text import Document
from glmstudio.data.formats.toolalpaca import from_toolalpaca
from glmstudio.data.formats.wording import Fault, ParsedConversation, official
from glmstudio.errors import StudioError
from glmstudio.files import short

__all__ = ["Fault", "ParsedConversation", "conversations", "format_of", "has_record_columns", "official", "read_entry"]

_USUAL = frozenset(
    ("conversations", "messages", "tools", "system", "instruction", "input", "output", "history", "prompt", "response")
)


def format_of(value: Any) -> str:
    """The name of the format of one entry: facts, toolalpaca, sharegpt, chatglm3, openai, alpaca, pairs or text."""
    return _form(_tidy(value))


def has_record_columns(names: Iterable[str]) -> bool:
    """Whether rows with these columns are records, good ones or such that their kind can be told."""
    known = list(names)
    return is_known(known) or is_preference(known)


def read_entry(value: Any) -> tuple[str, Iterator[ParsedConversation | StudioError]]:
    """The format of one entry of a data file, and its conversations."""
    value = _tidy(value)
    form = _form(value)
    return form, _conversations(value, form)


def _form(value: Any) -> str:
    if isinstance(value, Document):
        return "text"
    if not isinstance(value, dict):
        return "chatglm3"
    if "Instances" in value or "NLDocumentation" in value:
        return "toolalpaca"
    if "conversations" in value:
        turns = value["conversations"]
        first = turns[0] if isinstance(turns, list) and turns else None
        return "sharegpt" if isinstance(first, dict) and "from" in first else "chatglm3"
    if "messages" in value:
        return "openai"
    if in_alpaca_words(value) is not None:
        return "alpaca"
    if is_fact(value):
        return "facts"
    return "pairs" if value else "chatglm3"


def _tidy(value: Any) -> Any:
    """An entry without the fields that hold nothing, unless it is a record only with them."""
    if not isinstance(value, dict):
        return value
    record = with_nulls(value)
    if None not in record.values():
        return record
    less = {name: each for name, each in record.items() if each is not None}
    known = _form(less) != "pairs" or pair_of(less) is not None or is_preference(less)
    return less if known else record


def conversations(value: Any) -> Iterator[ParsedConversation | StudioError]:
    """The conversations of one entry of a data file, mostly one; in the place of a bad one what is wrong with it."""
    return read_entry(value)[1]


def _conversations(value: Any, form: str) -> Iterator[ParsedConversation | StudioError]:
    if form == "toolalpaca":
        yield from from_toolalpaca(value)
        return
    told: tuple[Fault, ...] = ()
    try:
        told = _told(value) if isinstance(value, dict) else ()
        if any(fault.fix for fault in told):
            yield _fixed(value, told)
            return
        for found in _parsed(value, form):
            yield replace(found, faults=(*told, *found.faults)) if told else found
    except RecursionError:
        yield StudioError("data.record_deep")
    except StudioError as reason:
        yield told[0].reason if told else reason


def _told(record: dict[Any, Any]) -> tuple[Fault, ...]:
    """What a record is that is no conversation to learn as it stands."""
    if record.keys() <= _USUAL:  # most are, and need no look at each name
        return (Fault(StudioError("data.media")),) if has_media(record) else ()
    if has_media(record):
        return (Fault(StudioError("data.media")),)
    if is_preference(record):
        return (Fault(StudioError("data.preference"), "chosen"),)
    if is_unwanted(record):
        return (Fault(StudioError("data.not_wanted")),)
    if is_programming_task(record):
        return (Fault(StudioError("data.programming_task")),)
    if is_choice(record):
        return (Fault(StudioError("data.choices"), "choices"),)
    name = benchmark_of(record)
    return (Fault(StudioError("data.benchmark", name=name)),) if name else ()


def _fixed(record: dict[Any, Any], told: tuple[Fault, ...]) -> ParsedConversation:
    """The conversation that a preference pair or a question with choices can become. Raises what was told of it."""
    try:
        if told[0].fix == "choices":
            found = question_with_choices(record)
            kept = found and {"prompt": found[0], "response": found[1]}
        else:
            kept = chosen_record(record)
        made = next(_parsed(kept, _form(kept)), None) if kept else None
    except StudioError as problem:
        raise told[0].reason from problem
    if made is None:
        raise told[0].reason
    return replace(made, faults=(*told, *made.faults), only_fixed=True)


def _parsed(value: Any, form: str) -> Iterator[ParsedConversation]:
    if form != "facts":
        yield _one(value, form)
    elif (fact := read_fact(value)) is not None:
        yield from fact.conversations()
    else:
        yield pair(*question_and_answer(value))


def _one(value: Any, form: str) -> ParsedConversation:
    if form == "text":
        return official(value)
    if not isinstance(value, dict):
        raise StudioError("data.record_not_object")
    if form == "chatglm3":
        return from_official(value)
    if form == "sharegpt":
        return from_sharegpt(value)
    if form == "openai":
        return from_messages(value)
    if (alpaca := in_alpaca_words(value)) is not None:
        return from_alpaca(alpaca)
    names = pair_of(value)
    if names is None:
        seen = ", ".join(short(name, 30) for name in list(value)[:12])
        raise StudioError("data.fields_unknown", fields=seen or "–", known=QUESTION_AND_ANSWER)
    if (turns := _turns_of_pair(value, *names)) is not None:
        return from_messages(value | {"messages": turns})
    return from_pair(value, *names)


def _turns_of_pair(record: dict[Any, Any], question: str, answer: str) -> list[Any] | None:
    """The turns of a question and an answer that are lists of messages, as TRL has them."""
    both = (record[question], record[answer])
    if all(isinstance(each, list) and each and isinstance(each[0], dict) and "role" in each[0] for each in both):
        return [*both[0], *both[1]]
    return None
