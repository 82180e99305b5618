"""A text file as stretches that fit into memory, each from one paragraph's beginning to another's end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO, Any

from glmstudio.data.formats.text import Document
from glmstudio.data.readers.sources import is_broken
from glmstudio.errors import StudioError

_STRETCH = 1 << 20  # characters from which on a stretch ends with its paragraph
_LONGEST = 4 * _STRETCH  # and where it ends in any case

Placed = tuple[int, Any]


def passages(text: IO[str]) -> Iterator[Placed]:
    """Line and text of every stretch, as a `Document`; a StudioError in the place of a line that is no text."""
    return stretches(_lines(text))


def stretches(lines: Iterable[tuple[int, str]]) -> Iterator[Placed]:
    """The same for lines that have their numbers."""
    waiting: Placed | None = None  # only what comes after it tells whether its document goes on
    for line, found in _gathered(lines):
        if isinstance(found, StudioError):
            if waiting is not None:
                yield waiting[0], Document(waiting[1], goes_on=True)
                waiting = None
            yield line, found
            continue
        if waiting is not None:
            yield waiting[0], Document(waiting[1], goes_on=True)
        waiting = line, found
    if waiting is not None:
        yield waiting[0], Document(waiting[1])


def _lines(text: IO[str]) -> Iterator[tuple[int, str]]:
    """Every line with its number; of one without an end, parts."""
    number = 1
    while line := text.readline(_STRETCH):
        yield number, line
        number += line.endswith("\n")


def _gathered(lines: Iterable[tuple[int, str]]) -> Iterator[Placed]:
    """Line and text of every stretch that says something, and a StudioError for each bad line."""
    first, size, gathered = 1, 0, list[str]()
    for number, line in lines:
        wrong = "\0" in line or is_broken(line)
        if gathered and (wrong or size >= _LONGEST or (size >= _STRETCH and not line.strip())):
            yield first, "".join(gathered)
            size, gathered = 0, []
        if "\0" in line:
            yield number, StudioError("data.not_text")
            return
        if wrong:
            yield number, StudioError("data.line_encoding")
        elif gathered or line.strip():
            first = first if gathered else number
            gathered.append(line)
            size += len(line)
    if gathered:
        yield first, "".join(gathered)
