"""Documents cut into pieces of so many tokens: at the ends of paragraphs, in longer ones at those of sentences, else
anywhere.

A piece is tokenised by itself, so it begins as a text begins; only the last one of a document ends as a text ends.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from glmstudio.data.formats.text import Document
from glmstudio.data.protocol.tokenizer import Tokenizer

PIECE = 2048  # tokens, where nobody names another number
_AROUND = 3  # tokens that are not the text's own: two before it, one after it
_CLOSING = r"[\"'”’」』）)\]]*"
_ENDS = (
    r"\n(?:[ \t\u3000]*\n)+",  # paragraphs with empty lines between them
    rf"[.!?:。！？：…]{_CLOSING}[ \t]*\n",  # or one on each line
    rf"[.!?;…]{_CLOSING}\s+|[。！？；…]+{_CLOSING}\s*",
    r"\n",
    r"[\s,，、]+",
)
_EMPTY_LINES = re.compile(r"(?:[ \t\u3000]*\n)+")
_CUTS = tuple(map(re.compile, _ENDS))

Placed = tuple[int, Any]


class Cutter:
    """Cuts for one tokenizer and limit."""

    def __init__(self, tokenizer: Tokenizer, limit: int) -> None:
        self.tokenizer, self._room = tokenizer, max(1, limit - _AROUND)
        self._before = len(tokenizer.encode("\n"))

    def __call__(self, values: Iterable[Placed]) -> Iterator[Placed]:
        """The values of a data file, with the pieces of each document in its place; the others are as they were."""
        for line, value in values:
            if isinstance(value, Document):
                yield from self._pieces(line, value)
            else:
                yield line, value

    def _pieces(self, line: int, document: Document) -> Iterator[Placed]:
        found = list(self._filled(document.text))
        for number, (start, text) in enumerate(found, 1):
            goes_on = document.goes_on or number < len(found)
            yield line + document.text.count("\n", 0, start), Document(text, goes_on)

    def _filled(self, text: str) -> Iterator[tuple[int, str]]:
        """Where each piece starts, and the piece: as many parts as fit."""
        waiting = deque(self._parts(text, 0))
        place = 0
        while waiting:
            taken, tokens = list[tuple[str, int]](), 0
            while waiting and (not taken or tokens + waiting[0][1] - _after(waiting[0][0]) <= self._room):
                taken.append(waiting.popleft())
                tokens += taken[-1][1]
            while len(taken) > 1 and len(self.tokenizer.encode(_joined(taken).rstrip())) > self._room:
                waiting.appendleft(taken.pop())  # across the seams there may be more tokens than in the parts
            whole = _joined(taken)
            empty = _EMPTY_LINES.match(whole)
            start = empty.end() if empty else 0
            if piece := whole[start:].rstrip():
                yield place + start, piece
            place += len(whole)

    def _parts(self, text: str, level: int) -> Iterator[tuple[str, int]]:
        """Parts that fit, whole paragraphs where they do, and the tokens of each."""
        tokens = self._count(text) if level else self._room + 1  # a whole document is hardly one part
        if tokens - _after(text) <= self._room or level > len(_CUTS):
            yield text, tokens
            return
        if level == len(_CUTS):
            width = max(1, self._room // 4)  # the rarest characters are four tokens each
            ends = list(range(width, len(text), width))
        else:
            ends = [found.end() for found in _CUTS[level].finditer(text)]
        for start, end in zip([0, *ends], [*ends, len(text)], strict=True):
            if start < end:
                yield from self._parts(text[start:end], level + 1)

    def _count(self, text: str) -> int:
        """The tokens of a text that does not stand at the beginning."""
        return len(self.tokenizer.encode(f"\n{text}")) - self._before


def _after(text: str) -> int:
    """The tokens behind a text that its piece does not need where it ends there."""
    return text.count("\n", len(text.rstrip()))


def _joined(parts: Iterable[tuple[str, int]]) -> str:
    return "".join(text for text, _ in parts)
