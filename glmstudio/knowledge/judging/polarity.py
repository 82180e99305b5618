"""Yes or no: which of the two a text says to its question."""

from __future__ import annotations

import re

from glmstudio.knowledge.judging.questions import QuestionKind
from glmstudio.knowledge.judging.statements import DENIED, OPEN, SAID, Clause, Statements
from glmstudio.knowledge.language.phrases import either, opposites
from glmstudio.knowledge.language.tokens import STOP, stem

_FRAME = 4  # clauses before a yes or no
_MOST = 24  # clauses that are looked at
_YES = re.compile(rf"[\s\"',:()]{{0,4}}(?:oh,? |well,? )?{either('yes')}(?! not|不|没)")
_NO = re.compile(rf"[\s\"',:()]{{0,4}}(?:oh,? |well,? )?{either('no')}")
_PROFORM = re.compile(
    r"\b(?:it|he|she|they|you|we|that|this|one|i) "
    r"(?:is|are|was|were|does|do|did|can|could|may|must|should|has|have|had|will|would)\b"
)


def polarity(question: QuestionKind, said: Statements) -> bool | None:
    """True for yes, False for no, None where neither is said or both are."""
    lead = _lead(question, said)
    if lead is None:
        return _claimed(question, said, None)
    clause, yes = lead
    claimed = _claimed(question, said, clause)
    return None if claimed is not None and claimed != yes and not question.negated else yes


def _lead(question: QuestionKind, said: Statements) -> tuple[Clause, bool] | None:
    """The clause that begins with yes or no, with nothing before it but words around an answer: "Good question! No"."""
    for clause in said.clauses[:_FRAME]:
        part = said.text.small[clause.start : clause.end]
        if said.status(clause.start) == OPEN:
            continue
        if _NO.match(part) or _YES.match(part):
            return clause, not _NO.match(part)
        if _overlap(question, said, clause):
            return None
    return None


def _claimed(question: QuestionKind, said: Statements, lead: Clause | None) -> bool | None:
    """What the first clause says that speaks of what was asked; beside a leading yes or no it has to do so clearly."""
    for clause in said.clauses[:_MOST]:
        status = _clause_status(said, clause)
        part = said.text.small[clause.start : clause.end]
        if status == OPEN or (lead and clause.start <= lead.start and not _YES.match(part)):
            continue
        overlap = _overlap(question, said, clause)
        if overlap >= (2 if lead else 1) or (not lead and (_PROFORM.search(part) or status == DENIED)):
            return (status == SAID) != (_opposite(question, part) or _of_another(question, said, clause))
    return None


def _clause_status(said: Statements, clause: Clause) -> str:
    """Denied where a denial stands anywhere in it."""
    found = {said.status(at) for at in range(clause.start, clause.end)}
    return OPEN if OPEN in found else DENIED if DENIED in found else SAID


def _overlap(question: QuestionKind, said: Statements, clause: Clause) -> int:
    part = said.text.small[clause.start : clause.end]
    words = {
        stem(t.text)
        for t in said.text.tokens
        if t.kind == "word" and t.text not in STOP and clause.start <= t.start < clause.end
    }
    asked = question.text.small
    pairs = {
        part[i : i + 2]
        for i in range(len(part) - 1)
        if "\u4e00" <= part[i] <= "\u9fff" and "\u4e00" <= part[i + 1] <= "\u9fff"
    }
    single = len(part.strip()) <= 2 and any(char in asked for char in part if "\u4e00" <= char <= "\u9fff")
    return len(words & question.text.stems) + sum(pair in asked for pair in pairs) + single


def _of_another(question: QuestionKind, said: Statements, clause: Clause) -> bool:
    """Bert is the founder: said of another than the one who is asked about."""
    asked = {stem(token.text) for token in question.text.tokens[1:] if question.text.is_name(token)}
    inside = [token for token in said.text.tokens if clause.start <= token.start < clause.end and token.kind == "word"]
    if not asked or {stem(token.text) for token in inside} & asked or not inside:
        return False
    first = inside[0]
    return said.text.is_name(first) and first.text not in STOP and stem(first.text) not in question.text.stems


def _opposite(question: QuestionKind, part: str) -> bool:
    asked = question.text.small
    return any(
        (a in asked and b in part and b not in asked) or (b in asked and a in part and b not in part and a not in asked)
        for a, b in opposites()
    )
