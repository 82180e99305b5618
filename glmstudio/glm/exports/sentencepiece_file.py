"""A `tokenizer.model` read piece by piece: sentencepiece itself does not tell which pieces a user defined.

It is a protocol buffer: field 1 is a piece (1 text, 2 score, 3 kind), 2 how it was trained, 3 how text is normalised.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.families.chatglm3 import CHATGLM3
from glmstudio.files import read_bytes
from glmstudio.models.contents.protobuf import fields
from glmstudio.models.contents.vocabulary import check_vocabulary

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
_BPE = 2
# Ids count, names do not, and other programs look for names inside of text: "people" has the letters of `eop`, and
# `<s>` is HTML. So those names become ones that no ordinary text holds.
CONTROL_NAMES = ("<|pad|>", "<|bos|>", "<|endoftext|>")
SPECIAL_NAMES = tuple({"sop": "<sop>", "eop": "<eop>"}.get(name, name) for name in CHATGLM3.special)
EVERY_NAME = (*CONTROL_NAMES, *SPECIAL_NAMES)


@dataclass(frozen=True)
class TokenPiece:
    """One entry of the vocabulary."""

    text: str
    score: float
    kind: int


def read_pieces(folder: Path) -> list[TokenPiece]:
    """The pieces of a model folder's vocabulary, by id. Raises StudioError where it is none that can be exported."""
    file = folder / "tokenizer.model"
    check_vocabulary(file)
    try:
        pieces, known = _read(read_bytes(file))
    except (ValueError, IndexError, struct.error, UnicodeDecodeError) as error:
        raise StudioError("models.vocabulary_broken", file=str(file)) from error
    texts = {piece.text for piece in pieces}
    kinds = [piece.kind for piece in pieces[:3]]
    scores = [piece.score for piece in pieces if piece.kind == NORMAL]
    if not known or kinds != [UNKNOWN, CONTROL, CONTROL] or len(texts) < len(pieces) or texts & {*EVERY_NAME}:
        raise StudioError("exports.vocabulary", file=str(file))
    if len(set(scores)) < len(scores):  # two merges of one rank: which comes first would be a guess
        raise StudioError("exports.vocabulary", file=str(file))
    return pieces


def defined_by_user(pieces: list[TokenPiece]) -> list[str]:
    """The pieces that are found in a text before anything is merged, longest first; ChatGLM3's own has none."""
    return sorted((piece.text for piece in pieces if piece.kind == USER_DEFINED), key=lambda text: (-len(text), text))


def _read(data: bytes) -> tuple[list[TokenPiece], bool]:
    """All pieces, and whether the text reaches them as here: by BPE, with a space before it, and unchanged."""
    pieces: list[TokenPiece] = []
    trained: dict[int, int | bytes] = {}
    normal: dict[int, int | bytes] = {}
    for number, value in fields(data):
        if number == 1 and isinstance(value, bytes):
            entry = dict(fields(value))
            text, score = entry[1], entry.get(2, b"\0\0\0\0")
            if not isinstance(text, bytes) or not isinstance(score, bytes):
                raise ValueError(text)
            pieces.append(TokenPiece(text.decode(), struct.unpack("<f", score)[0], int(entry.get(3, NORMAL))))
        elif number in (2, 3) and isinstance(value, bytes):
            (trained if number == 2 else normal).update(fields(value))
    plain = not normal.get(2) and normal.get(3, 1) == 1 and normal.get(4, 1) == 0 and normal.get(5, 1) == 1
    return pieces, plain and trained.get(3, 1) == _BPE and trained.get(35, 0) == 1
