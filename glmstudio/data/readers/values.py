"""The values of a data file one after the other, each with the line it starts on; never the whole file at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glmstudio.data.formats import has_record_columns
from glmstudio.data.readers import json_text
from glmstudio.data.readers.passages import passages
from glmstudio.data.readers.pdf import pdf_values
from glmstudio.data.readers.sources import KINDS, Moved, kind_of, open_text
from glmstudio.data.readers.tables import Known, csv_rows, sheet_rows
from glmstudio.data.readers.word import word_values
from glmstudio.errors import StudioError

Placed = tuple[int, Any]


def read_values(file: Path, moved: Moved | None = None, known: Known = has_record_columns) -> Iterator[Placed]:
    """Line number and value of every entry of a data file (`sources.KINDS`); a StudioError where it is none. Texts are
    `Document`s. `known` says whether a table of these columns is one to read.

    Raises StudioError where the file itself cannot be read. `moved` hears how many bytes were read.
    """
    kind = kind_of(file)
    if kind == ".xlsx":
        yield from sheet_rows(file, moved, known)
        return
    if whole := {".docx": word_values, ".pdf": pdf_values}.get(kind):
        yield from whole(file, moved)
        return
    if kind not in KINDS:
        raise StudioError("data.file_kind", file=str(file), kinds=", ".join(KINDS))
    try:
        with open_text(file, newline="" if kind == ".csv" else None, moved=moved) as text:
            if kind == ".csv":
                yield from csv_rows(text, json_text.LONGEST_RECORD, known)
            else:
                yield from {".jsonl": json_text.json_lines, ".json": json_text.json_values}.get(kind, passages)(text)
    except StudioError as problem:
        if problem.key != "data.encoding_unknown":
            raise
        yield 1, problem
