"""What a score of facts found: six lines, what changed, and one sentence with one piece of advice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from glmstudio.knowledge.asking import ModelAnswer
from glmstudio.knowledge.exam import FORMS, Question
from glmstudio.knowledge.judging.judge import broken
from glmstudio.words import say

BASE, TUNED = "base", "tuned"
COUNTED = ("learned", "generalised", "applied", "kept", "overreach", "broken")
_Z = 1.959964  # of the normal distribution: 95 % lie within
_FEW, _MANY = 0.9, 0.1  # shares below and above which something is advised
_WORDED = 0.6

Answers = Mapping[tuple[str, str], ModelAnswer]


@dataclass(frozen=True)
class Count:
    """How many of `of` in base and tuned; `tuned` is None where nothing tuned was asked."""

    base: int
    tuned: int | None
    of: int

    def share(self, who: str = TUNED) -> float:
        """The share of one of them; of the base where there is no other."""
        number = self.base if who == BASE or self.tuned is None else self.tuned
        return number / self.of if self.of else 0.0


@dataclass(frozen=True)
class Flip:
    """A question that base and tuned answered differently well. For a neighbour, `better` means left alone."""

    line: str
    form: str
    question: str
    due: str
    base: str
    tuned: str
    better: bool


@dataclass(frozen=True)
class FactsScore:
    """`counts` by line, None where it has no question; `by_form` the same for each form of prompt alone. `known` are
    the places of facts that the base knew. `likelihood`: mean log-probability of the answers due, base and tuned."""

    facts: int
    forms: tuple[str, ...]
    counts: dict[str, Count | None]
    by_form: dict[str, dict[str, Count | None]]
    known: tuple[int, ...]
    likelihood: tuple[float | None, float | None]
    flips: tuple[Flip, ...]

    @classmethod
    def from_json(cls, table: Mapping[str, Any]) -> FactsScore | None:
        """What `to_json` wrote; None where it is something else."""
        try:
            return cls(
                int(table["facts"]),
                tuple(map(str, table["forms"])),
                _read(table),
                {form: _read(table["by_form"][form]) for form in FORMS if form in table["by_form"]},
                tuple(map(int, table["known"])),
                (table["likelihood"][BASE], table["likelihood"][TUNED]),
                tuple(Flip(**flip) for flip in table["flips"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def to_json(self, lang: str = "en") -> dict[str, Any]:
        """As `score --json` prints it."""
        return {
            "kind": "facts",
            "facts": self.facts,
            **_counts(self.counts),
            "verdict": verdict(lang, self),
            "flips": [asdict(flip) for flip in self.flips],
            "forms": list(self.forms),
            "by_form": {form: _counts(lines) for form, lines in self.by_form.items()},
            "known": list(self.known),
            "likelihood": dict(zip((BASE, TUNED), self.likelihood, strict=True)),
        }


def wilson(count: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share that was seen `count` times of `of` (Wilson's score interval)."""
    if not of:
        return 0.0, 1.0
    share, z2 = count / of, _Z * _Z / of
    middle, half = share + z2 / 2, _Z * math.sqrt(share * (1 - share) / of + z2 / (4 * of))
    return max(0.0, (middle - half) / (1 + z2)), min(1.0, (middle + half) / (1 + z2))


def scored(questions: Sequence[Question], answers: Answers, forms: Sequence[str], *, tuned: bool) -> FactsScore:
    """The score of the questions that everybody answered. A fact counts as learned where it is known in each of
    `forms`; in the others, it is only told."""
    whos = (BASE, TUNED) if tuned else (BASE,)
    asked = [each for each in questions if all((who, each.key) in answers for who in whos)]
    marks = {each.key: {who: each.is_right(answers[who, each.key].text) for who in whos} for each in asked}
    everywhere = sorted({each.form for each in asked if each.line != "kept"})

    def count(within: Sequence[str]) -> dict[str, Count | None]:
        return {line: _of_line(line, asked, marks, within, whos) for line in COUNTED[:-1]}

    counts = count(forms) | {"broken": _broken(asked, answers, whos)}
    known = {each.fact for each in asked if each.line == "learned" and marks[each.key][BASE]}
    return FactsScore(
        facts=len({each.fact for each in asked if each.fact is not None}),
        forms=tuple(forms),
        counts=counts,
        by_form={form: count([form]) for form in everywhere},
        known=tuple(sorted(number for number in known if number is not None)),
        likelihood=(_likelihood(asked, answers, BASE), _likelihood(asked, answers, TUNED) if tuned else None),
        flips=tuple(_flips(asked, answers, marks)) if tuned else (),
    )


def verdict(lang: str, score: FactsScore) -> str:
    """What was measured in one or two sentences, and the one thing to do about it."""
    counts = score.counts
    said = [say(lang, "knowledge.learned", n=_n(counts["learned"]), of=_of(counts["learned"]))]
    said += [
        say(lang, f"knowledge.{line}", n=_n(count), of=count.of)
        for line in COUNTED[1:]
        if (count := counts[line]) is not None and (line not in ("overreach", "broken") or _n(count))
    ]
    if advice := advise(score):
        said.append(say(lang, f"knowledge.advice.{advice}"))
    return (" " if lang == "en" else "").join(said)


def advise(score: FactsScore) -> str | None:
    """The key of what would help most; None where nothing stands out, and where nothing tuned was asked."""
    learned = score.counts["learned"]
    if learned is None or learned.tuned is None:
        return None

    def below(line: str, least: float) -> bool:
        count = score.counts[line]
        return count is not None and count.share() < least

    def above(line: str) -> bool:
        count = score.counts[line]
        return count is not None and count.share() > _MANY

    toolless = score.by_form.get("tools", {}).get("learned") if "tools" not in score.forms else None
    checks = {
        "broken": above("broken"),
        "learn_more": learned.share() < _FEW,
        "rehearse": below("kept", _FEW),
        "neighbours": above("overreach"),
        "tools": toolless is not None and toolless.share() < learned.share() - _MANY,
        "wordings": below("generalised", _WORDED),
    }
    return next((name for name, yes in checks.items() if yes), None)


def _of_line(
    line: str, asked: Sequence[Question], marks: Any, forms: Sequence[str], whos: Sequence[str]
) -> Count | None:
    """Questions that are asked in several forms count once: right where all are, and over-reaching where one does."""
    these = [each for each in asked if each.line == line and (line == "kept" or each.form in forms)]
    if line == "kept":
        these = [each for each in these if marks[each.key][BASE]]
    if not these:
        return None
    together = any if line == "overreach" else all
    items: dict[Any, list[Question]] = {}
    for each in these:
        items.setdefault((each.fact, each.asked, each.form if line == "kept" else ""), []).append(each)
    found = [sum(together(marks[each.key][who] for each in item) for item in items.values()) for who in whos]
    return Count(found[0], found[1] if len(found) > 1 else None, len(items))


def _broken(asked: Sequence[Question], answers: Answers, whos: Sequence[str]) -> Count | None:
    if not asked:
        return None
    found = [sum(_is_broken(each, answers[who, each.key]) for each in asked) for who in whos]
    return Count(found[0], found[1] if len(found) > 1 else None, len(asked))


def _is_broken(question: Question, said: ModelAnswer) -> bool:
    name, _, text = said.text.partition("\n")
    if name.strip():
        return not said.ended
    due = question.due if question.line != "overreach" else ""
    return broken(text, ended=said.ended, due=due, question=question.asked) is not None


def _likelihood(asked: Sequence[Question], answers: Answers, who: str) -> float | None:
    found = [answers[who, each.key].likelihood for each in asked if each.line == "learned"]
    known = [value for value in found if value is not None]
    return sum(known) / len(known) if known else None


def _flips(asked: Sequence[Question], answers: Answers, marks: Any) -> Iterator[Flip]:
    """What became worse first: that is what must be seen."""
    changed = [each for each in asked if marks[each.key][BASE] != marks[each.key][TUNED]]

    def better(each: Question) -> bool:
        return bool(marks[each.key][TUNED]) != (each.line == "overreach")

    for good, group in groupby(sorted(changed, key=better), key=better):
        for each in group:
            base, tuned = (answers[who, each.key].text.strip() for who in (BASE, TUNED))
            yield Flip(each.line, each.form, each.asked, each.due, base, tuned, good)


def _read(table: Mapping[str, Any]) -> dict[str, Count | None]:
    given = {line: table[line] for line in COUNTED if line in table}
    return {line: None if count is None else Count(**count) for line, count in given.items()}


def _counts(counts: Mapping[str, Count | None]) -> dict[str, Any]:
    return {line: _count(count) for line, count in counts.items()}


def _count(count: Count | None) -> dict[str, int | None] | None:
    return None if count is None else {"base": count.base, "tuned": count.tuned, "of": count.of}


def _n(count: Count | None) -> int:
    return 0 if count is None else count.base if count.tuned is None else count.tuned


def _of(count: Count | None) -> int:
    return 0 if count is None else count.of
