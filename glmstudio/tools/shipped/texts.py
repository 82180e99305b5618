"""Figures about a text."""

from __future__ import annotations

import re
from collections import Counter

PERMISSION = "always"


def text_statistics(text: str) -> str:
    """Counts the characters, Chinese characters, words, sentences and lines of a text.

    Args:
        text: The text.
    """
    chinese = re.findall(r"[\u4e00-\u9fff]", text)
    words = re.findall(r"[^\W\d_\u4e00-\u9fff]+(?:['’-][^\W\d_\u4e00-\u9fff]+)*", text)
    sentences = [part for part in re.split(r"[.!?。！？]+(?=\s|$|[\u4e00-\u9fff])", text) if part.strip()]
    common = ", ".join(f"{word} ({count})" for word, count in Counter(map(str.casefold, words)).most_common(5))
    return (
        f"characters: {len(text)}; Chinese characters: {len(chinese)}; words: {len(words)}; "
        f"sentences: {len(sentences)}; lines: {len(text.splitlines())}; most frequent: {common or 'none'}"
    )
