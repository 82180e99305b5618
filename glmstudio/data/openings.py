"""What conversations begin with: the tools and the system prompt, which many of them have in common."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from glmstudio.data.store import Store
from glmstudio.data.table import Numbers

_LEAST = 16  # tokens; less is not worth a place of its own


@dataclass(frozen=True)
class Openings:
    """For each of N conversations: those of one `family` (N) begin with the same `length` (N) of tokens, of which none
    is learned and after which no learned one follows at once. Where that is 0, the conversation is alone, in a family
    below 0."""

    family: Numbers
    length: Numbers


def openings_of(store: Store, rows: Numbers, ends: Numbers, user: int) -> Openings:
    """The openings of chosen rows up to their ends: all that stands before the first turn of the user, whose special
    token is `user`."""
    families: dict[bytes, int] = {}
    family, length = np.empty(len(rows), np.int64), np.zeros(len(rows), np.int64)
    for at, (row, end) in enumerate(zip(rows.tolist(), ends.tolist(), strict=True)):
        ids = store.ids(row, end)
        turns = np.flatnonzero(ids == user)
        before = int(turns[0]) if len(turns) else 0
        if before < _LEAST or store.learned(row, before + 1).any():
            family[at] = -1 - at
            continue
        length[at] = before
        family[at] = families.setdefault(hashlib.sha256(ids[:before].tobytes()).digest(), len(families))
    return Openings(family, length)
