"""A text as words, single Chinese characters, quantities and marks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from glmstudio.knowledge.language.amounts import amount_at
from glmstudio.knowledge.language.dates import date_at
from glmstudio.knowledge.language.normal import is_han, lower, normal
from glmstudio.knowledge.language.numerals import HAN_NUMERALS
from glmstudio.knowledge.language.phrases import stop_words
from glmstudio.knowledge.language.quantities import Amount, FoundQuantity, Quantity
from glmstudio.knowledge.language.times_of_day import time_at

_CODE = re.compile(
    r"v?\d{1,9}(?:\.\d{1,9}){2,8}(?!\.?\d)"  # a version
    r"|\+?\d{1,12}(?:-\d{2,12}){2,8}(?!\d)|0\d{0,12}(?:-\d{2,12}){1,8}(?!\d)"  # a telephone
    r"|0\d{1,30}(?!\d|[:.]\d)"  # 0042
)
_WORD = re.compile(r"[^\W_]+(?:['_][^\W_]+)*")
_BEGINNINGS = "0123456789-$€£¥半第周星礼凌清早上中下傍晚夜今正午负"
STOP = stop_words()
# What forbids is said with a negation, so that both ways are one.
_FORBIDDEN = (
    (re.compile(r"\b(?:strictly |absolutely )?(?:forbidden|prohibited|banned)\b", re.IGNORECASE), "not allowed"),
    (re.compile(r"严禁|禁止|不准|不许|不得(?!不)"), "不允许"),
)


@dataclass(frozen=True)
class Token:
    """A piece of a text: `kind` is word, han, value or mark, `text` is in small letters, `what` is a quantity."""

    kind: str
    text: str
    start: int
    end: int
    what: Quantity | None = None
    article: bool = False


class Text:
    """A text in normal form and its tokens."""

    def __init__(self, text: str) -> None:
        text = normal(text)
        for pattern, plain in _FORBIDDEN:
            text = pattern.sub(plain, text)
        self.text = text
        self.small = lower(text)

    @cached_property
    def tokens(self) -> list[Token]:
        """All tokens but spaces, from left to right."""
        return list(_tokens(self.text, self.small))

    @cached_property
    def stems(self) -> frozenset[str]:
        """The stems of all words."""
        return frozenset(stem(token.text) for token in self.tokens if token.kind == "word")

    @cached_property
    def values(self) -> list[tuple[int, int]]:
        """Where the quantities stand."""
        return [(token.start, token.end) for token in self.tokens if token.kind == "value"]

    @cached_property
    def place(self) -> dict[int, int]:
        """The number of the token that begins at a place."""
        return {token.start: number for number, token in enumerate(self.tokens)}

    def is_name(self, token: Token) -> bool:
        """A word with a capital; at the start of a sentence it may be any word."""
        return token.kind == "word" and self.text[token.start].isupper()


def stem(word: str) -> str:
    """An English word without the endings of number, tense and possession: painted, paints and paint are one."""
    word = plural_stem(word)
    if not word.isascii():
        return word
    for ending in ("ingly", "edly", "ing", "ern", "ed", "er", "ly", "en"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "sl":
                word = word[:-1]
            break
    return word[:-1] if word.endswith(("e", "y", "i")) and len(word) > 3 else word


def plural_stem(word: str) -> str:
    """An English word without 's and the plural."""
    word = word.removesuffix("'s").removesuffix("'")
    if len(word) < 4 or not word.isascii() or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes", "zes", "oes")):
        return word[:-2]
    return word.removesuffix("s")


def _tokens(text: str, small: str) -> Iterator[Token]:
    at, size = 0, len(small)
    while at < size:
        char = small[at]
        if char.isspace():
            at += 1
            continue
        token = _code_at(small, at) or _value_at(text, small, at) or _plain_at(small, at)
        yield token
        at = token.end


def _code_at(small: str, at: int) -> Token | None:
    """A version, or a number of a telephone or a room, of which the digits count and not the value."""
    if small[at] not in "0123456789+v" or (at and small[at - 1].isalnum() and small[at - 1].isascii()):
        return None
    found = _CODE.match(small, at)
    if not found or date_at(small, small, at):  # 2021-03-05 and 05.03.2021 look like codes
        return None
    word = found[0].lstrip("+v").replace("-", "")
    if "." in word or word.startswith("0"):
        return Token("word", word, at, found.end())
    return Token("value", word, at, found.end(), Amount(Fraction(word)))


def quantity_at(text: str, small: str, at: int) -> FoundQuantity | None:
    """The date, time or amount that begins at this place."""
    char = small[at]
    if char.isascii() and char.isalnum() and at and small[at - 1].isascii() and small[at - 1].isalnum():
        return None  # never begin inside a word
    if not ("a" <= char <= "z" or char in _BEGINNINGS or char in HAN_NUMERALS):
        return None
    return date_at(text, small, at) or time_at(small, at) or amount_at(small, at)


def _value_at(text: str, small: str, at: int) -> Token | None:
    found = quantity_at(text, small, at)
    if not found:
        return None
    return Token(
        "value", small[at : found.end], at, found.end, found.what, found.article or small[at : found.end] == "one"
    )


def _plain_at(small: str, at: int) -> Token:
    if _alone(small[at]):
        return Token("han", small[at], at, at + 1)
    found = _WORD.match(small, at)
    if not found:
        return Token("mark", small[at], at, at + 1)
    end = next((place for place in range(at, found.end()) if _alone(small[place])), found.end())
    return Token("word", small[at:end], at, end)


def _alone(char: str) -> bool:
    """Written without spaces: Chinese, kana, hangul, Thai."""
    return is_han(char) or "\u3040" <= char <= "\u30ff" or "\uac00" <= char <= "\ud7a3" or "\u0e00" <= char <= "\u0e7f"
