"""Other answers beside the due one: several candidates, a rival number, a rival name, another subject."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from glmstudio.knowledge.judging.questions import QuestionKind
from glmstudio.knowledge.judging.statements import SAID, Statements
from glmstudio.knowledge.language.phrases import phrase, phrases
from glmstudio.knowledge.language.quantities import Amount, Quantity, rivals, same
from glmstudio.knowledge.language.tokens import STOP, Text, Token, stem

_OR = re.compile(r"\bor\b(?! (?:so|more|less|rather)\b)|或者?|还是|要么|抑或|(?<=[^\W\d]) ?/ ?(?=[^\W\d])")
_MOST = 24  # rivals of one key word that are looked at
_SENTENCE_BETWEEN = re.compile(r"\b(?:is|are|was|were|has|have|had|by|with|that|so|which)\b")
_NEAR = 40  # characters between a candidate and its "or"
_JOINED = re.compile(r"[队号省市县区镇村街路]?(?:[和与跟及、]|以及)")
_NOT_NAMED = "他她它其我你您这那一各几多"
_RANGE = frozenset(("到", "至", "-", "~", "to"))
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
_ONE_OF = re.compile(r"(?:一[位个名只种座家所]|[位个名]|来自|在|这|那|由|的)")
_CONTRAST = re.compile(
    rf"\b({'|'.join(phrases('contrast', 'en'))}) ([a-z]+)"
    rf"|({'|'.join(phrases('contrast', 'zh'))})色?的?([\u4e00-\u9fff]{{2}})"
)


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


def contradiction(case: Case) -> str | None:
    """The first that is found: "candidates", "number" or "contradicted"."""
    if _has_candidates(case) or _has_range(case) or _is_joined(case):
        return "candidates"
    if any(_rival_number(case, held) for held in case.held if held.what is not None):
        return "number"
    if _other_subject(case) or _other_condition(case) or _rival_name(case) or _rival_filler(case) or _over(case):
        return "contradicted"
    return None


def _has_candidates(case: Case) -> bool:
    small = case.said.text.small
    if _OR.search(case.due.small):
        return False
    for found in _OR.finditer(small):
        start, end = case.said.sentence(found.start())
        for held in case.held:
            near = [span for span in held.spans if start <= span[0] < end and _in_list(case, span, found)]
            if near and (held.what is None or _other_values(case, held, found.start() - _NEAR, found.end() + _NEAR)):
                return True
    return False


def _in_list(case: Case, span: tuple[int, int], found: re.Match[str]) -> bool:
    """Whether only other candidates stand between a key word and an "or", and no sentence about it."""
    small = case.said.text.small
    between = small[span[1] : found.start()] if span[1] <= found.start() else small[found.end() : span[0]]
    if len(between) > _NEAR or _SENTENCE_BETWEEN.search(between):
        return False
    last = re.split("[,、]", between)[-1]
    return len(re.findall(r"[\u4e00-\u9fff]", last)) <= 5


def _other_values(case: Case, held: StatedKeyword, start: int, end: int) -> list[Token]:
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


def _has_range(case: Case) -> bool:
    """5 to 7 where 7 is due; years and hours begin and end, and are none."""
    tokens = case.said.text.tokens
    for held in case.held:
        if not isinstance(held.what, Amount) or 1000 <= held.what.value <= 2200:
            continue
        for first, joint, last in zip(tokens, tokens[1:], tokens[2:], strict=False):
            ends = {first.start, last.start}
            between = joint.text == "and" and re.search(r"\bbetween $", case.said.text.small[: first.start][-9:])
            if first.what is None or last.what is None or not (joint.text in _RANGE or between):
                continue
            if ends & {start for start, _ in held.spans} and _other_values(case, held, first.start, last.end):
                return True
    return False


def _is_joined(case: Case) -> bool:
    """A name beside the due one: "Anna and Bert" where Anna is due."""
    if case.question.polar:
        return False
    return any(
        _joined_english(case, span) or _joined_han(case, span)
        for held in case.held
        if held.what is None
        for span in held.spans
    )


def _joined_english(case: Case, span: tuple[int, int]) -> bool:
    tokens = case.said.text.tokens
    place = case.said.text.place.get(span[0])
    if place is None or not case.said.text.is_name(tokens[place]):
        return False
    after = (
        place + 3
        if place + 2 < len(tokens) and tokens[place + 2].text in ("the", "dr", "mr", "mrs", "ms")
        else place + 2
    )
    for joint, other in ((place + 1, after), (place - 1, place - 2)):
        if min(joint, other) >= 0 and max(joint, other) < len(tokens) and tokens[joint].text in ("and", "&"):
            token = tokens[other]
            if case.said.text.is_name(token) and _is_new(case, token) and case.said.status(token.start) == SAID:
                return True
    return False


def _is_new(case: Case, token: Token) -> bool:
    """A word that stands neither in the due answer nor in the question."""
    known = case.due.stems | case.question.text.stems
    return token.kind == "word" and token.text not in STOP and stem(token.text) not in known


def _joined_han(case: Case, span: tuple[int, int]) -> bool:
    small = case.said.text.small
    if not case.question.one_of:
        return False
    after = _JOINED.match(small, span[1])
    if after:
        other = re.match(r"[\u4e00-\u9fff]{2}", small[after.end() : after.end() + 2])
        if other and other[0][0] not in _NOT_NAMED and other[0] not in case.due.small + case.question.text.small:
            return True
    before = re.search(r"([\u4e00-\u9fff]{2})[和与跟]$", small[max(0, span[0] - 3) : span[0]])
    return before is not None and before[1] not in case.due.small + case.question.text.small


def _rival_number(case: Case, held: StatedKeyword) -> bool:
    """Whether another number of its kind is said of what was asked, and the due one of something else."""
    all_others = _other_values(case, held, 0, len(case.said.text.small))
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
    best = max(_nearness(case, start) for start in own)
    return any(_nearness(case, token.start) > best for token in others)


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


def _nearness(case: Case, at: int) -> int:
    """How much the part of the sentence around a place speaks of what was asked."""
    start, end = case.said.segment(at)
    small = case.said.text.small[start:end]
    stems = {stem(token.text) for token in case.said.text.tokens if token.kind == "word" and start <= token.start < end}
    return sum(
        weight
        for anchor, weight in case.question.anchors.items()
        if anchor in stems or (not anchor.isascii() and anchor in small)
    )


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
    best = max(
        (_nearness(case, start) for held in case.held if held.what is None for start, _ in held.spans), default=0
    )
    for clause in case.said.clauses:
        if case.holds_key(clause.start, clause.end) or case.said.status(clause.start) != SAID:
            continue
        if _nearness(case, clause.start) > best and _names_one(case, clause.start, clause.end):
            return True
    return False


def _names_one(case: Case, start: int, end: int) -> bool:
    tokens = [token for token in case.said.text.tokens if start <= token.start < end]
    for place, token in enumerate(tokens):
        if token.text in ("is", "was", "are", "were", "by", ":"):
            near = tokens[place + 1 : place + 2] + tokens[max(0, place - 1) : place]
            if any(case.said.text.is_name(other) and _is_new(case, other) for other in near):
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
