"""Records of one question and one answer: Alpaca's, and pairs such as prompt and response. Rows of a CSV are these."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from glmstudio.data.formats.absent import is_absent, is_no_input
from glmstudio.data.formats.wording import ParsedConversation, content_of, conversation
from glmstudio.errors import StudioError

PAIRS = (
    ("prompt", "response"),
    ("prompt", "completion"),
    ("question", "answer"),
    ("query", "response"),
    ("input", "output"),
    ("content", "summary"),  # AdvertiseGen
    ("问题", "答案"),
    ("问题", "回答"),
    ("提问", "回答"),
    ("问", "答"),
    ("输入", "输出"),
    ("q", "a"),
)
ALPACA = {"指令": "instruction", "输入": "input", "输出": "output", "系统": "system"}
# Names of two columns of a table. Alpaca's come first: beside an instruction, the input belongs to the question.
COLUMN_PAIRS = (("instruction", "output"), ("指令", "输出"), *PAIRS)
_SIDES = {  # what is in the name of a column that is mostly one of the two
    "question": ("question", "prompt", "instruction", "query", "input", "问", "指令", "输入"),
    "answer": ("answer", "response", "reply", "completion", "output", "summary", "答", "回复", "输出"),
}
QUESTION_AND_ANSWER = " · ".join(["instruction, output", "指令, 输出", *(", ".join(pair) for pair in PAIRS)])


def normal_name(name: str) -> str:
    """A field's name as it is compared: without spaces around it, in small letters of usual width."""
    return unicodedata.normalize("NFKC", name).strip("\ufeff \t\r\n").lower()


def pair_of(record: dict[str, Any], pairs: Sequence[tuple[str, str]] = PAIRS) -> tuple[str, str] | None:
    """The names of the question and the answer in this record; None where it has no such pair."""
    names = {normal_name(name): name for name in record if isinstance(name, str)}
    return next(((names[one], names[other]) for one, other in pairs if one in names and other in names), None)


def side_of(name: str) -> str:
    """Whether a column is "question" or "answer", as far as its name tells; "" where it does not."""
    plain = normal_name(name)
    exact = next((side for pair in COLUMN_PAIRS for side, each in zip(_SIDES, pair, strict=True) if each == plain), "")
    return exact or next((side for side, parts in _SIDES.items() if any(part in plain for part in parts)), "")


def in_alpaca_words(record: dict[str, Any]) -> dict[str, Any] | None:
    """The record under Alpaca's names where its own are these, or their Chinese ones; None where they are others."""
    named = {ALPACA.get(normal_name(name), normal_name(name)): value for name, value in record.items()}
    if "instruction" not in named:
        return None
    return record if "instruction" in record else named


def is_known(names: Iterable[str]) -> bool:
    """Whether rows with these columns are records: a question and an answer are among them."""
    record = dict.fromkeys(names)
    alpaca = in_alpaca_words(record)
    return (alpaca is not None and "output" in alpaca) or pair_of(record) is not None


def from_alpaca(record: dict[str, Any]) -> ParsedConversation:
    """`instruction`, `input` and `output`, with `history` and `system` where they are given."""
    if "output" not in record:
        raise StudioError("data.field_missing", field="output")
    more = record.get("input")
    question = record["instruction"]
    if not is_no_input(more):
        more = more if isinstance(more, str) else json.dumps(more, ensure_ascii=False)
        question = f"{question}\n{more}" if question else more
    return _asked(record, question, record["output"])


def from_pair(record: dict[str, Any], question: str, answer: str) -> ParsedConversation:
    """A question and its answer under these names, with `history` and `system` where they are given."""
    return _asked(record, record[question], record[answer])


def pair(question: Any, answer: Any) -> ParsedConversation:
    """A question and its answer, alone."""
    return _asked({}, question, answer)


def _asked(record: dict[str, Any], question: Any, answer: Any) -> ParsedConversation:
    turns = [{"role": "system", "content": record["system"]}] if record.get("system") else []
    for asked, said in _history(record.get("history")):
        turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    number = len(turns) + 1
    turns.append({"role": "user", "content": content_of(question, "user", number)})
    turns.append({"role": "assistant", "content": content_of(answer, "assistant", number + 1)})
    return conversation(turns)


def _history(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, str) and value.strip():  # a cell of a table
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise StudioError("data.history") from error
    if not value or isinstance(value, str):
        return []
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise StudioError("data.history")
    return [(_or_none(pair[0]), _or_none(pair[1])) for pair in value]


def _or_none(value: Any) -> Any:
    return None if is_absent(value) else value
