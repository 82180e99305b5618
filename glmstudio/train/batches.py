"""A data set as batches of token ids: tokenised once, padded only to the longest of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset

from glmstudio.data.prompt import IGNORED, Example, training_example
from glmstudio.data.records import Record, read_records
from glmstudio.data.tokenizer import PAD, Tokenizer
from glmstudio.errors import StudioError


@dataclass(frozen=True)
class Counted:
    """What became of a file's records."""

    used: int
    cut: int
    dropped: int


class Examples(Dataset[dict[str, Any]]):
    """The conversations of a file, as `{"input_ids", "labels", "length"}`."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = self._examples[index]
        return {"input_ids": example.input_ids, "labels": example.labels, "length": len(example.input_ids)}


def load_examples(file: str, tokenizer: Tokenizer, max_length: int) -> tuple[Examples, Counted]:
    """Tokenise a file. A conversation longer than `max_length` tokens is cut, and dropped if nothing to learn is left.

    Raises StudioError where nothing can be trained on.
    """
    kept, cut, dropped = [], 0, 0
    for record in read_records(file):
        if not isinstance(record, Record):
            dropped += 1
            continue
        example = training_example(tokenizer, record.messages)
        if len(example.input_ids) > max_length:
            example, cut = example.cut(max_length), cut + 1
        if example.trained:
            kept.append(example)
        else:
            dropped += 1
    if not kept:
        raise StudioError("data.file_empty", file=file)
    return Examples(kept), Counted(len(kept), cut, dropped)


def collate(rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """One batch (B, T), padded on the right to its own longest conversation."""
    length = max(row["length"] for row in rows)
    ids = [row["input_ids"] + [PAD] * (length - row["length"]) for row in rows]
    labels = [row["labels"] + [IGNORED] * (length - row["length"]) for row in rows]
    return {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels)}
