"""One record as the model sees it: stretches of text that are learned, only read, or cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from glmstudio.data.protocol.tokenizer import Tokenizer

SHOWN_TOKENS = 20_000  # a page with more would be of no use, and slow


@dataclass(frozen=True)
class Piece:
    """A stretch of one kind: `trained`, `plain` or `cut`; a special token stands alone and is named by its text."""

    text: str
    kind: str
    special: bool = False
    tokens: int = 1


def pieces(tokenizer: Tokenizer, ids: Sequence[int], learned: Sequence[bool], end: int) -> list[Piece]:
    """The pieces of a record that is used up to `end`; of a very long one, the rest is one piece without its text."""
    rest = max(0, len(ids) - SHOWN_TOKENS)
    ids = ids[:SHOWN_TOKENS]
    special = tokenizer.marks
    kinds = ["cut" if at >= end else "trained" if learned[at] else "plain" for at in range(len(ids))]
    out: list[Piece] = []
    alone = groupby(range(len(ids)), key=lambda at: (kinds[at], at if ids[at] in special else None))
    for (kind, single), places in alone:
        run = [ids[at] for at in places]
        if single is not None:
            out.append(Piece(special[run[0]], kind, special=True))
        else:
            out.append(Piece(tokenizer.spell(run).replace("\0", "␀"), kind, tokens=len(run)))
    if rest:
        out.append(Piece("…", "cut" if end <= SHOWN_TOKENS else "plain", tokens=rest))
    return out
