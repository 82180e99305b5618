"""The tokens of a prepared dataset as arrays that are mapped from its files; `data.building` writes them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from glmstudio.data.seen import SPREAD
from glmstudio.errors import StudioError

# Flags of a row, as in `ExaminedRecord`; PROSE: running text.
MENDED, REPEATED, TOOLS, GENERAL, EXTRA, PROSE = 1, 2, 4, 8, 16, 32
MAY_REPEAT = EXTRA | PROSE  # nothing is wrong with such a row that comes again
ROW = struct.Struct("<qiiqiiqqQB")
_ROW_FIELDS = [
    ("offset", "<i8"), ("length", "<i4"), ("learned", "<i4"), ("ends_at", "<i8"), ("ends", "<i4"), ("file", "<i4"),
    ("line", "<i8"), ("number", "<i8"), ("mark", "<u8"), ("flags", "u1"),
]  # fmt: skip
SHORTEST_LIMIT = 4
_BLOCK = 1024  # rows at once: numpy widens what it sums, and all of it would fill the memory

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Over:
    """The rows that are longer than a limit, and how much of each is learned within it."""

    rows: Numbers
    within: Numbers
    bad: npt.NDArray[np.bool_]  # some of what is learned lies beyond the limit


@dataclass(frozen=True, eq=False)
class TokenTable:
    """A row for each record that can be trained on, where it lies in the other arrays, and what is known of it.

    `ids` and `learned` hold one entry a token, `ends` one for each answer's end: the tokens up to there, and how many
    of them are learned. `records` counts those of the source, with those that have no row.
    """

    rows: npt.NDArray[Any]
    ids: npt.NDArray[np.int32]
    learned: npt.NDArray[np.uint8]
    ends: npt.NDArray[np.int32]
    records: int

    @classmethod
    def open(cls, folder: Path, records: int) -> TokenTable:
        """The table whose files lie in `folder`."""
        rows = np.fromfile(folder / "rows", np.dtype(_ROW_FIELDS))
        ids, learned = _mapped(folder / "ids", np.dtype("<i4")), _mapped(folder / "learned", np.dtype("u1"))
        return cls(rows, ids, learned, _mapped(folder / "ends", np.dtype("<i4")).reshape(-1, 2), records)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> npt.NDArray[np.int32]:
        """The tokens of each row."""
        return self.rows["length"]

    def flagged(self, flags: int) -> npt.NDArray[np.bool_]:
        """Which rows have one of these flags."""
        return (self.rows["flags"] & flags) != 0

    def over(self, limit: int) -> Over:
        """What a limit of tokens does to the records. Raises StudioError where there can be no such limit."""
        if limit < SHORTEST_LIMIT:
            raise StudioError("data.bad_limit", limit=limit)
        rows = np.flatnonzero(self.lengths > limit)
        within = np.zeros(len(rows), np.int64)
        for first in range(0, len(rows), _BLOCK):
            starts = self.rows["offset"][rows[first : first + _BLOCK]]
            edges = np.stack([starts, starts + limit], axis=1).ravel() - starts[0]
            part = self.learned[starts[0] : starts[-1] + limit + 1]
            sums = np.add.reduceat(part, edges, dtype=np.int64)  # from edge to edge; every second one is wanted
            within[first : first + _BLOCK] = sums[::2]
        return Over(rows, within, within < self.rows["learned"][rows])

    def whole_answers(self, limit: int) -> tuple[Numbers, Numbers]:
        """For each row the end of the last answer that is whole within the limit, and how much is learned up to it."""
        ends, learned = np.zeros(len(self), np.int64), np.zeros(len(self), np.int64)
        fitting = (self.ends[:, 0] <= limit) & (self.ends[:, 1] > 0)
        rows = np.repeat(np.arange(len(self)), self.rows["ends"])[fitting]
        ends[rows], learned[rows] = self.ends[fitting].T  # of several for one row, the last one stays
        return ends, learned

    def split(self, share: float, seed: int = 0) -> npt.NDArray[np.bool_]:
        """Which rows are held out to validate. Equal records stay together, and other records change nothing for them.

        About `share` of them; at least one and not all where there are two different records.
        """
        marks = self.rows["mark"]
        if share <= 0 or len(np.unique(marks)) < 2:
            return np.zeros(len(self), np.bool_)
        drawn = _mixed(marks, seed)
        held = drawn < min(share, 1.0)
        if not held.any():
            held = drawn == drawn.min()
        return drawn != drawn.max() if held.all() else held


def _mapped(file: Path, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    """A file as an array; an empty one cannot be mapped."""
    return np.memmap(file, kind, mode="r") if file.stat().st_size else np.zeros(0, kind)


def _mixed(marks: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.float64]:
    """A number from 0 to 1 for each mark, another one for each seed."""
    start = np.uint64((seed * SPREAD + 1) % 2**64)
    drawn = (marks ^ start) * np.uint64(SPREAD)
    drawn = (drawn ^ (drawn >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return (drawn ^ (drawn >> np.uint64(32))).astype(np.float64) / 2.0**64
