"""Every format that people bring, as official records: one small converter for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from glmstudio.data.formats.facts import is_fact, question_and_answer, read_fact
from glmstudio.data.formats.openai import from_openai
from glmstudio.data.formats.plain import QUESTION_AND_ANSWER, from_alpaca, from_pair, in_alpaca_words, pair, pair_of
from glmstudio.data.formats.sharegpt import from_sharegpt
from glmstudio.data.formats.text import Document
from glmstudio.data.formats.toolalpaca import from_toolalpaca
from glmstudio.data.formats.wording import ParsedConversation, official
from glmstudio.errors import StudioError
from glmstudio.files import short

__all__ = ["ParsedConversation", "conversations", "format_of", "official"]


def format_of(value: Any) -> str:
    """The name of the format of one entry: facts, toolalpaca, sharegpt, chatglm3, openai, alpaca, pairs or text."""
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


def conversations(value: Any) -> Iterator[ParsedConversation | StudioError]:
    """The conversations of one entry of a data file, mostly one; in the place of a bad one what is wrong with it."""
    form = format_of(value)
    if form == "toolalpaca":
        yield from from_toolalpaca(value)
        return
    try:
        if form != "facts":
            yield _one(value, form)
        elif (fact := read_fact(value)) is not None:
            yield from fact.conversations()
        else:
            yield pair(*question_and_answer(value))
    except RecursionError:
        yield StudioError("data.record_deep")
    except StudioError as reason:
        yield reason


def _one(value: Any, form: str) -> ParsedConversation:
    if form == "text":
        return official(value)
    if not isinstance(value, dict):
        raise StudioError("data.record_not_object")
    if form == "chatglm3":
        return official(value)
    if form == "sharegpt":
        return from_sharegpt(value)
    if form == "openai":
        return from_openai(value)
    if (alpaca := in_alpaca_words(value)) is not None:
        return from_alpaca(alpaca)
    names = pair_of(value)
    if names is None:
        seen = ", ".join(short(name, 30) for name in list(value)[:12])
        raise StudioError("data.fields_unknown", fields=seen or "–", known=QUESTION_AND_ANSWER)
    return from_pair(value, *names)
