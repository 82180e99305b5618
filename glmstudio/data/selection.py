"""Which records of a prepared data set are trained on, and how much of each: by policy and limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from glmstudio.data.building import GENERAL, MAY_REPEAT, MENDED, TOOLS
from glmstudio.errors import StudioError

if TYPE_CHECKING:
    from glmstudio.data.store import Store

POLICIES = ("stop", "drop", "fix")
SHORTEST_LIMIT = 4
_BLOCK = 1024  # rows at once: numpy widens what it sums, and all of it would fill the memory

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Selection:
    """The rows that are kept and the length of each. `used` + `dropped` is every record of the source.

    `mended` counts kept records whose content was mended, `cut` kept ones that are shorter than they were; of the
    dropped, `lost` were left out for the limit and `duplicates` because they were there before. `with_tools` counts
    kept records that tell the model of tools, `mixed` the general ones of the mixture.
    """

    policy: str
    max_length: int
    rows: Numbers
    ends: Numbers
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


@dataclass(frozen=True)
class Over:
    """The rows that are longer than a limit, and how much of each is learned within it."""

    rows: Numbers
    within: Numbers
    bad: npt.NDArray[np.bool_]  # some of what is learned lies beyond the limit


def over(store: Store, limit: int) -> Over:
    """What a limit of tokens does to the records. Raises StudioError where there can be no such limit."""
    if limit < SHORTEST_LIMIT:
        raise StudioError("data.bad_limit", limit=limit)
    rows = np.flatnonzero(store.lengths > limit)
    within = np.zeros(len(rows), np.int64)
    for first in range(0, len(rows), _BLOCK):
        starts = store.rows["offset"][rows[first : first + _BLOCK]]
        edges = np.stack([starts, starts + limit], axis=1).ravel() - starts[0]
        part = store.flat_learned[starts[0] : starts[-1] + limit + 1]
        sums = np.add.reduceat(part, edges, dtype=np.int64)  # from edge to edge; every second one is wanted
        within[first : first + _BLOCK] = sums[::2]
    return Over(rows, within, within < store.rows["learned"][rows])


def whole_answers(store: Store, limit: int) -> tuple[Numbers, Numbers]:
    """For each row the end of the last answer that is whole within the limit, and how much is learned up to there."""
    ends, learned = np.zeros(len(store), np.int64), np.zeros(len(store), np.int64)
    fitting = (store.flat_ends[:, 0] <= limit) & (store.flat_ends[:, 1] > 0)
    rows = np.repeat(np.arange(len(store)), store.rows["ends"])[fitting]
    ends[rows], learned[rows] = store.flat_ends[fitting].T  # of several for one row, the last one stays
    return ends, learned


def select(store: Store, policy: str, max_length: int, *, plain_cut: bool) -> Selection:
    """What is trained on. Raises StudioError where the policy refuses, or where nothing is left."""
    if policy not in POLICIES:
        raise StudioError("data.bad_policy", policy=policy)
    limit = None if plain_cut else max_length
    if policy == "stop" and (count := store.problem_count(limit)):
        first = store.problems(limit, 1)[0]
        raise StudioError("data.file_problems", file=first.file, count=count, line=first.line, reason=first.reason)
    kept = np.ones(len(store), np.bool_)
    if policy == "drop":
        kept = (store.rows["flags"] & MENDED) == 0
    repeated = _repeated(store, kept)
    kept &= ~repeated
    ends, learned = store.lengths.astype(np.int64), store.rows["learned"].astype(np.int64)
    _shorten(store, ends, learned, max_length, "plain" if plain_cut else policy)
    lost = kept & (learned == 0)
    return _counted(store, policy, max_length, kept & ~lost, (ends, learned, lost, repeated))


def held_back(store: Store, chosen: Selection, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Which of the chosen rows are kept to validate, and never learned from."""
    return store.split(share, seed)[chosen.rows]


def _repeated(store: Store, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which of the kept rows say the same as a kept one before them."""
    rows = np.flatnonzero(kept & ((store.rows["flags"] & MAY_REPEAT) == 0))
    _, first = np.unique(store.rows["mark"][rows], return_index=True)
    again = np.zeros(len(store), np.bool_)
    again[np.delete(rows, first)] = True
    return again


def _shorten(store: Store, ends: Numbers, learned: Numbers, limit: int, how: str) -> None:
    """Cut what is over the limit: plainly, to whole exchanges, or (with `drop`) not at all: then nothing is learned."""
    found = over(store, limit)
    ends[found.rows] = limit
    learned[found.rows] = found.within
    if how == "plain":
        return
    rows = found.rows[found.bad]
    whole = whole_answers(store, limit) if how == "fix" else (np.zeros_like(ends), np.zeros_like(learned))
    ends[rows], learned[rows] = whole[0][rows], whole[1][rows]


def _counted(store: Store, policy: str, limit: int, kept: npt.NDArray[np.bool_], found: tuple[Any, ...]) -> Selection:
    ends, learned, lost, repeated = found
    rows = np.flatnonzero(kept)
    if not len(rows):
        raise StudioError("data.file_empty", file=str(store.source))
    return Selection(
        policy=policy,
        max_length=limit,
        rows=rows,
        ends=ends[rows],
        used=len(rows),
        mended=int(np.count_nonzero(store.rows["flags"][rows] & MENDED)),
        dropped=store.records - len(rows),
        cut=int(np.count_nonzero(ends[rows] < store.lengths[rows])),
        lost=int(np.count_nonzero(lost)),
        duplicates=int(np.count_nonzero(repeated)),
        tokens=int(ends[rows].sum()),
        learned=int(learned[rows].sum()),
        with_tools=int(np.count_nonzero(store.rows["flags"][rows] & TOOLS)),
        mixed=int(np.count_nonzero(store.rows["flags"][rows] & GENERAL)),
    )
