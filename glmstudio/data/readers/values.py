"""The values of a data file one after the other, each with the line it starts on; never the whole file at once."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glmstudio.data.formats.plain import is_known
from glmstudio.data.readers.passages import passages
from glmstudio.data.readers.pdf import pdf_values
from glmstudio.data.readers.sources import KINDS, Moved, is_broken, open_text
from glmstudio.data.readers.tables import Known, csv_rows, sheet_rows, too_long
from glmstudio.data.readers.word import word_values
from glmstudio.errors import StudioError

LONGEST_RECORD = 1 << 24  # characters: more is no conversation, and would fill the memory
_CHUNK = 1 << 18
_SPACE = " \t\r\n"
_SPACES = re.compile(f"[{_SPACE}]*")

Placed = tuple[int, Any]


def read_values(file: Path, moved: Moved | None = None, known: Known = is_known) -> Iterator[Placed]:
    """Line number and value of every entry of a data file (`sources.KINDS`); a StudioError where it is none. Texts are
    `Document`s. `known` says whether a table of these columns is one to read.

    Raises StudioError where the file itself cannot be read. `moved` hears how many bytes were read.
    """
    kind = file.suffix.lower()
    if kind == ".xlsx":
        yield from sheet_rows(file, moved, known)
        return
    if whole := {".docx": word_values, ".pdf": pdf_values}.get(kind):
        yield from whole(file, moved)
        return
    reader = {".jsonl": _lines, ".json": _array, ".txt": passages, ".md": passages}.get(kind, passages)
    if kind not in KINDS:
        raise StudioError("data.file_kind", file=str(file), kinds=", ".join(KINDS))
    with open_text(file, newline="" if kind == ".csv" else None, moved=moved) as text:
        yield from csv_rows(text, LONGEST_RECORD, known) if kind == ".csv" else reader(text)


def _lines(text: io.TextIOWrapper) -> Iterator[Placed]:
    number = 0
    while line := text.readline(LONGEST_RECORD + 1):
        number += 1
        if len(line) > LONGEST_RECORD:
            while line and not line.endswith("\n"):
                line = text.readline(LONGEST_RECORD)
            yield number, too_long(LONGEST_RECORD)
        elif is_broken(line):
            yield number, StudioError("data.line_encoding")
        elif line.strip(_SPACE):
            try:
                yield number, json.loads(line.rstrip(_SPACE))
            except (ValueError, RecursionError) as error:
                yield number, _not_json(error)


def _array(text: io.TextIOWrapper) -> Iterator[Placed]:
    """The elements of a JSON array, or objects one after the other; stops at the first place that is not JSON."""
    window = _Window(text)
    first = window.peek()
    if first not in ("[", "{"):
        yield 1, StudioError("data.file_not_array")
        return
    if first == "[":
        window.skip()
    closing, following = ("]", ",") if first == "[" else ("", "{")
    while window.peek() != closing:
        line = window.line
        value = window.value()
        yield line, value
        if isinstance(value, StudioError) and value.key != "data.line_encoding":
            return
        sign = window.peek()
        if sign == "," and closing:
            window.skip()
        elif sign not in (closing, following):
            yield window.line, StudioError("data.file_unfinished" if closing else "data.file_not_array")
            return
    if closing:
        window.skip()
        if window.peek():
            yield window.line, StudioError("data.file_goes_on")


def _after_space(text: str, place: int) -> int:
    found = _SPACES.match(text, place)
    return found.end() if found else place


class _Window:
    """The part of a JSON text that is being read, and the line where it stands."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text, self._buffer, self._place, self._ended = text, "", 0, False
        self._decoder = json.JSONDecoder()
        self.line = 1
        self._before = 0  # signs that stood on the buffer's first line before it

    def peek(self) -> str:
        """The next sign that is no space; empty at the end."""
        while True:
            start, self._place = self._place, _after_space(self._buffer, self._place)
            self.line += self._buffer.count("\n", start, self._place)
            if self._place < len(self._buffer) or not self._more(_CHUNK):
                return self._buffer[self._place : self._place + 1]

    def skip(self) -> None:
        """Past the sign that `peek` saw."""
        self._place += 1

    def value(self) -> Any:
        """The value that starts here, or the StudioError that says why there is none."""
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._place)
            except (ValueError, RecursionError) as error:
                if self._ended or not self._may_be_cut(error):
                    return self._not_json(error)
            else:
                if end < len(self._buffer) or self._ended:
                    return self._taken(value, end)
            if len(self._buffer) - self._place > LONGEST_RECORD:
                return too_long(LONGEST_RECORD)
            self._more(max(_CHUNK, len(self._buffer) - self._place))

    def _taken(self, value: Any, end: int) -> Any:
        broken = is_broken(self._buffer[self._place : end])
        self.line += self._buffer.count("\n", self._place, end)
        self._place = end
        return StudioError("data.line_encoding") if broken else value

    def _may_be_cut(self, error: Exception) -> bool:
        """Whether the text only goes on beyond the buffer; a word such as `false` has five letters."""
        if not isinstance(error, json.JSONDecodeError):
            return False
        return error.msg.startswith("Unterminated string") or error.pos > len(self._buffer) - 12

    def _not_json(self, error: Exception) -> StudioError:
        at_first = isinstance(error, json.JSONDecodeError) and "\n" not in self._buffer[: error.pos]
        column = _column(error) + (self._before if at_first else 0)
        return StudioError("data.not_json_rest", column=column)

    def _more(self, size: int) -> bool:
        chunk = self._text.read(size)
        self._ended = not chunk
        newline = self._buffer.rfind("\n", 0, self._place)
        self._before = self._before + self._place if newline < 0 else self._place - newline - 1
        self._buffer, self._place = self._buffer[self._place :] + chunk, 0
        return bool(chunk)


def _not_json(error: Exception) -> StudioError:
    return StudioError("data.not_json", column=_column(error))


def _column(error: Exception) -> int:
    return error.colno if isinstance(error, json.JSONDecodeError) else 1
