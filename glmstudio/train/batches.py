"""A data set as the packs of each step: tokenised once, in a known order, nothing computed that is not wanted.

The order and the steps do not depend on how many processes train: a step is the same batches on one card as on eight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from glmstudio.data.protocol.prompt import IGNORED
from glmstudio.data.protocol.tokenizer import PAD
from glmstudio.data.store import Store
from glmstudio.data.table import TOOLS, Numbers
from glmstudio.train.distributed.context import DistributedContext
from glmstudio.train.packs import Pack, Packer, shard_packs
from glmstudio.train.shared_prefix import Prompts

_GROUPED = 50  # batches whose conversations are sorted by length together


class Examples(Dataset[dict[str, Any]]):
    """Chosen rows of a token store up to their ends, as `{"input_ids", "labels"}` of one dimension."""

    def __init__(self, store: Store, rows: Numbers, ends: Numbers, prompts: Prompts | None = None) -> None:
        self._store, self._rows = store, rows
        self.lengths, self.prompts = ends, prompts

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row, end = int(self._rows[index]), int(self.lengths[index])
        ids = torch.from_numpy(self._store.ids(row, end).astype(np.int64))
        labels = torch.from_numpy(self._store.labels(row, end).astype(np.int64))
        return {"input_ids": ids, "labels": labels}

    def length(self, index: int) -> int:
        """How many tokens a conversation has."""
        return int(self.lengths[index])

    def has_tools(self, index: int) -> bool:
        """Whether a conversation tells the model of tools."""
        return bool(self._store.rows["flags"][self._rows[index]] & TOOLS)

    def scored(self, index: int) -> int:
        """How many of them are learned. The first one is never foretold."""
        return int(self._store.learned(int(self._rows[index]), self.length(index))[1:].sum())


@dataclass(frozen=True)
class StepConfig:
    """What a step is: so many batches of so many conversations, laid out; `mean`: weighted, or each token alike."""

    batch: int
    accumulation: int
    packer: Packer
    mean: bool = True


class LengthGroupedSampler(Sampler[int]):
    """The order of an epoch, which `seed` and `epoch` alone decide: so a run that goes on meets what it would have met.

    Conversations of like length come together; with `prompts`, those that share one do instead. The longest of all
    comes in the very first step: what does not fit the memory fails in the first minute, not in the third hour.
    """

    def __init__(
        self, lengths: Sequence[int] | np.ndarray[Any, Any], batch: int, seed: int, prompts: Prompts | None = None
    ) -> None:
        self._lengths, self._batch, self._seed = np.asarray(lengths), batch, seed
        self._prompts = prompts
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self._seed, self.epoch))
        shuffled = random.permutation(len(self._lengths))
        if self._prompts is not None:
            yield from self._by_prompt(self._prompts, shuffled, random)
            return
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
        yield from np.concatenate([batches.ravel(), rest]).tolist()

    def _by_prompt(self, prompts: Prompts, shuffled: np.ndarray[Any, Any], random: np.random.Generator) -> list[int]:
        """Those of one family in groups, which come in any order."""
        order = shuffled[np.argsort(prompts.family[shuffled], kind="stable")]
        _, starts, sizes = np.unique(prompts.family[order], return_index=True, return_counts=True)
        group = np.cumsum((np.arange(len(order)) - np.repeat(starts, sizes)) % prompts.most == 0) - 1
        turn = random.permutation(group[-1] + 1)[group]
        if self.epoch == 0:
            turn[group == group[self._lengths[order].argmax()]] = -1
        return order[np.argsort(turn, kind="stable")].tolist()


class PackBatchSampler(Sampler[list[Pack]]):
    """The packs of one process, a list for each step: those of all processes are the step.

    A step has `accumulation` batches of `batch` conversations (the last one of an epoch may have fewer, k). As in the
    original, it is the mean over its batches of each batch's mean: a learned token of a batch that has n of them weighs
    W / (k n), W processes, of whose gradients the mean is taken. The very first step is packed as full as the limit and
    its conversations allow, so that what does not fit the memory most likely fails in the first minute.
    """

    def __init__(
        self, examples: Examples, order: LengthGroupedSampler | range, steps: StepConfig, context: DistributedContext
    ) -> None:
        self._examples, self._order, self._steps, self._context = examples, order, steps, context

    def __len__(self) -> int:
        return math.ceil(math.ceil(len(self._order) / self._steps.batch) / self._steps.accumulation)

    def __iter__(self) -> Iterator[list[Pack]]:
        order, batch, context = list(self._order), self._steps.batch, self._context
        batches = [order[at : at + batch] for at in range(0, len(order), batch)]
        first = isinstance(self._order, LengthGroupedSampler) and self._order.epoch == 0
        for at in range(0, len(batches), self._steps.accumulation):
            step = batches[at : at + self._steps.accumulation]
            packs = self._steps.packer.packs(step, self._examples.length, context.world, full=first and not at)
            weights = self._weights(step)
            yield shard_packs(
                [[(index, weights[index]) for index in pack] for pack in packs], context.rank, context.world
            )

    def _weights(self, step: list[list[int]]) -> dict[int, float]:
        if not self._steps.mean:
            return {index: 1.0 for batch in step for index in batch}
        weights: dict[int, float] = {}
        for batch in step:
            learned = sum(self._examples.scored(index) for index in batch)
            weights |= dict.fromkeys(batch, self._context.world / (len(step) * max(1, learned)))
        return weights


class PackedDataset(Dataset[dict[str, Any]]):
    """Examples by the pack, as `PackBatchSampler` hands them out: what `ModelWithLoss.forward` takes."""

    def __init__(self, examples: Examples, packer: Packer) -> None:
        self._examples, self._packer = examples, packer

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, pack: Pack) -> dict[str, Any]:
        rows = [self._examples[index] | {"weight": weight} for index, weight in pack]
        if self._packer.limit is None:
            return padded(rows)
        prompts = self._packer.prompts
        return joined(rows, prompts.of([index for index, _ in pack]) if prompts else None)


def joined(rows: Sequence[dict[str, Any]], prompts: Sequence[tuple[int, int]] | None = None) -> dict[str, Any]:
    """One pack: conversations one after the other, (1, T). A prompt that several begin with (`prompts`: which one each
    has, and its length) stands once, and they go on from it."""
    documents: list[torch.Tensor] = []
    parents: list[int | None] = []
    starts: list[int] = []
    place: dict[int, int] = {}
    end = 0
    for row, (prompt, shared) in zip(rows, prompts or [(0, 0)] * len(rows), strict=True):
        ids = row["input_ids"]
        if shared and prompt not in place:
            place[prompt] = len(documents)
            documents.append(ids[:shared])
            parents.append(None)
            end += shared
        starts.append(end - shared)
        documents.append(ids[shared:])
        parents.append(place[prompt] if shared else None)
        end += len(ids) - shared
    lengths = [len(each) for each in documents]
    return {"input_ids": torch.cat(documents)[None], "lengths": lengths, "parent": parents} | _labels(rows, starts)


def padded(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One batch (B, T), padded on the right to its own longest conversation."""
    length = max(len(row["input_ids"]) for row in rows)
    ids = torch.full((len(rows), length), PAD)
    for index, row in enumerate(rows):
        ids[index, : len(row["input_ids"])] = row["input_ids"]
    return {"input_ids": ids, "lengths": None, "parent": None} | _labels(rows, range(0, length * len(rows), length))


def _labels(rows: Sequence[dict[str, Any]], starts: Sequence[int]) -> dict[str, Any]:
    """What is scored in a pack whose conversations begin at `starts` of its positions: (R) positions from which a
    learned token is predicted, and that token; for each conversation the weight of its learned tokens and their number.
    `tokens` are those that count for the first time."""
    learned = [(row["labels"][1:] != IGNORED).nonzero()[:, 0] for row in rows]
    return {
        "label_positions": torch.cat([places + start for places, start in zip(learned, starts, strict=True)]),
        "labels": torch.cat([row["labels"][1:][places] for row, places in zip(rows, learned, strict=True)]),
        "loss_weights": [row["weight"] for row in rows],
        "label_counts": [len(places) for places in learned],
        "tokens": sum(len(row["input_ids"]) for row in rows if row["weight"]),
    }
