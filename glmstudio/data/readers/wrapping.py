"""Paragraphs from the lines of printed pages: lines that only the page's width broke are joined again."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

_HYPHENS = "-\u2010\u00ad\ufffe"
_BULLET = re.compile(r"[•·▪◦●○■□*–—-]\s|\(?\d{1,3}[.)、]\s*\S|[一二三四五六七八九十]{1,3}、")
_SENTENCE_ENDS = re.compile(r"[.!?:;。！？：；…][\"'”’」』）)\]]*$")
_LONG, _SHORT = 0.95, 0.7  # of a usual line: up to so much of it a sentence, or anything, ends the paragraph

_FEW = 6  # lines: so few do not tell how wide the page is


def paragraphs(pages: Iterable[str]) -> Iterator[str]:
    """The paragraphs of pages, also of those that go on over a page's end."""
    held, usual = "", 0.0
    for page in pages:
        lines = [" ".join(line.split()) for line in page.splitlines()]
        usual = max(_usual_width(lines), usual if len(lines) < _FEW else 0.0)
        for line in lines:
            if held and (not line or _BULLET.match(line)):
                yield held
                held = ""
            if not line:
                continue
            held = _joined(held, line) if held else line
            if _ends(line, usual):
                yield held
                held = ""
    if held:
        yield held


def _usual_width(lines: list[str]) -> float:
    """The width that nine of ten lines do not exceed."""
    widths = sorted(_width(line) for line in lines if line)
    return widths[len(widths) * 9 // 10] if widths else 0


def _ends(line: str, usual: float) -> bool:
    if line[-1] in _HYPHENS:
        return False
    return _width(line) < usual * (_LONG if _SENTENCE_ENDS.search(line) else _SHORT)


def _joined(before: str, after: str) -> str:
    """Two lines as one: a word that was divided is whole again, and no space stands between Chinese characters."""
    divided = before[-1] in _HYPHENS and len(before) > 1 and before[-2].isalpha()
    if divided and after[0].islower() and not _is_wide(before[-2]):
        return before[:-1] + after
    if before[-1] in _HYPHENS:
        return before[:-1] + "-" + after
    return before + after if _is_wide(before[-1]) and _is_wide(after[0]) else f"{before} {after}"


def _width(line: str) -> int:
    return sum(2 if _is_wide(sign) else 1 for sign in line)


def _is_wide(sign: str) -> bool:
    return unicodedata.east_asian_width(sign) in ("W", "F")
