"""The `tokenizer.model` of a folder: is it a vocabulary, is it that of these weights, and is it ChatGLM3's."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.files import LARGEST, opened, read_bytes
from glmstudio.models.contents.protobuf import fields
from glmstudio.models.contents.weight_file import present, tensor_headers

SPECIAL_TOKENS = (
    "[MASK]", "[gMASK]", "[sMASK]", "sop", "eop", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>",
)  # fmt: skip
EMBEDDING = "embedding.word_embeddings.weight"
_CHATGLM3_ROWS = 65024  # of the embedding of ChatGLM3-6B, Base and 32K
_GOLDEN = {  # texts and their ids in the published vocabulary of these
    "你好": (36474, 54591),
    "北京今天天气怎么样?": (37536, 31869, 33071, 35367, 30987),
    "等于 2。": (30910, 36738, 30910, 30943, 31155),
    "那 2+2 呢?": (51659, 30910, 30943, 31011, 30943, 30910, 55282, 30987),
    "You are a helpful assistant. 请用中文回答。": (
        809, 383, 260, 6483, 9319, 30930, 30910, 55073, 54571, 32977, 33287, 31155,
    ),
}  # fmt: skip
_RANKS = re.compile(rb"(?:[A-Za-z0-9+/]+={0,2} \d+\r?\n){2}")
_HEAD = 4096
_NORMALIZER = 3  # the field that comes after all pieces: a file that was cut at the end of a piece lacks it


def check_vocabulary(file: Path) -> None:
    """Raise StudioError unless `file` is there, of a possible size, and is no other family's. Takes no time."""
    present(file)
    with opened(file) as stream:
        if os.fstat(stream.fileno()).st_size > LARGEST:
            raise StudioError("models.unreadable_file", file=str(file), reason=os.strerror(errno.EFBIG))
        if _RANKS.match(stream.read(_HEAD)):
            raise StudioError("models.lookalike", folder=str(file.parent), family="GLM-4-9B")


def read_vocabulary(file: Path) -> Any:
    """The SentencePiece vocabulary in `file`. Raises StudioError where it is none, or cut off."""
    from sentencepiece import SentencePieceProcessor

    try:
        check_vocabulary(file)
        if not _ends_as_one(read_bytes(file)):
            raise ValueError(file)
        pieces = SentencePieceProcessor(model_file=str(file))
        pieces.decode(pieces.encode("A b 你好 🙂\n"))  # a broken one breaks here
    except (RuntimeError, OSError, ValueError, IndexError) as error:
        raise StudioError("models.vocabulary_broken", file=str(file)) from error
    return pieces


def compare_vocabulary(file: Path, config: dict[str, Any], weights: list[Path]) -> None:
    """Raise StudioError unless `file` is the vocabulary of these weights, as far as its size and known texts tell."""
    pieces = read_vocabulary(file)
    refuse_other_size(file, pieces.vocab_size(), _rows(weights) or config.get("padded_vocab_size"))
    if config.get("padded_vocab_size") == _CHATGLM3_ROWS:
        for text, ids in _GOLDEN.items():
            if tuple(pieces.encode(text)) != ids:
                raise StudioError("models.vocabulary_other", file=str(file), text=text)


def refuse_other_size(file: Path, pieces: int, rows: Any) -> None:
    """Raise StudioError where the embedding has fewer rows than tokens, or more than twice as many."""
    tokens = pieces + len(SPECIAL_TOKENS)
    if isinstance(rows, int) and not tokens <= rows <= 2 * tokens:
        raise StudioError("models.vocabulary_size", file=str(file), tokens=tokens, rows=rows)


def _rows(weights: list[Path]) -> int | None:
    """The rows of the embedding by the headers of the weights; None where they do not tell."""
    for file in weights:
        with contextlib.suppress(StudioError, OSError):
            for name, header in tensor_headers(file).items():
                if name.endswith(EMBEDDING) and len(header.shape) == 2:
                    return header.shape[0]
    return None


def _ends_as_one(data: bytes) -> bool:
    """Whether the fields of the file fill it exactly, the one behind the pieces among them. Raises ValueError and
    IndexError where it is cut."""
    found = list(fields(data))
    whole = all(isinstance(value, bytes) for _, value in found)  # all that SentencePiece writes at the top has a length
    return whole and _NORMALIZER in dict(found)
