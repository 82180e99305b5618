"""English noun phrases: whether words surely name one thing, and whether it can own another."""

from __future__ import annotations

import re


def listed(words: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(words.split())


DETERMINERS = ("the", "a", "an", "my", "your", "our", "his", "her", "its", "their", "this", "that", "these", "those")
POINTERS = ("this", "that", "these", "those")
# Words between the auxiliary and the end that do not belong to the subject.
TAILS = listed(
    "located founded born built held published opened established made written released invented based found buried "
    "introduced launched signed discovered called named painted composed designed created developed used known open "
    "closed free available busy ready due full empty alive dead now today currently finished started cancelled "
    "celebrated produced spoken grown kept stored"
)
_INSIDE = listed("of in on between and for from")  # may stand within a noun phrase
_OUTSIDE = listed(
    "that who whom whose which what when where why how like to at with about by as than if because not no so too also "
    "here there away over up down off out new right wrong better worse"
)
_NOUNS_IN_ING = listed(
    "building meeting ring king spring thing wedding evening morning opening boiling melting freezing training meaning "
    "beginning engineering marketing painting ceiling string wing swimming dining living parking working"
)
_SMALL = listed("of the and de del der di da la le van von bin al for in on")  # within a name


def is_noun_phrase(words: list[str]) -> bool:
    """Whether these words surely name one thing and say nothing about it."""
    if not 0 < len(words) <= 9 or re.search(r"[,:;()]", " ".join(words)):
        return False
    low = [word.lower().strip('"') for word in words]
    if any(word in TAILS or word in _OUTSIDE or not word for word in low) or low[-1] in (*_INSIDE, *DETERMINERS):
        return False
    if any((word.endswith("ed") and len(word) > 4) or _is_doing(word) for word in low if word != "united"):
        return False
    if low[0] in DETERMINERS:
        return len(words) > 1 and low[1] not in (*_INSIDE, *DETERMINERS)
    if any(word.endswith(("'s", "s'")) for word in low[:-1]):
        return words[0][0].isupper()
    return words[0][0].isupper() and all(word[0].isupper() or word in _SMALL or word[0].isdigit() for word in words)


def _is_doing(word: str) -> bool:
    return word.endswith("ing") and word not in _NOUNS_IN_ING


def is_owner(words: list[str], *, ends_in_s: bool = False) -> bool:
    """Whether "'s" can be put behind these words: short, and one thing; in the plural only where it need not be."""
    low = [word.lower() for word in words]
    if not 0 < len(words) <= 4 or not is_noun_phrase(words) or any(each in ("and", "'s") for each in low):
        return False
    if any(each in _INSIDE for each in low) or '"' in "".join(words) or any(each.endswith("'s") for each in low):
        return False
    return ends_in_s or not low[-1].endswith("s")


def last_word(text: str) -> str:
    """The last word, in small letters."""
    return text.rsplit(maxsplit=1)[-1].lower()


def owners(words: list[str]) -> tuple[str, ...]:
    """The words as one text, where they are an owner; else nothing."""
    return (" ".join(words),) if is_owner(words) else ()


def uncapitalized(text: str) -> str:
    """Without the capital of a sentence's first word."""
    first = text.split(maxsplit=1)[0]
    return text if first.isupper() and len(first) > 1 else text[:1].lower() + text[1:]
