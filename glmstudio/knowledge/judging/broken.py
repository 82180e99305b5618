"""Answers that are no answers: cut off, empty, going round in circles, or in another language."""

from __future__ import annotations

import re
import unicodedata

from glmstudio.knowledge.language.normal import LONGEST, is_han

_MARKS = re.compile(r"[\W_]+")
_RUN = re.compile(r"([^\s\-=_.*#~|])\1{29,}")  # lines and tables are drawn with the others
_SAME_DIGITS = re.compile(r"(\d)\1{1,20}")  # 1000000000 is a number
_MANY = 6  # times that a sentence or a few words come one after another before it is a loop
_LONGEST_PERIOD = 120  # characters of what comes again


def broken(said: str, *, ended: bool, due: str = "", question: str = "") -> str | None:
    """What is wrong with the form of an answer, or None.

    "empty", "endless" (it did not end by itself, but at the limit of tokens), "repeating", or "language" (in another
    script than the due answer and the question).
    """
    text = said[:LONGEST]
    if not _MARKS.sub("", text):
        return "empty"
    if not ended:
        return "endless"
    if repeating(text):
        return "repeating"
    wanted = _scripts(due[:LONGEST]) or _scripts(question[:LONGEST])
    used = _scripts(text)
    if wanted and used and not used & (wanted | _scripts(question[:LONGEST])):
        return "language"
    return None


def repeating(text: str) -> bool:
    """Whether a text goes round in circles: one character, a few words or a sentence many times in a row."""
    text = text[:LONGEST]
    words = _MARKS.sub("", text)
    return _RUN.search(text) is not None or _periodic(_SAME_DIGITS.sub(r"\1", words))


def _periodic(text: str) -> bool:
    """Whether a stretch of a fifth of the text or more is `_MANY` or more times the same."""
    size = len(text)
    for period in range(1, min(_LONGEST_PERIOD, size // _MANY) + 1):
        need = max(period * (_MANY - 1), size // 5, 8)
        run = 0
        for at in range(period, size):
            run = run + 1 if text[at] == text[at - period] else 0
            if run >= need:
                return True
    return False


def _scripts(text: str) -> frozenset[str]:
    """The scripts that a text is written in, without those of a few characters in a longer text."""
    counts: dict[str, int] = {}
    for char in text:
        if char.isalpha():
            name = _script(char)
            counts[name] = counts.get(name, 0) + (2 if name == "han" else 1)
    total = sum(counts.values())
    return frozenset(name for name, count in counts.items() if count * 5 >= total)


def _script(char: str) -> str:
    if char < "\u0250" or "\u1e00" <= char <= "\u1eff" or "\uff21" <= char <= "\uff5a":
        return "latin"
    if is_han(char) or "\uf900" <= char <= "\ufaff":
        return "han"
    return unicodedata.name(char, "OTHER").split()[0].lower()
