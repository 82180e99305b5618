"""A dataset that was tokenised once and is mapped from disk: for training, for counting, and for looking at it.

    cache/data/<key>/
        ids, learned       every record's token ids (int32) and whether each is learned (uint8), one after the other
        rows, ends         where each record lies and what is known of it; where its answers end
        problems.jsonl     what is wrong with the records, in the order of the source
        about.json         the files, their sum, and the counts; written last

The key names the state of the files and of the tokenizer (and of texts, the length of their pieces), so a store is
never out of date: it is another one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from glmstudio.data import prepared
from glmstudio.data.building import build
from glmstudio.data.mixture import PLAIN, Mixture
from glmstudio.data.notes import Note
from glmstudio.data.protocol.pieces import Piece, pieces
from glmstudio.data.protocol.prompt import IGNORED
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.data.readers.cutting import PIECE, Cutter
from glmstudio.data.readers.sources import is_text_file, source_files, total_size
from glmstudio.data.records import Problem
from glmstudio.data.selection import POLICIES, Selection, select
from glmstudio.data.table import MENDED, REPEATED, Over, TokenTable
from glmstudio.data.watch import Cancelled, ProgressWatch, Tell
from glmstudio.errors import StudioError
from glmstudio.files import read_json


def prepare(
    source: Path,
    model_folder: Path,
    *,
    mixture: Mixture = PLAIN,
    piece: int = PIECE,
    tell: Tell | None = None,
    cancelled: Cancelled | None = None,
) -> Store:
    """The store of a file or folder, with what is mixed in, for this tokenizer; built where there is none yet.

    Texts are cut into pieces of at most `piece` tokens; records of other kinds are whole, whatever that is.
    `tell(share, records)` hears how far it is; where `cancelled()` says so, StudioError is raised, as for a source
    that cannot be read or that changes meanwhile. Nothing half-built is ever used.
    """
    files = source_files(source)
    key = store_key(files, model_folder, mixture, piece)
    if (ready := store_at(source, model_folder, key)) is not None:
        return ready
    cutter = Cutter(Tokenizer(model_folder), piece)
    with prepared.building() as folder:
        build(folder, source, files, cutter, ProgressWatch(tell, cancelled, total_size(source)), mixture)
        if store_key(source_files(source), model_folder, mixture, piece) != key:
            raise StudioError("data.source_changed", source=str(source))
        prepared.finish(folder, key)
    prepared.prune()
    ready = store_at(source, model_folder, key)
    if ready is None:  # somebody emptied the cache in this moment
        raise StudioError("data.source_changed", source=str(source))
    return ready


def store_key(files: Sequence[Path], model_folder: Path, mixture: Mixture = PLAIN, piece: int = PIECE) -> str:
    """The name of the store of these files. Raises StudioError where one of them cannot be read."""
    mark = f"{mixture.mark} {piece}" if any(map(is_text_file, files)) else mixture.mark
    return prepared.key_of(files, model_folder, mark)


def store_at(source: Path, model_folder: Path, key: str) -> Store | None:
    """The store of that key, where it is ready."""
    folder = prepared.place() / key
    about = read_json(folder / "about.json")
    if not isinstance(about, dict):
        return None
    prepared.used(folder)
    return Store(folder, source, model_folder, about)


class Store:
    """A prepared dataset. Rows are the records that can be trained on as they are or fixed; others are problems."""

    def __init__(self, folder: Path, source: Path, model_folder: Path, about: dict[str, Any]) -> None:
        self.key, self.source, self._model_folder = folder.name, source, model_folder
        self._folder, self._about = folder, about
        self.sha256: str = about["sha256"]
        self.records: int = about["records"]  # all of them, with those that no fix helps
        self.form: str = about["form"]
        self.files = [str(source / name) if name else str(source) for name in about["files"]]
        self.notes = tuple(
            replace(note, file=self.files[about["files"].index(note.file)])
            for note in map(Note.from_json, about["notes"])
        )
        self.table = TokenTable.open(folder, self.records)
        self.rows, self.lengths = self.table.rows, self.table.lengths
        self._told: int = about["problems"]
        self._problems = folder / "problems.jsonl"
        self._over: dict[int, Over] = {}
        self._tokenizer: Tokenizer | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process maps the same files instead of getting a copy of them."""
        return Store, (self._folder, self.source, self._model_folder, self._about)

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, policy: str, max_length: int, *, plain_cut: bool = False) -> Selection:
        """What is trained on: `stop` refuses where there is any problem, `drop` leaves those records out, `fix` fixes.

        With `plain_cut` a record over the limit is no problem: it is cut at the limit, as the original script does.
        Raises StudioError where the policy refuses, or nothing is left.
        """
        if policy not in POLICIES:
            raise StudioError("data.bad_policy", policy=policy)
        limit = None if plain_cut else max_length
        if policy == "stop" and (count := self.problem_count(limit)):
            first = self.problems(limit, 1)[0]
            raise StudioError("data.file_problems", file=first.file, count=count, line=first.line, reason=first.reason)
        chosen = select(self.table, policy, max_length, plain_cut=plain_cut)
        if not chosen.used:
            raise StudioError("data.file_empty", file=str(self.source))
        return chosen

    def ids(self, row: int, end: int | None = None) -> npt.NDArray[np.int32]:
        """A record's token ids, up to `end`."""
        return self.table.ids[self._span(row, end)]

    def learned(self, row: int, end: int | None = None) -> npt.NDArray[np.bool_]:
        """Which of them are learned."""
        return self.table.learned[self._span(row, end)].astype(np.bool_)

    def labels(self, row: int, end: int | None = None) -> npt.NDArray[np.int32]:
        """The ids where they are learned, else -100."""
        return np.where(self.learned(row, end), self.ids(row, end), np.int32(IGNORED))

    def place(self, row: int) -> tuple[str, int]:
        """The file and line of a record."""
        return self.files[int(self.rows["file"][row])], int(self.rows["line"][row])

    def problems(self, limit: int | None = None, first: int | None = None) -> list[Problem]:
        """What is wrong, in the order of the source; with a limit of tokens also what it cuts off or loses."""
        return list(islice(self.each_problem(limit), first))

    def each_problem(self, limit: int | None = None) -> Iterator[Problem]:
        """The same, one after the other, of however many records."""
        told = self._told_problems()
        numbered = merge(told, self._limit_problems(limit), key=lambda each: each[0]) if limit is not None else told
        return (problem for _, problem in numbered)

    def problem_count(self, limit: int | None = None) -> int:
        """How many problems there are in all; one a record."""
        return self._told + (len(self._bad_rows(limit)[0]) if limit is not None else 0)

    def histogram(self, limit: int | None = None, bins: int = 24) -> list[tuple[int, int, int]]:
        """How many records have more than `from` and at most `to` tokens; the limit is an edge where it fits."""
        longest = int(self.lengths.max()) if len(self) else 0
        width = max(1.0, longest / bins)
        if limit is not None and limit / width >= 1 / 3:
            width = limit / max(1, round(limit / width))
        count = max(1, int(np.ceil(longest / width)))
        edges = [round(index * width) for index in range(count + 1)]
        places = np.searchsorted(np.array(edges), self.lengths, side="left")
        counts = np.bincount(np.clip(places, 1, count), minlength=count + 1)[1:] if len(self) else np.zeros(count, int)
        return [(edges[index], edges[index + 1], int(counts[index])) for index in range(count)]

    def record_pieces(self, row: int, max_length: int, end: int | None = None) -> list[Piece]:
        """A record as the model sees it: what is trained, what is read, and what lies beyond `end` (or the limit)."""
        self._tokenizer = self._tokenizer or Tokenizer(self._model_folder)
        end = min(max_length, int(self.lengths[row])) if end is None else end
        return pieces(self._tokenizer, self.ids(row).tolist(), self.learned(row).tolist(), end)

    def _span(self, row: int, end: int | None) -> slice:
        start, length = int(self.rows["offset"][row]), int(self.rows["length"][row])
        return slice(start, start + (length if end is None else min(end, length)))

    def _told_problems(self) -> Iterator[tuple[int, Problem]]:
        with self._problems.open(encoding="utf-8") as lines:
            for line in lines:
                about = json.loads(line)
                reason = StudioError.from_json(about["reason"])
                yield about["number"], Problem(self.files[about["file"]], about["line"], reason, about["fix"])

    def _limit_problems(self, limit: int) -> Iterator[tuple[int, Problem]]:
        rows, lost = self._bad_rows(limit)
        ends, _ = self.table.whole_answers(limit)
        for row, nothing_left in zip(rows.tolist(), lost.tolist(), strict=True):
            file, line = self.place(row)
            key = "data.answer_lost" if nothing_left else "data.answer_cut"
            reason = StudioError(key, tokens=int(self.lengths[row]), limit=limit)
            yield int(self.rows["number"][row]), Problem(file, line, reason, "fit" if ends[row] else None)

    def _bad_rows(self, limit: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """The rows whose only fault is the limit, and for each whether it leaves nothing to learn."""
        if limit not in self._over:
            self._over = {limit: self.table.over(limit)}
        found = self._over[limit]
        bad = found.bad & ~self.table.flagged(MENDED | REPEATED)[found.rows]
        return found.rows[bad], found.within[bad] == 0
