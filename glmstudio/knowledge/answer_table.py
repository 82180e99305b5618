"""Questions and answers as a table to open elsewhere: CSV, Excel or JSONL."""

from __future__ import annotations

import csv
import io
import json
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.files import write_bytes

KINDS = ("csv", "xlsx", "jsonl")
COLUMNS = ("line", "question", "expected", "base", "tuned", "unfinished")
_FORMULAS = tuple("=+-@\t\r＝＋－＠")
_NO_SIGNS = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # that a workbook cannot hold
_LONGEST_CELL = 32_767  # characters, by Excel's rules

Row = dict[str, Any]


def check_target(out: Path, source: Path) -> None:
    """Raise StudioError where no table can be written to `out`: better before the questions than after them."""
    if out.suffix.lower().removeprefix(".") not in KINDS:
        raise StudioError("answers.out_kind", file=str(out), kinds=", ".join(f".{kind}" for kind in KINDS))
    if out.resolve() == source.resolve():
        raise StudioError("answers.out_is_source", file=str(out))
    probe = out.with_name(f".{out.name}.{secrets.token_hex(6)}")
    try:
        if out.exists() and not out.is_file():
            raise IsADirectoryError(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except (OSError, ValueError) as error:
        reason = error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
        raise StudioError("answers.out_refused", file=str(out), reason=reason) from error


def write_table(out: Path, rows: Sequence[Row]) -> None:
    """Write the table whole or not at all, in the form that the name's end tells. Raises OSError."""
    write_bytes(out, table(out.suffix.lower().removeprefix("."), rows))


def table(kind: str, rows: Sequence[Row]) -> bytes:
    """The table as a file of this kind. For people, columns that are empty in all rows are left out."""
    if kind == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    names = [name for name in COLUMNS if name in ("line", "question") or any(row.get(name) for row in rows)]
    cells = [[row[name] for name in names] for row in rows]
    return _csv(names, cells) if kind == "csv" else _xlsx(names, cells)


def harmless(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.lstrip(" \n").startswith(_FORMULAS) else text


def _csv(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([harmless(each) if isinstance(each, str) else each for each in row] for row in rows)
    return ("\ufeff" + out.getvalue()).encode()  # the mark by which spreadsheets know UTF-8


def _xlsx(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell

    book = Workbook(write_only=True)
    sheet = book.create_sheet("answers")
    sheet.append(list(names))
    for row in rows:
        cells = [WriteOnlyCell(sheet, _storable(each)) for each in row]
        for cell in cells:
            cell.data_type = "s" if isinstance(cell.value, str) else cell.data_type  # text, never a formula
        sheet.append(cells)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def _storable(value: Any) -> Any:
    return _NO_SIGNS.sub("", value)[:_LONGEST_CELL] if isinstance(value, str) else value
