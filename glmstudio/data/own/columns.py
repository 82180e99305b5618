"""Files whose columns nobody knows: their first rows, and the same records under names that are known."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from glmstudio.data.formats import conversations
from glmstudio.data.formats.plain import side_of
from glmstudio.data.own.own_files import UPLOAD, changing, find_own, free_path, note, replaced
from glmstudio.data.readers.sources import RECORDS, is_broken, source_files
from glmstudio.data.readers.tables import MOST_COLUMNS, TABLES, field_names, field_text, raw_rows
from glmstudio.data.readers.values import read_values
from glmstudio.errors import StudioError
from glmstudio.files import write_text
from glmstudio.paths import paths

SHOWN = 5
MOST_ROWS = 200_000
_UNKNOWN = ("data.csv_columns", "data.csv_names")


@dataclass(frozen=True)
class UnknownColumns:
    """A file whose columns have names that say nothing, or none at all; `rows` are the first ones, with that of the
    names where it is a table."""

    file: Path
    rows: tuple[tuple[str, ...], ...]
    named: bool  # the names are certain: those of JSON objects

    @property
    def width(self) -> int:
        """How many columns it has."""
        return max(map(len, self.rows), default=0)

    def guessed(self) -> tuple[int, int]:
        """The columns that are the question and the answer, as far as anybody can tell: by their names, else those
        with the longest texts."""
        sides = [side_of(name) for name in self.rows[0]]
        named = [sides.index(side) if side in sides else None for side in ("question", "answer")]
        rest = [column for column in range(self.width) if column not in named]
        rest.sort(key=lambda column: -sum(len(row[column]) for row in self.rows[1:] if column < len(row)))
        filling = iter(sorted(rest[: named.count(None)]))
        question, answer = (next(filling) if column is None else column for column in named)
        return question, answer


@dataclass(frozen=True)
class NamedRecords:
    """Where the records were written, how many, and how many rows were left out because one of the two was empty."""

    file: Path
    records: int
    left_out: int


def unknown_columns(source: Path) -> UnknownColumns | None:
    """The first file of a source whose columns nobody knows; None where there is none, or it has not two of them.
    Raises StudioError where the source cannot be read."""
    for file in source_files(source):
        if file.suffix.lower() in RECORDS and (found := _unknown(file)) is not None and found.width > 1:
            return found
    return None


def use_columns(found: UnknownColumns, question: int, answer: int, *, named: bool) -> NamedRecords:
    """Write the records under names that are known, as JSONL: in the place of an own file, else among the own ones.

    `named`: the first row holds the names. Raises StudioError where the columns are the same one or are none, where
    there are too many rows, and where no row has something in both.
    """
    if question == answer or not all(0 <= column < found.width for column in (question, answer)):
        raise StudioError("data.which_columns")
    rows = _all_rows(found, named=named)
    lines = [
        json.dumps({"question": row[question], "answer": row[answer]}, ensure_ascii=False) + "\n"
        for row in rows
        if row[question].strip() and row[answer].strip()
    ]
    if not lines:
        raise StudioError("data.columns_empty", file=found.file.name)
    with changing():
        return NamedRecords(_written(found.file, "".join(lines)), len(lines), len(rows) - len(lines))


def _written(file: Path, text: str) -> Path:
    """Put the records in the place of an own file; another one stays, and they become a dataset of their own."""
    own = find_own(file)
    wanted = (file.parent if own else paths().data) / f"{file.stem}.jsonl"
    target = file if own and wanted == file else free_path(wanted)
    write_text(target, text)
    if own is None:
        note(target, UPLOAD)
    elif target != file:
        replaced(file, target, edited=False)
        file.unlink()
    return target


def _unknown(file: Path) -> UnknownColumns | None:
    values = [value for _, value in islice(read_values(file), SHOWN)]
    if file.suffix.lower() in TABLES:
        if not values or not isinstance(values[0], StudioError) or values[0].key not in _UNKNOWN:
            return None
        rows = raw_rows(file, SHOWN + 1)
        return UnknownColumns(file, tuple(tuple(row[:MOST_COLUMNS]) for row in rows), named=False) if rows else None
    records = [value for value in values if isinstance(value, dict)]
    if not records or len(records) < len(values) or any(not _is_unknown(record) for record in records):
        return None
    names = field_names(records)
    return UnknownColumns(file, (tuple(names), *(_row(record, names) for record in records)), named=True)


def _is_unknown(record: dict[str, Any]) -> bool:
    """Whether nobody knows its fields, and there are plain values in them."""
    first = next(conversations(record), None)
    unknown = isinstance(first, StudioError) and first.key == "data.fields_unknown"
    return unknown and any(map(field_text, record.values()))


def _all_rows(found: UnknownColumns, *, named: bool) -> list[tuple[str, ...]]:
    """Every row, at least as wide as the widest one that was shown."""
    if found.named:
        records = (value for _, value in read_values(found.file) if isinstance(value, dict))
        rows = [_row(record, found.rows[0]) for record in islice(records, MOST_ROWS + 1)]
    else:
        rows = [tuple(row) for row in raw_rows(found.file, MOST_ROWS + 2)[named:]]
    if len(rows) > MOST_ROWS:
        raise StudioError("data.columns_many", file=found.file.name, most=MOST_ROWS)
    if any(is_broken(cell) for row in rows for cell in row):
        raise StudioError("data.file_encoding", file=found.file.name)
    return [(*row, *[""] * (found.width - len(row))) for row in rows]


def _row(record: dict[str, Any], names: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return tuple(field_text(record.get(name)) for name in names)
