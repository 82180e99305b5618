"""Every format that people bring, as official records: one small converter for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from glmstudio.data.formats.openai import from_openai
from glmstudio.data.formats.plain import QUESTION_AND_ANSWER, from_alpaca, from_pair, in_alpaca_words, pair_of
from glmstudio.data.formats.sharegpt import from_sharegpt
from glmstudio.data.formats.toolalpaca import from_toolalpaca
from glmstudio.data.formats.wording import Conversation, official
from glmstudio.errors import StudioError
from glmstudio.files import short

__all__ = ["Conversation", "conversations", "official"]


def conversations(value: Any) -> Iterator[Conversation | StudioError]:
    """The conversations of one entry of a data file, mostly one; in the place of a bad one what is wrong with it."""
    if isinstance(value, dict) and ("Instances" in value or "NLDocumentation" in value):
        yield from from_toolalpaca(value)
        return
    try:
        yield _one(value)
    except RecursionError:
        yield StudioError("data.record_deep")
    except StudioError as reason:
        yield reason


def _one(value: Any) -> Conversation:
    if not isinstance(value, dict):
        raise StudioError("data.record_not_object")
    if "conversations" in value:
        turns = value["conversations"]
        first = turns[0] if isinstance(turns, list) and turns else None
        return from_sharegpt(value) if isinstance(first, dict) and "from" in first else official(value)
    if "messages" in value:
        return from_openai(value)
    if (alpaca := in_alpaca_words(value)) is not None:
        return from_alpaca(alpaca)
    pair = pair_of(value)
    if pair is None and not value:
        return official(value)
    if pair is None:
        seen = ", ".join(short(name, 30) for name in list(value)[:12])
        raise StudioError("data.fields_unknown", fields=seen or "–", known=QUESTION_AND_ANSWER)
    return from_pair(value, *pair)
