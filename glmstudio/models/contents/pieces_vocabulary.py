"""A SentencePiece vocabulary in a `tokenizer.model`, as ChatGLM3 has it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from glmstudio.files import read_bytes
from glmstudio.models.contents.protobuf import fields

_NORMALIZER = 3  # the field that comes after all pieces: a file that was cut at the end of a piece lacks it
_CONTROL = 3  # pieces before the first one of a text


class PiecesVocabulary:
    """Text to ids and back by SentencePiece."""

    def __init__(self, file: Path) -> None:
        """Read `file`. Raises RuntimeError, OSError, ValueError and IndexError where it is no whole vocabulary."""
        from sentencepiece import SentencePieceProcessor

        if not _ends_as_one(read_bytes(file)):
            raise ValueError(file)
        self._pieces = SentencePieceProcessor(model_file=str(file))
        self.size: int = self._pieces.vocab_size()
        self.decode(self.encode("A b 你好 🙂\n"))  # a broken one breaks here

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        ids: list[int] = self._pieces.encode(text)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without the space before its first word."""
        text: str = self._pieces.decode(list(ids))
        return text

    def piece(self, index: int) -> str:
        """One piece, a space as the vocabulary writes it."""
        piece: str = self._pieces.id_to_piece(index)
        return piece

    def token(self, index: int) -> str:
        """One piece with its space; a piece that is a byte as `bytes:\\xe4`."""
        piece = self.piece(index)
        return f"bytes:\\x{piece[3:5].lower()}" if _is_byte(piece) else piece.replace("\u2581", " ")

    def text_bytes(self, index: int) -> bytes:
        """The bytes of one piece."""
        piece = self.piece(index)
        return bytes([int(piece[3:5], 16)]) if _is_byte(piece) else piece.replace("\u2581", " ").encode()

    def is_text(self, index: int) -> bool:
        """Whether the id is one of a text, and no control piece."""
        return index >= _CONTROL


def _is_byte(piece: str) -> bool:
    return len(piece) == 6 and piece.startswith("<0x")


def _ends_as_one(data: bytes) -> bool:
    """Whether the fields of the file fill it exactly, the one behind the pieces among them. Raises ValueError and
    IndexError where it is cut."""
    found = list(fields(data))
    whole = all(isinstance(value, bytes) for _, value in found)  # all that SentencePiece writes at the top has a length
    return whole and _NORMALIZER in dict(found)
