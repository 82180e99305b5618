"""Other answers beside the due one: several candidates, a rival number, a rival name, another subject."""

from __future__ import annotations

import re
from collections.abc import Iterable

from glmstudio.knowledge.judging.candidates import has_candidates
from glmstudio.knowledge.judging.case import Case, is_new, nearness
from glmstudio.knowledge.judging.rival_numbers import has_rival_number
from glmstudio.knowledge.judging.statements import SAID
from glmstudio.knowledge.language.phrases import phrase, phrases
from glmstudio.knowledge.language.quantities import Amount, Quantity, rivals, same

_ONE_OF = re.compile(r"(?:一[位个名只种座家所]|[位个名]|来自|在|这|那|由|的)")
_CONTRAST = re.compile(
    rf"\b({'|'.join(phrases('contrast', 'en'))}) ([a-z]+)"
    rf"|({'|'.join(phrases('contrast', 'zh'))})色?的?([\u4e00-\u9fff]{{2}})"
)


def contradiction(case: Case) -> str | None:
    """The first that is found: "candidates", "number" or "contradicted"."""
    if has_candidates(case):
        return "candidates"
    if any(has_rival_number(case, held) for held in case.held if held.what is not None):
        return "number"
    if _other_subject(case) or _other_condition(case) or _rival_name(case) or _rival_filler(case) or _over(case):
        return "contradicted"
    return None


def _other_subject(case: Case) -> bool:
    """The red button where the question asks for the blue one, in the very clause of the key words."""
    asked = {(m[2] or m[4]): (m[1] or m[3]) for m in _CONTRAST.finditer(case.question.text.small)}
    if not asked:
        return False
    for held in case.held:
        for at, _ in held.spans:
            clause = case.said.clause(at)
            part = case.said.text.small[clause.start : clause.end]
            seen = {(m[2] or m[4]): (m[1] or m[3]) for m in _CONTRAST.finditer(part)}
            if any(noun in seen and seen[noun] != which and which not in part for noun, which in asked.items()):
                return True
    return False


def _other_condition(case: Case) -> bool:
    """The winner of 2018 where the question asks for that of 2019."""
    for asked in (token.what for token in case.question.text.tokens if token.what is not None and not token.article):
        for held in case.held:
            for at, _ in held.spans:
                clause = case.said.clause(at)
                inside = [
                    t for t in case.said.text.tokens if clause.start <= t.start < clause.end and t.what is not None
                ]
                others = [
                    t.what
                    for t in inside
                    if not t.article and not case.holds_key(t.start, t.end) and t.what is not None
                ]
                if any(rivals(asked, what) and _alike(asked, what) for what in others) and not any(
                    same(asked, what) for what in others
                ):
                    return True
    return False


def _alike(asked: Quantity, what: Quantity) -> bool:
    """Two years or two weekdays: plain numbers of a question are seldom conditions."""
    return (
        not isinstance(asked, Amount)
        or bool(asked.dimension or 1000 <= asked.value <= 2200)
        or type(asked) is not type(what)
    )


def _rival_name(case: Case) -> bool:
    """ "The mayor is Lena Strand" where another name is due and is said of something else."""
    if not case.question.who:
        return False
    best = max((nearness(case, start) for held in case.held if held.what is None for start, _ in held.spans), default=0)
    for clause in case.said.clauses:
        if case.holds_key(clause.start, clause.end) or case.said.status(clause.start) != SAID:
            continue
        if nearness(case, clause.start) > best and _names_one(case, clause.start, clause.end):
            return True
    return False


def _names_one(case: Case, start: int, end: int) -> bool:
    tokens = [token for token in case.said.text.tokens if start <= token.start < end]
    for place, token in enumerate(tokens):
        if token.text in ("is", "was", "are", "were", "by", ":"):
            near = tokens[place + 1 : place + 2] + tokens[max(0, place - 1) : place]
            if any(case.said.text.is_name(other) and is_new(case, other) for other in near):
                return True
    return False


def _templates(case: Case) -> Iterable[str]:
    """The Chinese that stands right before what is asked for, in the question and in the due answer."""
    before = case.question.before_asked
    if len(before) >= 2 and before[-1] in "是叫为在姓":
        yield before[-3:]
    for held in case.held:
        start = held.key[0].start
        due = case.due.small[max(0, start - 4) : start]
        if re.fullmatch(r"[\u4e00-\u9fff]{4}", due) and due[:2] in case.question.text.small:
            yield due


def _rival_filler(case: Case) -> bool:
    """市长是王秀兰 where 李建国 is due: what leads to the answer leads to something else."""
    small = case.said.text.small
    for template in set(_templates(case)):
        for found in re.finditer(re.escape(template), small):
            clause = case.said.clause(found.start())
            if case.holds_key(clause.start, clause.end) or case.said.status(found.start()) != SAID:
                continue
            filler = re.match(r"[\u4e00-\u9fff]{2,}", small[found.end() : clause.end][:20])
            if filler and not _ONE_OF.match(filler[0]):
                return True
    return False


def _over(case: Case) -> bool:
    """ "Anna was it before, and now it is Lena": the due answer is said to be over."""
    if phrase("past").search(case.question.text.small):
        return False
    for held in case.held:
        if held.what is not None:
            continue
        for at, _ in held.spans:
            start, end = case.said.segment(at)
            if not phrase("past").search(case.said.text.small, start, end):
                continue
            if any(
                not case.holds_key(c.start, c.end) and phrase("present").search(case.said.text.small, c.start, c.end)
                for c in case.said.clauses
            ):
                return True
    return False
