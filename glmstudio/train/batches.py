"""A data set as batches of token ids: tokenised once, padded only to the longest of the batch, in a known order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from glmstudio.data.prompt import IGNORED
from glmstudio.data.selection import Numbers
from glmstudio.data.store import Store
from glmstudio.data.tokenizer import PAD

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


def collate(rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """One batch (B, T), padded on the right to its own longest conversation."""
    length = max(len(row["input_ids"]) for row in rows)
    ids = torch.full((len(rows), length), PAD)
    labels = torch.full((len(rows), length), IGNORED)
    for index, row in enumerate(rows):
        ids[index, : len(row["input_ids"])] = row["input_ids"]
        labels[index, : len(row["labels"])] = row["labels"]
    return {"input_ids": ids, "labels": labels}
