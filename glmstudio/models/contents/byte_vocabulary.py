"""A byte-level BPE vocabulary, as GLM-4 and later have it: from ranks in `tokenizer.model`, or `tokenizer.json`.

Of a `tokenizer.json` only the tokens, their merges and the pattern that splits a text are taken. Tokens that were added
to it are left out, so no text becomes one of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glmstudio.files import read_text
from glmstudio.models.contents.rank_file import merges_of, read_ranks

# GLM-4's: words, digits in groups of up to three, signs with the line breaks behind them, blanks.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LONGEST_PATTERN = 1000
# What no published one has: a group that repeats, or is looked for again. With these a text could take for ever.
_ENDLESS = re.compile(r"\)[*+?{]|\\[1-9gk]")
_MOST = 1_000_000  # tokens, and ten times as many merges


# GPT-2's letter for each byte: itself where it can be seen, else one behind the first 256.
_SEEN = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
_LETTER = {byte: chr(256 + place) for place, byte in enumerate(sorted({*range(256)} - _SEEN))}
_BYTE = {chr(byte): byte for byte in _SEEN} | {letter: byte for byte, letter in _LETTER.items()}


class ByteVocabulary:
    """Text to ids and back by byte-level BPE."""

    def __init__(self, file: Path) -> None:
        """Read `file`. Raises OSError and ValueError where it is no whole vocabulary."""
        tokens, model, pattern = _from_json(file) if file.suffix == ".json" else _from_ranks(file)
        self._tokens, self.size = tokens, len(tokens)
        self.pipeline = _pipeline(model, pattern)  # tokenizers' own object
        if self.decode(self.encode("A b 你好 🙂\n")) != "A b 你好 🙂\n":
            raise ValueError(file)

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        ids: list[int] = self.pipeline.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; what is no whole character is a mark."""
        return b"".join(self._tokens[index] for index in ids).decode("utf-8", "replace")

    def piece(self, index: int) -> str:
        """One token; bytes that are no text as `<0xE4>`."""
        token = self._tokens[index]
        try:
            return token.decode()
        except UnicodeDecodeError:
            return "".join(f"<0x{byte:02X}>" for byte in token)

    def token(self, index: int) -> str:
        """One token; bytes that are no text as `bytes:\\xe4`."""
        token = self._tokens[index]
        try:
            return token.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)

    def text_bytes(self, index: int) -> bytes:
        """The bytes of one token."""
        return self._tokens[index]

    def is_text(self, index: int) -> bool:
        """Every token of it is one of a text."""
        return True


def _from_ranks(file: Path) -> tuple[list[bytes], Any, str]:
    tokens = read_ranks(file)
    merges = [(_spelled(left), _spelled(right)) for left, right in merges_of(tokens)]
    return tokens, _bpe({_spelled(token): rank for rank, token in enumerate(tokens)}, merges), PATTERN


def _from_json(file: Path) -> tuple[list[bytes], Any, str]:
    table = json.loads(read_text(file))
    model = table.get("model") if isinstance(table, dict) else None
    if not isinstance(model, dict) or model.get("byte_fallback"):
        raise ValueError(file)
    vocabulary, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocabulary, dict) or not isinstance(merges, list):
        raise ValueError(file)
    added = table.get("added_tokens")
    marks = {each.get("content") for each in added if isinstance(each, dict)} if isinstance(added, list) else set()
    ids = {token: index for token, index in vocabulary.items() if token not in marks}
    if len(ids) > _MOST or len(merges) > 10 * _MOST or sorted(ids.values(), key=_number) != list(range(len(ids))):
        raise ValueError(file)
    tokens = [b""] * len(ids)
    for token, index in ids.items():
        tokens[index] = _unspelled(token)
    return tokens, _bpe(ids, list(map(_pair, merges))), _pattern_of(table.get("pre_tokenizer"))


def _number(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(value)
    return value


def _pair(merge: Any) -> tuple[str, str]:
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
        raise ValueError(merge)
    return parts[0], parts[1]


def _pattern_of(step: Any) -> str:
    """The pattern by which a `tokenizer.json` splits; GLM-4's where it names none. Raises ValueError for one that could
    take for ever."""
    if not isinstance(step, dict):
        return PATTERN
    for each in step.get("pretokenizers") or [step]:
        pattern = each.get("pattern") if isinstance(each, dict) and each.get("type") == "Split" else None
        written = pattern.get("Regex") if isinstance(pattern, dict) else None
        if isinstance(written, str):
            if len(written) > _LONGEST_PATTERN or _ENDLESS.search(written):
                raise ValueError(written)
            return written
    return PATTERN


def _bpe(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Any:
    """Raises ValueError where a merge names what is no token."""
    from tokenizers.models import BPE

    try:
        return BPE(vocab=vocabulary, merges=merges, ignore_merges=True)
    except Exception as error:
        raise ValueError(str(error)) from error


def _pipeline(model: Any, pattern: str) -> Any:
    from tokenizers import Regex, Tokenizer
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

    made = Tokenizer(model)
    try:
        split = Split(Regex(pattern), behavior="isolated", invert=False)
    except Exception as error:
        raise ValueError(pattern) from error
    made.pre_tokenizer = Sequence([split, ByteLevel(add_prefix_space=False, use_regex=False)])
    return made


def _spelled(token: bytes) -> str:
    return token.decode("latin-1").translate(_LETTER)


def _unspelled(token: str) -> bytes:
    try:
        return bytes(_BYTE[letter] for letter in token)
    except KeyError as error:
        raise ValueError(token) from error
