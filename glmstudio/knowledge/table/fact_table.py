"""The facts that somebody types, as rows: each cell is text, and a row may be unfinished.

A table is never changed: each edit gives another one. `knowledge.table.draft` keeps it on disk.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any

from glmstudio.data.formats.facts import Fact, read_fact
from glmstudio.errors import StudioError
from glmstudio.files import whole_text

COLUMNS = ("question", "answer", "wordings", "apply_question", "apply_answer", "neighbours", "keywords")
MOST_ROWS = 10_000
LONGEST_CELL = 20_000  # characters: more is no fact, and would fill the page
MOST_TEXT = 8_000_000  # characters of a whole table
_RECORD_NAMES = {"wordings": "rephrase", "neighbours": "neighbour"}
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff]")
_KEPT = 20_000


@dataclass(frozen=True)
class Proposal:
    """What could be added to a fact: another wording of its question, or with an `answer` a fact of its own."""

    question: str
    answer: str = ""


@dataclass(frozen=True)
class Row:
    """One fact as it is typed; columns of several values have one on each line. `number` is never given twice."""

    number: int
    question: str = ""
    answer: str = ""
    wordings: str = ""
    apply_question: str = ""
    apply_answer: str = ""
    neighbours: str = ""
    keywords: str = ""
    left_out: bool = False
    proposed: tuple[Proposal, ...] = ()

    @property
    def blank(self) -> bool:
        """Whether nothing stands in it."""
        return not any(getattr(self, column).strip() for column in COLUMNS)

    @property
    def fact(self) -> Fact | None:
        """The fact; None where its question or answer is missing."""
        return _fact_of(tuple(getattr(self, column) for column in COLUMNS))

    def to_json(self) -> dict[str, Any]:
        """Without what is empty."""
        found = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "proposed"}
        proposed = [[each.question, each.answer] for each in self.proposed]
        return {name: value for name, value in (found | {"proposed": proposed}).items() if value}

    @classmethod
    def from_json(cls, value: Any) -> Row | None:
        """What `to_json` gave; None for anything else."""
        if not isinstance(value, dict) or type(value.get("number")) is not int:
            return None
        cells = {column: cell(value.get(column, "")) for column in COLUMNS}
        given = value.get("proposed")
        proposed = [Proposal(*map(str, each)) for each in given if _is_pair(each)] if isinstance(given, list) else []
        left_out = value.get("left_out") is True
        return cls(value["number"], **cells, left_out=left_out, proposed=tuple(proposed))

    @classmethod
    def of(cls, number: int, fact: Fact) -> Row:
        """The row of a fact."""
        return cls(
            number,
            cell(fact.question),
            cell(fact.answer),
            cell("\n".join(fact.wordings)),
            cell("\n".join(asked for asked, _ in fact.applied)),
            cell("\n".join(due for _, due in fact.applied)),
            cell("\n".join(fact.neighbours)),
            cell("\n".join(fact.keywords)),
        )


@dataclass(frozen=True, eq=False)  # itself is what it is remembered by
class Table:
    """Rows in order; `following` is the number of the next one."""

    rows: tuple[Row, ...] = ()
    following: int = 1

    @cached_property
    def places(self) -> dict[int, int]:
        """The place of each row by its number."""
        return {row.number: place for place, row in enumerate(self.rows)}

    @property
    def filled(self) -> list[Row]:
        """The rows in which something stands."""
        return [row for row in self.rows if not row.blank]

    def row(self, number: int) -> Row | None:
        """The row of that number."""
        place = self.places.get(number)
        return None if place is None else self.rows[place]

    def put(self, number: int, **values: Any) -> Table:
        """Change a row; one with the following number comes into being. Another that is not there changes nothing."""
        if number == self.following:
            return self.add_rows([Row(number, **values)])
        place = self.places.get(number)
        if place is None:
            return self
        rows = list(self.rows)
        rows[place] = replace(rows[place], **values)
        return replace(self, rows=tuple(rows))

    def each(self, change: Callable[[Row], Row]) -> Table:
        """Change every row."""
        return replace(self, rows=tuple(map(change, self.rows)))

    def add_rows(self, rows: Iterable[Row], after: int | None = None) -> Table:
        """Put rows at the end, or after the row of that number. Raises StudioError for too many."""
        new = [replace(row, number=number) for number, row in enumerate(rows, self.following)]
        if len(self.rows) + len(new) > MOST_ROWS:
            raise StudioError("knowledge.table_full", most=MOST_ROWS)
        place = len(self.rows) if after is None else self.places.get(after, len(self.rows) - 1) + 1
        return Table((*self.rows[:place], *new, *self.rows[place:]), self.following + len(new))

    def add_facts(self, facts: Iterable[Fact]) -> tuple[Table, int]:
        """The table with those facts that are not in it yet, and how many these are. Raises StudioError."""
        known = {(row.question.strip(), row.answer.strip()) for row in self.rows}
        new: list[Row] = []
        for fact in facts:
            row = Row.of(0, fact)
            pair = row.question.strip(), row.answer.strip()
            if pair not in known:
                known.add(pair)
                new.append(row)
        return self.without_blanks().add_rows(new), len(new)

    def delete(self, number: int) -> Table:
        """Without that row."""
        return replace(self, rows=tuple(row for row in self.rows if row.number != number))

    def without_blanks(self) -> Table:
        """Without rows in which nothing stands."""
        return replace(self, rows=tuple(self.filled))

    def paste(self, number: int, column: str, cells: Sequence[Sequence[str]]) -> Table:
        """Fill rows and columns from a cell on, as a spreadsheet does; rows are made where there are none."""
        names = COLUMNS[COLUMNS.index(column) :]
        rows = list(self.rows)
        following, place = self.following, self.places.get(number, len(self.rows))
        for at, values in enumerate(cells, place):
            if at == len(rows):
                rows.append(Row(following))
                following += 1
            filled: dict[str, Any] = {name: cell(text) for name, text in zip(names, values, strict=False)}
            rows[at] = replace(rows[at], **filled)
        if len(rows) > MOST_ROWS:
            raise StudioError("knowledge.table_full", most=MOST_ROWS)
        return Table(tuple(rows), following)

    def checked(self) -> Table:
        """Itself. Raises StudioError where it holds too much text."""
        if sum(len(getattr(row, column)) for row in self.rows for column in COLUMNS) > MOST_TEXT:
            raise StudioError("knowledge.table_large", millions=MOST_TEXT // 1_000_000)
        return self


def cell(value: Any) -> str:
    """Anything as the text of a cell: whole characters, no control signs, and only so many."""
    text = value if isinstance(value, str) else ""
    return _CONTROLS.sub("", whole_text(text[:LONGEST_CELL]).replace("\r\n", "\n").replace("\r", "\n"))


def record_of(cells: dict[str, Any]) -> dict[str, Any]:
    """Cells by column as a record of a facts file."""
    return {_RECORD_NAMES.get(column, column): value for column, value in cells.items()}


@lru_cache(_KEPT)
def _fact_of(cells: tuple[str, ...]) -> Fact | None:
    named = dict(zip(COLUMNS, cells, strict=True))
    if not named["question"].strip():
        return None
    return read_fact(record_of(named | {name: named[name].strip() for name in ("question", "answer")}))


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(each, str) for each in value)
