"""Which records of a prepared dataset are trained on, and how much of each: by policy and limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from glmstudio.data.table import GENERAL, MAY_REPEAT, MENDED, TOOLS, Numbers, TokenTable

POLICIES = ("stop", "drop", "fix")


@dataclass(frozen=True)
class Selection:
    """The rows that are kept, the length of each, and how many of its tokens are learned (`labels`). `used` + `dropped`
    is every record of the source.

    `mended` counts kept records whose content was fixed, `cut` kept ones that are shorter than they were; of the
    dropped, `lost` were left out for the limit and `duplicates` because they were there before. `with_tools` counts
    kept records that tell the model of tools, `mixed` the general ones of the mixture.
    """

    policy: str
    max_length: int
    rows: Numbers
    ends: Numbers
    labels: Numbers
    used: int
    mended: int
    dropped: int
    cut: int
    lost: int
    duplicates: int
    tokens: int
    learned: int
    with_tools: int
    mixed: int = 0


def select(table: TokenTable, policy: str, max_length: int, *, plain_cut: bool) -> Selection:
    """What is trained on. Where the policy is `stop`, the store has refused data with problems before."""
    kept = ~table.flagged(MENDED) if policy == "drop" else np.ones(len(table), np.bool_)
    repeated = _repeated(table, kept)
    kept &= ~repeated
    ends, learned = table.lengths.astype(np.int64), table.rows["learned"].astype(np.int64)
    _shorten(table, ends, learned, max_length, "plain" if plain_cut else policy)
    lost = kept & (learned == 0)
    return _counted(table, policy, max_length, kept & ~lost, (ends, learned, lost, repeated))


def held_back(table: TokenTable, chosen: Selection, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Which of the chosen rows are kept to validate, and never learned from."""
    return table.split(share, seed)[chosen.rows]


def _repeated(table: TokenTable, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which of the kept rows say the same as a kept one before them."""
    rows = np.flatnonzero(kept & ~table.flagged(MAY_REPEAT))
    _, first = np.unique(table.rows["mark"][rows], return_index=True)
    again = np.zeros(len(table), np.bool_)
    again[np.delete(rows, first)] = True
    return again


def _shorten(table: TokenTable, ends: Numbers, learned: Numbers, limit: int, how: str) -> None:
    """Cut what is over the limit: plainly, to whole exchanges, or (with `drop`) not at all: then nothing is learned."""
    found = table.over(limit)
    ends[found.rows] = limit
    learned[found.rows] = found.within
    if how == "plain":
        return
    rows = found.rows[found.bad]
    whole = table.whole_answers(limit) if how == "fix" else (np.zeros_like(ends), np.zeros_like(learned))
    ends[rows], learned[rows] = whole[0][rows], whole[1][rows]


def _counted(
    table: TokenTable, policy: str, limit: int, kept: npt.NDArray[np.bool_], found: tuple[Any, ...]
) -> Selection:
    ends, learned, lost, repeated = found
    rows = np.flatnonzero(kept)
    return Selection(
        policy=policy,
        max_length=limit,
        rows=rows,
        ends=ends[rows],
        labels=learned[rows],
        used=len(rows),
        mended=int(np.count_nonzero(table.flagged(MENDED)[rows])),
        dropped=table.records - len(rows),
        cut=int(np.count_nonzero(ends[rows] < table.lengths[rows])),
        lost=int(np.count_nonzero(lost)),
        duplicates=int(np.count_nonzero(repeated)),
        tokens=int(ends[rows].sum()),
        learned=int(learned[rows].sum()),
        with_tools=int(np.count_nonzero(table.flagged(TOOLS)[rows])),
        mixed=int(np.count_nonzero(table.flagged(GENERAL)[rows])),
    )
