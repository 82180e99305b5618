"""The words of both languages that the judge of answers goes by, from `phrases.toml`."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from glmstudio.files import read_toml

FILE = Path(__file__).with_name("phrases.toml")


@cache
def _tables() -> dict[str, Any]:
    return read_toml(FILE)


def either(name: str) -> str:
    """The regular expression for all phrases of a table, for use inside another one."""
    table = _tables()[name]
    english = "|".join(table.get("en", ()))
    parts = ([rf"(?:\b|(?='))(?:{english})(?!\w)"] if english else []) + list(table.get("zh", ()))
    return f"(?:{'|'.join(parts)})"


@cache
def phrase(name: str) -> re.Pattern[str]:
    """One of the phrases of a table, in a text in small letters."""
    return re.compile(either(name))


@cache
def phrases(name: str, language: str) -> tuple[str, ...]:
    """The phrases of a table in one language."""
    return tuple(_tables()[name][language])


@cache
def stop_words() -> frozenset[str]:
    """English words that say nothing about a fact."""
    return frozenset(str(_tables()["stop"]["en"]).split())


@cache
def opposites() -> tuple[tuple[str, str], ...]:
    """Pairs of a word and the word that says no to it."""
    return tuple((first, other) for pairs in _tables()["opposites"].values() for first, other in pairs)
