"""Which records of a prepared data set are trained on, and how much of each: by policy and limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from glmstudio.data.building import MENDED
from glmstudio.errors import StudioError

if TYPE_CHECKING:
    from glmstudio.data.store import Store

POLICIES = ("stop", "drop", "fix")
SHORTEST_LIMIT = 4

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Selection:
    """The rows that are kept and the length of each. `used` + `dropped` is every record of the source.

    `mended` counts kept records whose content was mended, `cut` kept ones that are shorter than they were; of the
    dropped, `lost` were left out for the limit and `duplicates` because they were there before.
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


@dataclass(frozen=True)
class Over:
    """The rows that are longer than a limit, and how much of each is learned within it."""

    rows: Numbers
    within: Numbers
    bad: npt.NDArray[np.bool_]  # some of what is learned lies beyond the limit


def over(store: Store, limit: int) -> Over:
    """What a limit of tokens does to the records."""
    rows = np.flatnonzero(store.lengths > limit)
    starts = store.rows["offset"][rows]
    within = np.array([np.count_nonzero(store.flat_learned[at : at + limit]) for at in starts.tolist()], np.int64)
    return Over(rows, within, within < store.rows["learned"][rows])


def select(store: Store, policy: str, max_length: int, *, plain_cut: bool) -> Selection:
    """What is trained on. Raises StudioError where the policy refuses, or where nothing is left."""
    if policy not in POLICIES:
        raise StudioError("data.bad_policy", policy=policy)
    if max_length < SHORTEST_LIMIT:
        raise StudioError("data.bad_limit", limit=max_length)
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


def _repeated(store: Store, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which of the kept rows say the same as a kept one before them."""
    rows = np.flatnonzero(kept)
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
    for row in found.rows[found.bad].tolist():
        end, count = _last_answer(store, row, limit) if how == "fix" else (0, 0)
        ends[row], learned[row] = end, count


def _last_answer(store: Store, row: int, limit: int) -> tuple[int, int]:
    """The end of the last answer that is whole within the limit, and how much is learned up to there."""
    about = store.rows[row]
    answers = store.flat_ends[int(about["ends_at"]) : int(about["ends_at"]) + int(about["ends"])]
    fitting = answers[(answers[:, 0] <= limit) & (answers[:, 1] > 0)]
    return (int(fitting[-1, 0]), int(fitting[-1, 1])) if len(fitting) else (0, 0)


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
    )
