"""JSON as people save it: a record on each line, one list, or objects one after the other, under either name."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any

from glmstudio.data.readers.sources import is_broken
from glmstudio.data.readers.tables import too_long
from glmstudio.errors import StudioError

LONGEST_RECORD = 1 << 24  # characters: more is no conversation, and would fill the memory
_CHUNK = 1 << 18
_SPACE = " \t\r\n"
_BRACKETS = ("[", "]", "],", "[,")
_SPACES = re.compile(f"[{_SPACE}]*")

Placed = tuple[int, Any]


def json_lines(text: io.TextIOWrapper) -> Iterator[Placed]:
    """Line and value of a `.jsonl` file: each line by itself, so that a bad one spoils no other. Where the file begins
    as a list, or with an object of several lines, it is read as `json_values` reads it."""
    head = text.read(_CHUNK)
    source = _JsonText(head, text)
    yield from _lines(source) if _is_lines(head) else json_values(source)


class _JsonText:
    """A text of which the beginning was read already."""

    def __init__(self, head: str, text: io.TextIOWrapper) -> None:
        self._head, self._text = io.StringIO(head, newline=""), text

    def read(self, size: int) -> str:
        """So many characters at most; none at the end."""
        return self._head.read(size) or self._text.read(size)

    def readline(self, size: int) -> str:
        """A line with its end, or so much of it."""
        line = self._head.readline(size)
        if line.endswith("\n") or len(line) == size:
            return line
        return line + self._text.readline(size - len(line))


def _is_lines(head: str) -> bool:
    """Whether a text that begins like this has a record on each line, well or badly written."""
    start = _after_space(head, 0)
    first, _, rest = head[start:].partition("\n")
    second = rest.lstrip(_SPACE).partition("\n")[0]
    if _value(first) is not None:
        return first[:1] != "[" or second[:1] == "["
    if first.strip(_SPACE) in ("{", "[", "[{"):
        return _value(second) is not None  # a list may have one record on each line, too
    if first[:1] not in ("[", "{"):
        return True
    try:
        value, _ = json.JSONDecoder().raw_decode(head, start + (first[0] == "["))
    except (ValueError, RecursionError):
        return True
    return not isinstance(value, dict)


def _value(line: str) -> Any:
    """What a line holds, a comma behind it or not; None where it is no JSON."""
    try:
        return json.loads(line.rstrip(_SPACE).removesuffix(","))
    except (ValueError, RecursionError):
        return None


def _lines(text: _JsonText) -> Iterator[Placed]:
    number = 0
    while line := text.readline(LONGEST_RECORD + 1):
        number += 1
        if len(line) > LONGEST_RECORD:
            while line and not line.endswith("\n"):
                line = text.readline(LONGEST_RECORD)
            yield number, too_long(LONGEST_RECORD)
        elif is_broken(line):
            yield number, StudioError("data.line_encoding")
        elif bare := line.strip(_SPACE):
            try:
                yield number, json.loads(line.rstrip(_SPACE))
            except (ValueError, RecursionError) as error:
                if bare in _BRACKETS:  # of a list with a record on each line
                    continue
                value = _value(line) if bare.endswith(",") else None
                yield number, _not_json(error) if value is None else value


def json_values(text: io.TextIOWrapper | _JsonText) -> Iterator[Placed]:
    """The elements of a JSON array, or objects one after the other, with commas or without; stops at the first place
    that is not JSON."""
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
        if sign == ",":  # one behind the last is too many, and harmless
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

    def __init__(self, text: io.TextIOWrapper | _JsonText) -> None:
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
