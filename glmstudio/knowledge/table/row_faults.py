"""What is wrong with the rows of a table of facts, beside which row, and which facts can be learned all the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from glmstudio.data.formats.facts import Fact, same
from glmstudio.data.protocol.prompt import spelled
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.errors import StudioError
from glmstudio.families.message import Message, tools_message
from glmstudio.knowledge.materials import prompt_tools
from glmstudio.knowledge.table.fact_table import LONGEST_CELL, Row, Table
from glmstudio.models.library import Model

_AROUND = 12  # tokens of a conversation besides its texts
_TWICE, _TWO_ANSWERS = "knowledge.row.twice", "knowledge.row.two_answers"
_REFUSED = ("knowledge.row.no_question", "knowledge.row.no_answer", _TWICE, _TWO_ANSWERS)


@lru_cache(8)
def faults(table: Table) -> dict[int, StudioError]:
    """By a row's number, what is wrong with it. Rows are named as people count them, from 1."""
    found: dict[int, StudioError] = {}
    first: dict[str, tuple[int, str]] = {}
    for place, row in enumerate(table.rows, 1):
        if row.left_out or row.blank:
            continue
        if missing := _missing(row):
            found[row.number] = missing
        elif (fact := row.fact) is not None and (clash := _clash(fact, first)) is not None:
            where, key = clash
            found[row.number] = StudioError(key, row=where)
            if key == _TWO_ANSWERS:
                found.setdefault(table.rows[where - 1].number, StudioError("knowledge.row.other_answer", row=place))
        else:
            for asked in fact.trained if fact else ():
                first.setdefault(same(asked), (place, same(fact.answer) if fact else ""))
            if any(len(text) >= LONGEST_CELL for text in (row.question, row.answer)):
                found[row.number] = StudioError("knowledge.row.cell_cut", most=LONGEST_CELL)
    return found


@lru_cache(8)
def learned(table: Table) -> tuple[Fact, ...]:
    """The facts that can be learned, in order."""
    return tuple(fact for row in learned_rows(table) if (fact := row.fact))


def learned_rows(table: Table) -> list[Row]:
    """Their rows."""
    wrong = faults(table)
    refused = {number for number, error in wrong.items() if error.key in _REFUSED}
    return [row for row in table.rows if row.fact and not row.left_out and row.number not in refused]


def too_long(model: Model, limit: int, *, with_tools: bool) -> Callable[[Fact], int]:
    """A function that tells how many tokens a fact has, where these are more than `limit`; else 0."""
    listed = [tools_message(prompt_tools(model))] if with_tools else []
    before = len(spelled(_tokenizer(str(model.path)), listed)[0]) if listed else 0

    def count(fact: Fact) -> int:
        longest = max(fact.trained, key=len)
        if len((longest + fact.answer).encode()) + before + _AROUND <= limit:  # a token is at least a byte
            return 0
        messages = [Message("user", longest), Message("assistant", fact.answer)]
        tokens = len(spelled(_tokenizer(str(model.path)), [*listed, *messages])[0])
        return tokens if tokens > limit else 0

    return count


@lru_cache(2)
def _tokenizer(folder: str) -> Tokenizer:
    return Tokenizer(folder)


def _missing(row: Row) -> StudioError | None:
    if not row.question.strip():
        return StudioError("knowledge.row.no_question")
    return None if row.answer.strip() else StudioError("knowledge.row.no_answer")


def _clash(fact: Fact, first: dict[str, tuple[int, str]]) -> tuple[int, str] | None:
    """The row that asks the same as this fact, and whether its answer is another one."""
    for asked in fact.trained:
        if same(asked) in first:
            where, answer = first[same(asked)]
            return where, _TWICE if answer == same(fact.answer) else _TWO_ANSWERS
    return None
