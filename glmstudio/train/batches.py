"""A data set as batches of token ids: tokenised once, padded only to the longest of the batch, in a known order.

The order and the steps do not depend on how many processes train: a step is the same batches on one card as on eight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from glmstudio.data.prompt import IGNORED
from glmstudio.data.selection import Numbers
from glmstudio.data.store import Store
from glmstudio.data.tokenizer import PAD
from glmstudio.train.team import Team

_GROUPED = 50  # batches whose conversations are sorted by length together


class Examples(Dataset[dict[str, Any]]):
    """Chosen rows of a token store up to their ends, as `{"input_ids", "labels"}` of one dimension."""

    def __init__(self, store: Store, rows: Numbers, ends: Numbers) -> None:
        self._store, self._rows = store, rows
        self.lengths = ends

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row, end = int(self._rows[index]), int(self.lengths[index])
        ids = torch.from_numpy(self._store.ids(row, end).astype(np.int64))
        labels = torch.from_numpy(self._store.labels(row, end).astype(np.int64))
        return {"input_ids": ids, "labels": labels}


class Weighted(Dataset[dict[str, Any]]):
    """Examples by `(index, weight)`: what `Deal` deals."""

    def __init__(self, examples: Examples) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, dealt: tuple[int, float]) -> dict[str, Any]:
        index, weight = dealt
        return self._examples[index] | {"weight": weight}


class Order(Sampler[int]):
    """The order of an epoch, which `seed` and `epoch` alone decide: so a run that goes on meets what it would have met.

    Conversations of like length come together. The longest batch of all is the very first one: what does not fit the
    memory fails in the first minute, not in the third hour.
    """

    def __init__(self, lengths: Sequence[int] | np.ndarray[Any, Any], batch: int, seed: int) -> None:
        self._lengths, self._batch, self._seed = np.asarray(lengths), batch, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self._seed, self.epoch))
        shuffled = random.permutation(len(self._lengths))
        whole = len(shuffled) // self._batch * self._batch
        rest = shuffled[whole:]  # an incomplete batch can only be the last one
        span = self._batch * _GROUPED
        groups = [shuffled[at : min(at + span, whole)] for at in range(0, whole, span)]
        ordered = [group[np.argsort(-self._lengths[group], kind="stable")] for group in groups]
        batches = np.concatenate(ordered).reshape(-1, self._batch) if ordered else np.empty((0, self._batch), int)
        batches = batches[random.permutation(len(batches))]
        if self.epoch == 0 and len(batches):
            longest = int(self._lengths[batches].max(axis=1).argmax())
            batches[[0, longest]] = batches[[longest, 0]]
        yield from (int(index) for index in np.concatenate([batches.ravel(), rest]))


class Deal(Sampler[list[tuple[int, float]]]):
    """The batches of one process: those of every step are dealt out among all of them.

    A step has `accumulation` batches (the last one of an epoch may have fewer, k). Of W processes each gets the same
    number n of them, so that nobody waits in vain; where that makes more than k, some batches come again with weight 0.
    The others weigh W n / k, which makes the mean over processes and batches the mean over the k batches.
    """

    def __init__(self, order: Order | range, batch: int, accumulation: int, team: Team) -> None:
        self._order, self._batch, self._accumulation, self._team = order, batch, accumulation, team

    def __len__(self) -> int:
        batches = math.ceil(len(self._order) / self._batch)
        whole, rest = divmod(batches, self._accumulation)
        return whole * self._share(self._accumulation) + self._share(rest)

    def __iter__(self) -> Iterator[list[tuple[int, float]]]:
        order = list(self._order)
        batches = [order[at : at + self._batch] for at in range(0, len(order), self._batch)]
        for at in range(0, len(batches), self._accumulation):
            step = batches[at : at + self._accumulation]
            dealt = self._share(len(step)) * self._team.world
            for place in range(self._team.rank, dealt, self._team.world):
                weight = dealt / len(step) if place < len(step) else 0.0
                yield [(index, weight) for index in step[place % len(step)]]

    def _share(self, batches: int) -> int:
        return math.ceil(batches / self._team.world)


def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One batch (B, T), padded on the right to its own longest conversation, and its weight where it has one."""
    length = max(len(row["input_ids"]) for row in rows)
    ids = torch.full((len(rows), length), PAD)
    labels = torch.full((len(rows), length), IGNORED)
    for index, row in enumerate(rows):
        ids[index, : len(row["input_ids"])] = row["input_ids"]
        labels[index, : len(row["labels"])] = row["labels"]
    batch = {"input_ids": ids, "labels": labels}
    return batch | {"weight": rows[0]["weight"]} if "weight" in rows[0] else batch
