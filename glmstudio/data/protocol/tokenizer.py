"""ChatGLM3's tokens: a sentencepiece vocabulary and nine special ids that text can never produce."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.files import read_table
from glmstudio.models.contents.vocabulary import SPECIAL_TOKENS, read_vocabulary, refuse_other_size

PAD, BOS, EOS = 0, 1, 2


class Tokenizer:
    """Text to ids and back, id for id as the published ChatGLM3 tokenizer.

    The special tokens are not pieces of the vocabulary: they are numbered after it, so a user who types `<|user|>`
    gets the ids of those letters and never the role.
    """

    def __init__(self, folder: str | Path) -> None:
        """Read `folder/tokenizer.model`. Raises StudioError where it is absent, no vocabulary, or not the model's."""
        file = Path(folder) / "tokenizer.model"
        if not file.is_file():
            raise StudioError("data.tokenizer_missing", file=str(file))
        self._pieces = read_vocabulary(file)
        self.pieces: int = self._pieces.vocab_size()
        refuse_other_size(file, self.pieces, read_table(file.with_name("config.json")).get("padded_vocab_size"))
        self.special: dict[str, int] = {name: self.pieces + index for index, name in enumerate(SPECIAL_TOKENS)}
        self._names = {index: name for name, index in self.special.items()}

    @property
    def size(self) -> int:
        """Pieces and special tokens together."""
        return self.pieces + len(SPECIAL_TOKENS)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The ids that end an answer: the end of the text, the user's turn, and a tool's turn."""
        return EOS, self.special["<|user|>"], self.special["<|observation|>"]

    @property
    def start(self) -> list[int]:
        """The two ids that begin every sequence: `[gMASK] sop`."""
        return [self.special["[gMASK]"], self.special["sop"]]

    def encode(self, text: str) -> list[int]:
        """The ids of plain text; special tokens in it are letters like any others."""
        ids: list[int] = self._pieces.encode(text)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; special tokens and padding are left out."""
        text: str = self._pieces.decode([i for i in ids if 2 < i < self.pieces])
        return text

    def spell(self, ids: Iterable[int]) -> str:
        """The text of ids as pieces one after the other: the space before a word stays, part characters are marks."""
        return b"".join(map(self._bytes, ids)).decode("utf-8", "replace")

    def offsets(self, ids: Sequence[int]) -> list[int]:
        """Where in `decode(ids)` the text of each id begins, in characters; inside of one, at that one."""
        spelled = [self._bytes(index) if 2 < index < self.pieces else b"" for index in ids]
        # The space before the first word is not part of the text.
        found, begun = [], -1 if b"".join(spelled).startswith(b" ") else 0
        for part in spelled:
            inside = bool(part) and _continues(part[0])
            found.append(max(0, begun - inside))
            begun += sum(not _continues(byte) for byte in part)
        return found

    def name(self, index: int) -> str:
        """How one id reads in a table: its piece, or the special token's name."""
        if index in self._names:
            return self._names[index]
        piece: str = self._pieces.id_to_piece(index) if index < self.pieces else "?"
        return piece

    def token(self, index: int) -> str:
        """One id as OpenAI's protocol has it: its text with the space before it, `bytes:\\xe4` inside a character."""
        if index >= self.size:
            return f"token_id:{index}"
        piece = self.name(index)
        if len(piece) == 6 and piece.startswith("<0x"):
            return f"bytes:\\x{piece[3:5].lower()}"
        return piece.replace("\u2581", " ")

    def _bytes(self, index: int) -> bytes:
        piece = self.name(index)
        if len(piece) == 6 and piece.startswith("<0x"):
            return bytes([int(piece[3:5], 16)])
        return piece.replace("\u2581", " ").encode()


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
