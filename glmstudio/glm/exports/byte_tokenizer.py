"""`tokenizer.json` and GGUF's vocabulary of a family with byte-level BPE: the studio's own tokens and merges.

The special tokens come behind them, under their own names. `HIDES` keeps a typed name letters, as in `fast_tokenizer`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, normalizers

from glmstudio.families.family import Family
from glmstudio.glm.exports.fast_tokenizer import HIDES
from glmstudio.models.contents.vocabulary import read_vocabulary, vocabulary_file


@dataclass(frozen=True)
class BytePairs:
    """Tokens by id in GPT-2's letters, and the pairs that make them, the first to be merged first."""

    tokens: list[str]
    merges: list[tuple[str, str]]


def byte_tokenizer(folder: Path, family: Family) -> Tokenizer:
    """The tokenizer of a model folder for other programs. Raises StudioError where its vocabulary is none."""
    made = _plain(folder)
    made.normalizer = normalizers.Replace(HIDES, "")
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in family.special])
    return made


def byte_pairs(folder: Path) -> BytePairs:
    """The tokens and merges of a model folder. Raises StudioError where its vocabulary is none."""
    model = json.loads(_plain(folder).to_str())["model"]
    ids: dict[str, int] = model["vocab"]
    merges = [(left, right) for left, right in model["merges"]]
    return BytePairs(sorted(ids, key=ids.__getitem__), merges)


def _plain(folder: Path) -> Tokenizer:
    """A copy of what the studio reads texts with, without special tokens."""
    vocabulary = read_vocabulary(vocabulary_file(folder))
    return Tokenizer.from_str(vocabulary.pipeline.to_str())  # type: ignore[union-attr]
