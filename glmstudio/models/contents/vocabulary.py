"""The vocabulary of a folder: is it one, is it that of these weights, and is it that of its family."""

from __future__ import annotations

import contextlib
import errno
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.families.family import BYTE_BPE, Family
from glmstudio.families.recognition import family_by_config, is_byte_bpe, is_ranks, rows_of
from glmstudio.files import LARGEST, opened
from glmstudio.models.contents.byte_vocabulary import ByteVocabulary
from glmstudio.models.contents.pieces_vocabulary import PiecesVocabulary
from glmstudio.models.contents.weight_file import present, tensor_headers

TOKENIZER_FILES = ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
EMBEDDINGS = ("embedding.word_embeddings.weight", "embed_tokens.weight")


def vocabulary_file(folder: Path) -> Path:
    """The file that holds the vocabulary of a folder: `tokenizer.model`, or `tokenizer.json` where that stands
    alone."""
    model, fast = folder / "tokenizer.model", folder / "tokenizer.json"
    return fast if not model.exists() and fast.is_file() else model


def check_vocabulary(file: Path, family: Family | None = None) -> None:
    """Raise StudioError unless `file` is there, of a possible size, and in the form of its family. Takes no time."""
    present(file)
    with opened(file) as stream:
        if os.fstat(stream.fileno()).st_size > LARGEST:
            raise StudioError("models.unreadable_file", file=str(file), reason=os.strerror(errno.EFBIG))
    if family is not None and (family.tokenizer == BYTE_BPE) != is_byte_bpe(file.parent):
        raise StudioError("models.vocabulary_form", file=str(file), family=family.title)


def read_vocabulary(file: Path) -> PiecesVocabulary | ByteVocabulary:
    """The vocabulary in `file`. Raises StudioError where it is none, or cut off."""
    try:
        check_vocabulary(file)
        if file.suffix == ".json" or is_ranks(file):
            state = file.stat()
            return _byte_vocabulary(file, state.st_size, state.st_mtime_ns)
        return PiecesVocabulary(file)
    except (RuntimeError, OSError, ValueError, IndexError, RecursionError) as error:
        raise StudioError("models.vocabulary_broken", file=str(file)) from error


@lru_cache(maxsize=2)
def _byte_vocabulary(file: Path, *_state: int) -> ByteVocabulary:
    """One of GLM-4's size takes seconds to read, and is asked for again and again."""
    return ByteVocabulary(file)


def compare_vocabulary(file: Path, config: dict[str, Any], weights: list[Path]) -> None:
    """Raise StudioError unless `file` is the vocabulary of these weights, as far as its size and known texts tell."""
    vocabulary, family = read_vocabulary(file), family_by_config(config, file.parent)
    if family is None:
        return
    refuse_other_size(file, family, vocabulary.size, _rows(weights) or rows_of(config))
    if rows_of(config) == family.rows:
        for text, ids in family.golden.items():
            if tuple(vocabulary.encode(text)) != ids:
                raise StudioError("models.vocabulary_other", file=str(file), family=family.title, text=text)


def refuse_other_size(file: Path, family: Family, pieces: int, rows: Any) -> None:
    """Raise StudioError where the embedding has fewer rows than tokens, or more than twice as many."""
    tokens = pieces + len(family.special)
    if isinstance(rows, int) and not tokens <= rows <= 2 * tokens:
        raise StudioError("models.vocabulary_size", file=str(file), tokens=tokens, rows=rows)


def _rows(weights: list[Path]) -> int | None:
    """The rows of the embedding by the headers of the weights; None where they do not tell."""
    for file in weights:
        with contextlib.suppress(StudioError, OSError):
            for name, header in tensor_headers(file).items():
                if name.endswith(EMBEDDINGS) and len(header.shape) == 2:
                    return header.shape[0]
    return None
