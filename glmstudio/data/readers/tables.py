"""The rows of a table, CSV or Excel, as objects by the names in its first row."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from glmstudio.data.formats import has_record_columns
from glmstudio.data.formats.facts import several_of
from glmstudio.data.formats.plain import QUESTION_AND_ANSWER, normal_name
from glmstudio.data.readers.sources import Moved, is_broken, kind_of, on_disk, open_text, sheet_name
from glmstudio.errors import StudioError
from glmstudio.files import short

TABLES = (".csv", ".xlsx")
MOST_COLUMNS = 30  # among which somebody has to choose
_DELIMITERS = ",;\t"
_BLANK = " \t\r\n\ufeff"
_HINT = re.compile(r'"?sep=(.)"?[,;\t]*', re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_ERRORS = frozenset(("#N/A", "#VALUE!", "#REF!", "#DIV/0!", "#NAME?", "#NULL!", "#NUM!", "#SPILL!", "#CALC!"))
_LONGEST_CELL = 1 << 24
_HEAD = 1 << 16
_LARGEST_BOOK = 1 << 30  # bytes of a workbook when unpacked: a small file can pretend to any size

Placed = tuple[int, Any]
Known = Callable[[Iterable[str]], bool]


def field_names(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names of all fields of some records, each once: the head of the table that they would be."""
    return list(dict.fromkeys(str(name) for record in records for name in record))[:MOST_COLUMNS]


def field_text(value: Any) -> str:
    """A field as the cell of a table; "" for what is no plain value."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""


def csv_rows(text: io.TextIOWrapper, longest: int, known: Known = has_record_columns) -> Iterator[Placed]:
    """Line number and row of a CSV table with comma, semicolon or tab; a StudioError where a row cannot be used, and
    where a line is longer than so many characters. `known` says whether its columns are those of records."""
    csv.field_size_limit(longest)
    lines = _Lines(text, longest)
    try:
        header, delimiter, passed = _header(lines)
    except csv.Error:
        yield 1, too_long(longest)
        return
    rows = csv.reader(_again(header, lines), delimiter=delimiter, strict=True)
    names: list[str] = []
    while True:
        line = passed + rows.line_num + 1
        try:
            cells = next(rows, None)
        except csv.Error:
            yield line, too_long(longest) if lines.too_long else StudioError("data.csv_broken")
            return
        if cells is None:
            return
        if not names:
            names = [normal_name(name) for name in cells]
            if wrong := _wrong_names(names, known):
                yield line, wrong
                return
        elif any(is_broken(cell) for cell in cells):
            yield line, StudioError("data.line_encoding")
        elif any(cell.strip() for cell in cells):
            yield line, _row(names, cells)


def _header(lines: Iterator[str]) -> tuple[str, str, int]:
    """The first line that says something, the delimiter, and how many lines stand before it: empty ones, and Excel's
    hint at the delimiter."""
    passed, hinted = 0, ""
    for line in lines:
        if hint := _HINT.fullmatch(line.strip(_BLANK)):
            hinted = hint[1]
        elif line.strip(_BLANK + _DELIMITERS + '"'):
            return line, hinted or max(_DELIMITERS, key=_QUOTED.sub("", line).count), passed
        passed += 1
    return "", ",", passed


def sheet_rows(file: Path, moved: Moved | None = None, known: Known = has_record_columns) -> Iterator[Placed]:
    """Row number and row of the first sheet of an Excel workbook; a StudioError where a row cannot be used.

    Raises StudioError for a file that is no workbook. `moved` hears of the file's bytes, all at once.
    """
    names: list[str] = []
    for line, cells in _sheet(file):
        texts = [_text(cell) for cell in cells]
        if not any(text.strip() for text in texts):
            continue
        if not names:
            names = [normal_name(text) for text in texts]
            if wrong := _wrong_names(names, known):
                yield line, wrong
                return
            continue
        yield line, _row(names, [*texts, *[""] * (len(names) - len(texts))])
    if moved is not None:
        moved(on_disk(file).stat().st_size)


def raw_rows(file: Path, most: int) -> list[list[str]]:
    """The first rows of a table as they stand, without looking for names. Raises StudioError for what is no table."""
    if kind_of(file) == ".xlsx":
        cells = ([_text(cell) for cell in row] for _, row in _sheet(file))
        return list(islice((row for row in cells if any(cell.strip() for cell in row)), most))
    with open_text(file, newline="") as text:
        csv.field_size_limit(_LONGEST_CELL)
        head = io.StringIO(text.read(_HEAD), newline="")
        header, delimiter, _ = _header(head)
        rows = csv.reader(chain([header], head, text), delimiter=delimiter)
        try:
            return list(islice((row for row in rows if any(cell.strip() for cell in row)), most))
        except csv.Error as error:
            raise StudioError("data.csv_broken") from error


def _sheet(file: Path) -> Iterator[tuple[int, Sequence[Any]]]:
    """Number and values of each row of the first sheet, or of the one that is named. Formulas count as what they were
    worth when it was saved. Rows and columns that are hidden are read, too."""
    from openpyxl import load_workbook

    try:
        with zipfile.ZipFile(on_disk(file)) as parts, warnings.catch_warnings():
            if sum(part.file_size for part in parts.infolist()) > _LARGEST_BOOK:
                raise StudioError("data.sheet_large", file=str(file))
            warnings.simplefilter("ignore")  # about fonts and the like
            book = load_workbook(on_disk(file), read_only=True, data_only=True, keep_links=False)
            if not book.worksheets:
                return
            sheet = _chosen(book, file)
            sheet.reset_dimensions()  # what the file says of its size can be anything
            yield from enumerate(sheet.iter_rows(values_only=True), 1)
            book.close()
    except (StudioError, GeneratorExit):
        raise
    except OSError as error:
        raise StudioError("data.file_unreadable", file=str(file), reason=error.strerror or str(error)) from error
    except Exception as error:  # a workbook from outside can break its reader anywhere
        raise StudioError("data.sheet_unreadable", file=str(file)) from error


def _chosen(book: Any, file: Path) -> Any:
    """The sheet to read. Raises StudioError where the named one is not there."""
    wanted, names = sheet_name(file), [sheet.title for sheet in book.worksheets]
    if not wanted:
        return book.worksheets[0]
    if wanted not in names:
        shown = ", ".join(short(name, 31) for name in names[:20])
        raise StudioError("data.sheet_missing", file=str(on_disk(file)), sheet=short(wanted, 31), sheets=shown)
    return book.worksheets[names.index(wanted)]


def _text(cell: Any) -> str:
    """A cell as it reads in the sheet: whole numbers without a point, days without a time; a failed formula is none."""
    if cell is None or (isinstance(cell, str) and cell in _ERRORS):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, dt.datetime) and cell.time() == dt.time():
        return cell.date().isoformat()
    return str(cell)


def _wrong_names(names: list[str], known: Known) -> StudioError | None:
    named = [name for name in names if name]
    once = [name for name in named if not several_of(name)]
    if len(set(once)) != len(once):
        return StudioError("data.csv_names")
    if known(named):
        return None
    seen = ", ".join(short(name, 30) for name in named[:12])
    return StudioError("data.csv_columns", columns=seen or "–", known=QUESTION_AND_ANSWER)


class Row(dict[str, Any]):
    """A row by the names of its columns; `nameless` is the number of a column without a name that says something."""

    nameless = 0


def _row(names: list[str], cells: Sequence[str]) -> Any:
    """Cells beyond the named columns are left out where they are empty: Excel writes some for each row, or for the
    first rows alone."""
    more = [place for place, cell in enumerate(cells) if cell.strip() and not (place < len(names) and names[place])]
    named = max((place for place, name in enumerate(names, 1) if name), default=0)
    if len(cells) < named or any(place >= len(names) for place in more):
        return StudioError("data.csv_cells", cells=len(cells), columns=len(names))
    row = Row()
    for name, cell in zip(names, cells, strict=False):
        if name:
            row[name] = [*row.get(name, []), cell] if several_of(name) else cell
    row.nameless = more[0] + 1 if more else 0
    return row


class _Lines(Iterator[str]):
    """The lines of a table; one that is too long ends it."""

    def __init__(self, text: io.TextIOWrapper, longest: int) -> None:
        self._text, self._longest, self.too_long = text, longest, False

    def __next__(self) -> str:
        line = self._text.readline(self._longest + 1)
        if not line:
            raise StopIteration
        if len(line) > self._longest:
            self.too_long = True
            raise csv.Error
        return line


def too_long(longest: int) -> StudioError:
    """What is said of a record that is none: nobody writes so long a conversation."""
    return StudioError("data.record_too_long", millions=longest >> 20)


def _again(first: str, rest: Iterator[str]) -> Iterator[str]:
    if first:
        yield first
    yield from rest
