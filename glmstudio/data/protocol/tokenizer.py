"""Text to ids and back: a family's vocabulary, and special ids behind it that text can never produce."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from glmstudio.errors import StudioError
from glmstudio.families.family import SENTENCEPIECE, Family
from glmstudio.families.recognition import family_of, rows_of
from glmstudio.files import read_table
from glmstudio.models.contents.vocabulary import read_vocabulary, refuse_other_size, vocabulary_file

PAD, BOS, EOS = 0, 1, 2  # ChatGLM3's


class Vocabulary(Protocol):
    """Ordinary text to ids and back. `size` counts the ids; they are 0 to `size` - 1."""

    size: int

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""

    def piece(self, index: int) -> str:
        """How one id reads in a table."""

    def text_bytes(self, index: int) -> bytes:
        """The bytes of one id's text."""

    def token(self, index: int) -> str:
        """One id as OpenAI's protocol has it."""

    def is_text(self, index: int) -> bool:
        """Whether the id is one of a text, and no control piece."""


class Tokenizer:
    """The tokens of one model, id for id as its published tokenizer.

    The special tokens are not pieces of the vocabulary: they are numbered after it, so a user who types `<|user|>`
    gets the ids of those letters and never the role.
    """

    def __init__(self, folder: str | Path) -> None:
        """Read the vocabulary in `folder`. Raises StudioError where it is absent, no vocabulary, or not the model's."""
        file = vocabulary_file(Path(folder))
        if not file.is_file():
            raise StudioError("data.tokenizer_missing", file=str(file))
        self.family: Family = family_of(folder)
        self._vocabulary: Vocabulary = read_vocabulary(file)
        self.pieces: int = self._vocabulary.size
        refuse_other_size(file, self.family, self.pieces, rows_of(read_table(file.with_name("config.json"))))
        marks = self.family.ids(self.pieces)
        self.special: dict[str, int] = {name: marks[name] for name in self.family.special}
        self._names = {index: name for name, index in self.special.items()}
        self.stop_ids: tuple[int, ...] = tuple(marks[name] for name in self.family.stops)
        self.end_id: int = marks[self.family.end]
        self.pad_id: int = marks[self.family.pad]
        self.user, self.assistant = marks["<|user|>"], marks["<|assistant|>"]
        self.spaced = self.family.tokenizer == SENTENCEPIECE  # a text begins with a space that is not part of it
        begins = self.family.answer_begins
        self.answer_start: tuple[int, ...] = tuple(self.encode(begins)) if begins else ()

    @property
    def size(self) -> int:
        """Pieces and special tokens together."""
        return self.pieces + len(self.special)

    @property
    def start(self) -> list[int]:
        """The ids that begin every sequence."""
        return [self.special[name] for name in self.family.start]

    @property
    def marks(self) -> dict[int, str]:
        """The names of all ids that are not text."""
        return self._names | {index: name for name, index in self.family.control.items()}

    def encode(self, text: str) -> list[int]:
        """The ids of plain text; special tokens in it are letters like any others."""
        return self._vocabulary.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; special tokens and padding are left out."""
        return self._vocabulary.decode([index for index in ids if self._is_text(index)])

    def spell(self, ids: Iterable[int]) -> str:
        """The text of ids as pieces one after the other: the space before a word stays, part characters are marks."""
        return b"".join(map(self._bytes, ids)).decode("utf-8", "replace")

    def offsets(self, ids: Sequence[int]) -> list[int]:
        """Where in `decode(ids)` the text of each id begins, in characters; inside of one, at that one."""
        spelled = [self._bytes(index) if self._is_text(index) else b"" for index in ids]
        # The space before the first word is not part of the text.
        found, begun = [], -1 if self.spaced and b"".join(spelled).startswith(b" ") else 0
        for part in spelled:
            inside = bool(part) and _continues(part[0])
            found.append(max(0, begun - inside))
            begun += sum(not _continues(byte) for byte in part)
        return found

    def name(self, index: int) -> str:
        """How one id reads in a table: its piece, or the special token's name."""
        if index in self._names:
            return self._names[index]
        return self._vocabulary.piece(index) if 0 <= index < self.pieces else "?"

    def token(self, index: int) -> str:
        """One id as OpenAI's protocol has it: its text with the space before it, `bytes:\\xe4` inside a character."""
        if index >= self.size:
            return f"token_id:{index}"
        return self._names[index] if index in self._names else self._vocabulary.token(index)

    def _is_text(self, index: int) -> bool:
        return 0 <= index < self.pieces and self._vocabulary.is_text(index)

    def _bytes(self, index: int) -> bytes:
        return self._vocabulary.text_bytes(index) if 0 <= index < self.pieces else self.name(index).encode()


class TextStream:
    """Turns ids that arrive one by one into text that never shows half a character.

    Only the ids since the last whole character are decoded: what a long answer costs grows with its length alone.
    With `begun` they go on with a text that is there already, so that the space before the first word is kept.
    """

    def __init__(self, tokenizer: Tokenizer, *, begun: bool = False) -> None:
        self._tokenizer = tokenizer
        self._anchor = tokenizer.encode("a")  # inside a text the space before a word is kept, at its start it is not
        self._before = len(tokenizer.decode(self._anchor))
        self._pending: list[int] = []
        self._begun = begun

    def push(self, index: int) -> str:
        """The text that became certain with this id; often one piece, empty inside a character."""
        self._pending.append(index)
        text = self._text()
        if not text or text.endswith("\ufffd"):
            return ""
        self._pending, self._begun = [], True
        return text

    def flush(self) -> str:
        """What is left at the end, even if it is half a character."""
        text = self._text()
        self._pending = []
        return text

    def _text(self) -> str:
        if not self._begun:
            return self._tokenizer.decode(self._pending)
        return self._tokenizer.decode([*self._anchor, *self._pending])[self._before :]


def _continues(byte: int) -> bool:
    """Whether it is a byte of UTF-8 that begins no character."""
    return byte & 0xC0 == 0x80
