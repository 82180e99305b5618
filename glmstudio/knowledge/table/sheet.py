"""Facts that come from elsewhere: a file that says which column is which, one that does not, and pasted cells."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from glmstudio.data.formats import format_of
from glmstudio.data.formats.facts import COLUMNS as NAMES
from glmstudio.data.formats.facts import PAIRS, Fact, read_fact
from glmstudio.data.formats.plain import COLUMN_PAIRS, normal_name
from glmstudio.data.readers.tables import MOST_COLUMNS, TABLES, field_names, field_text, raw_rows
from glmstudio.data.readers.values import read_values
from glmstudio.errors import StudioError
from glmstudio.files import read_table, write_json
from glmstudio.knowledge.table.fact_table import COLUMNS, MOST_ROWS, MOST_TEXT, cell, record_of
from glmstudio.paths import paths

_BY_NAME = {name: side for pair in (*PAIRS, *COLUMN_PAIRS) for side, name in zip(COLUMNS, pair, strict=False)}
_OPTIONAL = {"rephrase": "wordings", "neighbour": "neighbours"}


@dataclass(frozen=True)
class Sheet:
    """A table whose columns nobody knows yet."""

    name: str
    rows: tuple[tuple[str, ...], ...]

    @property
    def width(self) -> int:
        """How many columns it has."""
        return max(map(len, self.rows), default=0)

    def guessed(self) -> list[str]:
        """For each column, what its name says that it is; "" where it says nothing."""
        return [column_named(name) for name in (*self.rows[0], *[""] * (self.width - len(self.rows[0])))]

    def facts(self, columns: Sequence[str], *, named: bool) -> list[Fact]:
        """The facts, by what each column is; `named` leaves out the first row. Raises StudioError where no column is
        the question or the answer, or two are."""
        if any(columns.count(each) != 1 for each in ("question", "answer")):
            raise StudioError("knowledge.which_column")
        found = (_fact(_record(row, columns)) for row in self.rows[named:])
        return [fact for fact in found if fact]


def read_file(file: Path) -> list[Fact] | Sheet:
    """The facts of a file; where its columns have other names, the table itself. Raises StudioError for a file that
    cannot be read, and for one that holds too many facts, or none."""
    facts: list[Fact] = []
    others: list[dict[str, Any]] = []
    for _, value in read_values(file):
        if isinstance(value, StudioError):
            if value.key in ("data.csv_columns", "data.csv_names") and file.suffix.lower() in TABLES:
                return _sheet(file.name, raw_rows(file, MOST_ROWS + 1))
            continue
        if format_of(value) == "facts" and (fact := _fact(value)):
            facts.append(fact)
        elif isinstance(value, dict) and len(others) < MOST_ROWS:
            others.append(value)
        if len(facts) > MOST_ROWS:
            raise StudioError("knowledge.table_full", most=MOST_ROWS)
    if facts:
        return facts
    return _sheet(file.name, _plain(others))


def column_named(name: str) -> str:
    """The column of the table that a name stands for; "" where it stands for none."""
    plain = normal_name(name)
    if plain in _BY_NAME:
        return _BY_NAME[plain]
    return next((_OPTIONAL.get(column, column) for column, names in NAMES.items() if plain in names), "")


def pasted(text: str) -> list[list[str]]:
    """Cells as a spreadsheet gives them: rows on lines, columns between tabs, quotes where a cell has several lines."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    csv.field_size_limit(1 << 24)
    try:
        rows = list(islice(csv.reader(io.StringIO(text, newline=""), delimiter="\t", strict=True), MOST_ROWS + 1))
    except csv.Error:  # a quote that is no spreadsheet's
        rows = [line.split("\t") for line in text.split("\n")[: MOST_ROWS + 1]]
    rows = [row[:MOST_COLUMNS] for row in rows]
    while rows and not any(value.strip() for value in rows[-1]):
        rows.pop()
    return rows


def arranged(rows: list[list[str]]) -> list[list[str]] | None:
    """Pasted rows whose first one names a question and an answer, in the table's order and without that row; None
    where it names none."""
    names = [column_named(name) for name in rows[0]] if rows else []
    if not {"question", "answer"} <= set(names):
        return None
    return [["\n".join(_values(row, names, column)) for column in COLUMNS] for row in rows[1:]]


def keep(sheet: Sheet) -> None:
    """Remember a table until somebody has said what its columns are."""
    write_json(_file(), {"name": sheet.name, "rows": sheet.rows})


def waiting() -> Sheet | None:
    """The table that was kept."""
    try:
        about = _file().stat()
    except OSError:
        return None
    return _kept(_file(), about.st_mtime_ns)


@lru_cache(1)
def _kept(file: Path, _: int) -> Sheet | None:
    told = read_table(file)
    rows = told.get("rows")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
        return None
    return Sheet(str(told.get("name", "")), tuple(tuple(map(cell, row)) for row in rows))


def discard() -> None:
    """Forget it."""
    _file().unlink(missing_ok=True)


def _file() -> Path:
    return paths().state / "facts-columns.json"


def _sheet(name: str, rows: Sequence[Sequence[str]]) -> Sheet:
    if len(rows) < 2 or max(map(len, rows)) < 2:
        raise StudioError("knowledge.no_facts", file=name)
    if len(rows) > MOST_ROWS:
        raise StudioError("knowledge.table_full", most=MOST_ROWS)
    found = Sheet(name, tuple(tuple(map(cell, row[:MOST_COLUMNS])) for row in rows))
    if sum(len(each) for row in found.rows for each in row) > MOST_TEXT:
        raise StudioError("knowledge.table_large", millions=MOST_TEXT // 1_000_000)
    return found


def _plain(records: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Objects with plain values as a table; one that is nested is no table."""
    names = field_names(records)
    rows = [[field_text(record.get(name)) for name in names] for record in records]
    return [names, *(row for row in rows if any(row))] if any(map(any, rows)) else []


def _fact(record: dict[str, Any]) -> Fact | None:
    """The fact in a record; None where it is not whole."""
    try:
        return read_fact(record)
    except StudioError:
        return None


def _record(row: Sequence[str], columns: Sequence[str]) -> dict[str, Any]:
    return record_of({column: _one(_values(row, columns, column)) for column in COLUMNS})


def _values(row: Sequence[str], columns: Sequence[str], wanted: str) -> list[str]:
    return [value for value, column in zip(row, columns, strict=False) if column == wanted and value.strip()]


def _one(values: list[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else values or ""
