"""What a text states, what it denies, and what it leaves open, clause by clause."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from glmstudio.knowledge.language.phrases import either, phrase, phrases
from glmstudio.knowledge.language.tokens import Text

SAID, DENIED, OPEN = "said", "denied", "open"

_ABBREVIATION = re.compile(r"\b(?:dr|mr|mrs|ms|prof|st|vs|jr|sr|[a-z])$")
_SENTENCE = re.compile(r"[.!?。;\n]+")
_CLAUSE = re.compile(rf"[,:()]|{either('clause')}")
_COPULA_TWICE = re.compile(r"(?<![不是])是(?!不)[^,。;是不]{1,40}(不是)")
_FINE = re.compile(r"\band\b|\bwith\b|和|并且|以及|、")
_ABOUT = re.compile(r"(?:大概|估计|likely|probably) ?(?:有|是|在|is |was |in |at |about )?\d")
_ASIDE = re.compile(rf" ?(?:exactly )?({either('aside')})")
_RETRACTION = re.compile(rf"[ ,]{{0,3}}(?:{'|'.join([*phrases('retraction', 'en'), *phrases('retraction', 'zh')])})")


@dataclass(frozen=True)
class Clause:
    """A part of a text between two places, in the sentence with this number."""

    start: int
    end: int
    sentence: int


class Statements:
    """The clauses of a text, and for each place whether it is said, denied or left open."""

    def __init__(self, text: Text, covered: Iterable[tuple[int, int]] = (), allowed: str = "") -> None:
        """`covered` are spans that hold no negation or hedge (names and key words); `allowed` is a text, in small
        letters, whose own hedges are none here."""
        self.text = text
        self._masked = _mask(text.small, covered)
        self._allowed = allowed
        self.sentences = _sentences(text)
        self.clauses = self._split()
        self._starts = [clause.start for clause in self.clauses]
        self._denied = bytearray(len(text.small) + 1)
        self._open = bytearray(len(text.small) + 1)
        self._mark()

    def status(self, at: int) -> str:
        """Of the thing at this place."""
        return OPEN if self._open[at] else DENIED if self._denied[at] else SAID

    def clause(self, at: int) -> Clause:
        """The clause of a place."""
        return self.clauses[max(0, bisect.bisect_right(self._starts, at) - 1)]

    def sentence(self, at: int) -> tuple[int, int]:
        """Where the sentence of a place begins and ends."""
        return self.sentences[self.clause(at).sentence]

    def segment(self, at: int) -> tuple[int, int]:
        """The part of a clause between two "and"."""
        clause = self.clause(at)
        start, end = clause.start, clause.end
        for found in _FINE.finditer(self._masked, clause.start, clause.end):
            if self._in_value(found.start()):
                continue
            if found.end() <= at:
                start = found.end()
            elif found.start() >= at:
                return start, found.start()
        return start, end

    def retracted(self) -> int | None:
        """Where a later sentence takes back what was said before; None where none does."""
        for start, end in self.sentences[1:]:
            if _RETRACTION.match(self._masked[start:end].lstrip()):
                return start
        return None

    def _in_value(self, at: int) -> bool:
        place = bisect.bisect_right(self.text.values, (at, 0))
        return place > 0 and at < self.text.values[place - 1][1]

    def _split(self) -> list[Clause]:
        clauses = []
        for number, (start, end) in enumerate(self.sentences):
            cuts = [m.start() for m in _CLAUSE.finditer(self.text.small, start, end) if not self._in_value(m.start())]
            cuts += [m.start(1) for m in _COPULA_TWICE.finditer(self.text.small, start, end)]
            edges = [start, *sorted(cut for cut in set(cuts) if cut > start), end]
            clauses += [Clause(a, b, number) for a, b in pairwise(edges)]
        return clauses or [Clause(0, len(self.text.small), 0)]

    def _mark(self) -> None:
        for start, end in self.sentences:
            part = self._masked[start:end]
            if (
                self.text.small[end : end + 1] == "?"
                or part.rstrip().endswith(("吗", "么"))
                or part.rstrip().endswith("吧?")
            ):
                _fill(self._open, start, end)
            self._mark_unknown(part, start, end)
        for clause in self.clauses:
            self._mark_clause(clause)

    def _mark_unknown(self, part: str, start: int, end: int) -> None:
        """I do not know: of this sentence; alone, of all before it; but "I do not know when" only of when."""
        unknown = phrase("unknown").search(part)
        if not unknown or unknown[0] in self._allowed:
            return
        aside = _ASIDE.match(part, unknown.end())
        if aside and aside[1].lstrip() not in self._allowed:
            clause = self.clause(start + unknown.start())
            _fill(self._open, clause.start, end)
            return
        alone = len(part.strip()) - len(unknown[0].strip()) <= 12
        _fill(self._open, 0 if alone else start, end)

    def _mark_clause(self, clause: Clause) -> None:
        part = self._masked[clause.start : clause.end]
        belief = phrase("belief").search(part)
        if belief:
            _fill(self._open, clause.start, clause.end)
        hedge = phrase("hedge").search(part)
        if hedge and hedge[0] not in self._allowed and not _ABOUT.match(part, hedge.start()):
            _fill(self._open, clause.start, clause.end)
        for name, before in (("denial", True), ("denial_after", False)):
            found = phrase(name).search(part)
            if found and not (found[0] == "no" and re.match(r" ?no ?$", part)):
                _fill(self._denied, clause.start + (0 if before else found.start()), clause.end)


def _fill(flags: bytearray, start: int, end: int) -> None:
    flags[start:end] = b"\x01" * (end - start)


def _mask(small: str, covered: Iterable[tuple[int, int]]) -> str:
    """The text with other characters in place of idioms and of what is covered, so that no negation is seen there."""
    chars = list(small)
    for start, end in covered:
        chars[start:end] = "\x00" * (end - start)
    for found in phrase("idiom").finditer("".join(chars)):
        chars[found.start() : found.end()] = "\x01" * (found.end() - found.start())
    return "".join(chars)


def _sentences(text: Text) -> list[tuple[int, int]]:
    found, start = [], 0
    inside = {place for a, b in text.values for place in range(a, b)}
    for mark in _SENTENCE.finditer(text.small):
        at = mark.start()
        dot = mark[0] == "."
        if dot and (at in inside or (mark.end() < len(text.small) and text.small[mark.end()].isalnum())):
            continue
        if dot and at - 1 not in inside and _ABBREVIATION.search(text.small, max(0, at - 6), at):
            continue
        if at > start:
            found.append((start, at))
        start = mark.end()
    if start < len(text.small):
        found.append((start, len(text.small)))
    return found or [(0, len(text.small))]
