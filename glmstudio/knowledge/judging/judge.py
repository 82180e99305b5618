"""Whether an answer says what is due: its key words, and nothing against them (`docs/knowledge.md` has the rule)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glmstudio.knowledge.judging.broken import broken, repeating
from glmstudio.knowledge.judging.case import Case, StatedKeyword
from glmstudio.knowledge.judging.contradictions import contradiction
from glmstudio.knowledge.judging.keywords import default_keywords
from glmstudio.knowledge.judging.matching import Span, places
from glmstudio.knowledge.judging.polarity import polarity
from glmstudio.knowledge.judging.questions import QuestionKind
from glmstudio.knowledge.judging.statements import DENIED, OPEN, SAID, Statements
from glmstudio.knowledge.language.quantities import Amount, Date, Time
from glmstudio.knowledge.language.tokens import Text

__all__ = ["Judgement", "broken", "default_keywords", "judge"]

LONGEST = 2_000  # characters of a question and a due answer that are looked at


@dataclass(frozen=True)
class Judgement:
    """Whether an answer is right, and the reason:

    right         it holds all key words and says nothing against them
    empty         there are no words in it
    repeating     it goes round in circles
    missing       key words are missing
    number        a number is another one, or is said of something else
    negated       it denies what is due, or does not deny what the due answer denies
    unsure        it leaves the answer open, or does not know
    candidates    it names others beside the due one
    contradicted  it says something else in the place of what is due, or takes it back
    polarity      it says yes for no, or no for yes
    """

    right: bool
    reason: str
    missing: tuple[str, ...] = ()


def judge(question: str, due: str, said: str, keywords: Sequence[str] = ()) -> Judgement:
    """Whether what was said answers the question as the due answer does.

    `keywords` take the place of the default ones; each may hold alternatives divided by `|`. Never raises, and looks at
    the first 8,000 characters of an answer.
    """
    text = Text(said)
    if not any(token.kind != "mark" for token in text.tokens):
        return Judgement(False, "empty")
    if _same_words(text, Text(due)):
        return Judgement(True, "right")
    if repeating(said):
        return Judgement(False, "repeating")
    case = _Comparison(question[:LONGEST], due[:LONGEST], text, keywords)
    reason = case.reason()
    return Judgement(reason == "right", reason, tuple(case.missing))


def _same_words(one: Text, other: Text) -> bool:
    """Whether two texts differ in marks and case only: the due answer itself is right, whatever it is."""
    words = [[token.text for token in text.tokens if token.kind != "mark"] for text in (one, other)]
    return words[0] == words[1]


class _Comparison:
    """One answer beside the one that is due."""

    def __init__(self, question: str, due: str, said: Text, keywords: Sequence[str]) -> None:
        self.question = QuestionKind(question)
        self.due = Text(due)
        given = [key for key in keywords if key.strip(" |")]
        self.keys = given or default_keywords(question, due)
        self.polar = self.question.polar
        if self.polar and not given:
            self.keys = [key for key in self.keys if not self._is_polarity(key)]
        self.places = {key: places(self.question, key, said) for key in self.keys}
        covered = [span for spans in self.places.values() for span in spans]
        in_due = [span for key in self.keys for span in places(self.question, key, self.due)]
        self.said = Statements(said, covered, allowed=f"{self.due.small}\n{self.question.text.small}")
        self.stated = Statements(self.due, in_due, allowed=self.due.small)
        self.missing = [key for key in self.keys if not self.places[key]]

    def reason(self) -> str:
        """The code of a `Judgement`."""
        if self.polar:
            wrong = self._wrong_polarity()
            if wrong:
                return wrong
        if self.missing:
            return self._why_missing()
        held = []
        for key in self.keys:
            spans, why = self._affirmed(key)
            if not spans:
                return why
            held.append(StatedKeyword(tuple(Text(key.split("|")[0]).tokens), tuple(spans)))
        if not held and not self.polar:
            return "missing"
        if self._taken_back(held):
            return "contradicted"
        return contradiction(Case(self.question, self.due, self.said, tuple(held))) or "right"

    def _is_polarity(self, key: str) -> bool:
        """A key word that only says yes or no: the question holds the rest."""
        return key in self.due.text and (len(key) <= 3 or key.rstrip(".。 ") == self.due.text.rstrip(".。 "))

    def _wrong_polarity(self) -> str | None:
        wanted = polarity(self.question, self.stated)
        if wanted is None:
            return None
        got = polarity(self.question, self.said)
        if got is None:
            return "unsure" if self.said.status(0) == OPEN else "missing"
        return None if got == wanted else "polarity"

    def _why_missing(self) -> str:
        if all(self.said.status(token.start) == OPEN for token in self.said.text.tokens if token.kind != "mark"):
            return "unsure"
        due = [token.what for key in self.missing for token in Text(key).tokens]
        kinds = tuple({type(what) for what in due if isinstance(what, Amount | Date | Time)})
        said = any(isinstance(token.what, kinds) for token in self.said.text.tokens) if kinds else False
        return "number" if said else "missing"

    def _affirmed(self, key: str) -> tuple[list[Span], str]:
        """Where the key word is said as the due answer says it; else why it is not."""
        wanted = self._wanted(key)
        found = [span for span in self.places[key] if self.said.status(span[0]) in wanted]
        others = {self.said.status(span[0]) for span in self.places[key]}
        return found, "unsure" if OPEN in others and DENIED not in others else "negated"

    def _wanted(self, key: str) -> frozenset[str]:
        if self.polar or self.question.negated:
            return frozenset((SAID, DENIED))
        own = places(self.question, key, self.due)
        denied = bool(own) and self.stated.status(own[0][0]) == DENIED
        return frozenset((DENIED,)) if denied else frozenset((SAID,))

    def _taken_back(self, held: list[StatedKeyword]) -> bool:
        at = None if self.polar else self.said.retracted()
        return at is not None and any(all(start < at for start, _ in each.spans) for each in held)
