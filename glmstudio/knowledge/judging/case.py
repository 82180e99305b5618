"""What an answer is judged by: the question, what is due, what was said, and the key words that are stated."""

from __future__ import annotations

from dataclasses import dataclass

from glmstudio.knowledge.judging.questions import QuestionKind
from glmstudio.knowledge.judging.statements import Statements
from glmstudio.knowledge.language.quantities import Amount, Quantity, rivals, same
from glmstudio.knowledge.language.tokens import STOP, Text, Token, stem


@dataclass(frozen=True)
class StatedKeyword:
    """A key word that the answer states: its tokens in the due answer, and where it is said."""

    key: tuple[Token, ...]
    spans: tuple[tuple[int, int], ...]

    @property
    def what(self) -> Quantity | None:
        """Its quantity, where it is one."""
        return self.key[0].what if len(self.key) == 1 else None


@dataclass(frozen=True)
class Case:
    """All that a contradiction is looked for in."""

    question: QuestionKind
    due: Text
    said: Statements
    held: tuple[StatedKeyword, ...]

    def holds_key(self, start: int, end: int) -> bool:
        """Whether a key word is said between two places."""
        return any(start <= at < end for held in self.held for at, _ in held.spans)


def fitted(question: QuestionKind, what: Quantity | None) -> Quantity | None:
    """A number alone in the unit, or with the classifier, that the question asks for."""
    if not isinstance(what, Amount) or what.dimension:
        return what
    if question.unit and not what.counter:
        return Amount(what.value * question.unit.value, question.unit.dimension)
    return Amount(what.value, "", what.counter or question.counter)


def other_values(case: Case, held: StatedKeyword, start: int, end: int) -> list[Token]:
    """Quantities that could stand in the place of the due one, and that neither the due answer nor the question has."""
    due = fitted(case.question, held.what)
    known = [fitted(case.question, token.what) for text in (case.due, case.question.text) for token in text.tokens]
    found = []
    for token in case.said.text.tokens:
        what = fitted(case.question, token.what)
        if what is None or due is None or token.article or not start <= token.start < end:
            continue
        if rivals(due, what) and not any(other is not None and same(other, what) for other in known):
            found.append(token)
    return found


def is_new(case: Case, token: Token) -> bool:
    """A word that stands neither in the due answer nor in the question."""
    known = case.due.stems | case.question.text.stems
    return token.kind == "word" and token.text not in STOP and stem(token.text) not in known


def nearness(case: Case, at: int) -> int:
    """How much the part of the sentence around a place speaks of what was asked."""
    start, end = case.said.segment(at)
    small = case.said.text.small[start:end]
    stems = {stem(token.text) for token in case.said.text.tokens if token.kind == "word" and start <= token.start < end}
    return sum(
        weight
        for anchor, weight in case.question.anchors.items()
        if anchor in stems or (not anchor.isascii() and anchor in small)
    )
