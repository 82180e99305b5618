"""Another number of its kind that is said of what was asked."""

from __future__ import annotations

from glmstudio.knowledge.judging.case import Case, StatedKeyword, nearness, other_values
from glmstudio.knowledge.judging.statements import SAID
from glmstudio.knowledge.language.quantities import Amount
from glmstudio.knowledge.language.tokens import STOP, Token, stem

_MOST = 24  # rivals of one key word that are looked at
_PEOPLE = frozenset(map(stem, ["people", "persons", "person", "inhabitants", "residents", "individuals", "staff"]))
_PERSONS = _PEOPLE | frozenset(
    map(
        stem,
        [
            "employees",
            "workers",
            "students",
            "pupils",
            "members",
            "citizens",
            "children",
            "teachers",
            "visitors",
            "guests",
            "players",
            "soldiers",
        ],
    )
)


def has_rival_number(case: Case, held: StatedKeyword) -> bool:
    """Whether another number of its kind is said of what was asked, and the due one of something else."""
    all_others = other_values(case, held, 0, len(case.said.text.small))
    others = [token for token in all_others if case.said.status(token.start) == SAID][:_MOST]
    own = [start for start, _ in held.spans]
    if isinstance(held.what, Amount) and not held.what.dimension and case.question.counted:
        strong = any(_counts_asked(case, start) for start in own)
        if any(_counts_asked(case, token.start) for token in others):
            return True
        plain = all(_ends_bare(case, start) for start in own)
        if not strong and not plain and _numbers_said(case) > 1:
            return True
        if strong:
            return False
    best = max(nearness(case, start) for start in own)
    return any(nearness(case, token.start) > best for token in others)


def _numbers_said(case: Case) -> int:
    return sum(token.what is not None and not token.article for token in case.said.text.tokens)


def _after(case: Case, start: int) -> list[Token]:
    """The three tokens after the one that begins here, up to a mark."""
    tokens = case.said.text.tokens
    place = case.said.text.place.get(start, len(tokens))
    found = []
    for token in tokens[place + 1 : place + 4]:
        if token.kind != "word":
            break
        found.append(token)
    return found


def _counts_asked(case: Case, start: int) -> bool:
    """Whether the number is followed by the noun that "how many" asks for; people may be called people."""
    after = {stem(token.text) for token in _after(case, start)}
    return bool(after & case.question.counted) or bool(case.question.counted & _PERSONS and after & _PEOPLE)


def _ends_bare(case: Case, start: int) -> bool:
    after = _after(case, start)
    return not after or after[0].text in STOP
