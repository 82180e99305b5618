"""A stand-in until the token store comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glmstudio.data.prompt import IGNORED, training_example
from glmstudio.data.records import Record, read_records
from glmstudio.data.tokenizer import Tokenizer


@dataclass
class Selection:
    rows: np.ndarray
    ends: np.ndarray
    used: int = 0
    mended: int = 0
    dropped: int = 0
    cut: int = 0
    lost: int = 0
    duplicates: int = 0
    tokens: int = 0
    learned: int = 0


class Store:
    sha256 = ""

    def __init__(self, examples):
        self._e = examples

    def __len__(self):
        return len(self._e)

    def select(self, policy, max_length):
        rows = [i for i, e in enumerate(self._e) if e.cut(max_length).trained]
        ends = [min(max_length, len(self._e[i].input_ids)) for i in rows]
        return Selection(np.array(rows, int), np.array(ends, int), used=len(rows))

    def split(self, chosen, share, seed):
        n = int(len(chosen.rows) * share)
        return (
            Selection(chosen.rows[n:], chosen.ends[n:], used=len(chosen.rows) - n),
            Selection(chosen.rows[:n], chosen.ends[:n], used=n),
        )

    def ids(self, row, end):
        return np.array(self._e[row].input_ids[:end], np.int32)

    def learned(self, row, end):
        return np.array(self._e[row].labels[:end]) != IGNORED


def prepare(source: Path, model_folder: Path, *, tell: Callable | None = None, cancelled=None) -> Store:
    tok = Tokenizer(model_folder)
    return Store([training_example(tok, r.messages) for r in read_records(source) if isinstance(r, Record)])
