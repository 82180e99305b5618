"""Several answers at once: an "or", a range, a name beside the due one."""

from __future__ import annotations

import re

from glmstudio.knowledge.judging.case import Case, is_new, other_values
from glmstudio.knowledge.judging.statements import SAID
from glmstudio.knowledge.language.quantities import Amount

_OR = re.compile(r"\bor\b(?! (?:so|more|less|rather)\b)|或者?|还是|要么|抑或|(?<=[^\W\d]) ?/ ?(?=[^\W\d])")
_SENTENCE_BETWEEN = re.compile(r"\b(?:is|are|was|were|has|have|had|by|with|that|so|which)\b")
_NEAR = 40  # characters between a candidate and its "or"
_JOINED = re.compile(r"[队号省市县区镇村街路]?(?:[和与跟及、]|以及)")
_NOT_NAMED = "他她它其我你您这那一各几多"
_RANGE = frozenset(("到", "至", "-", "~", "to"))


def has_candidates(case: Case) -> bool:
    """Whether the answer names several where one is due."""
    return _has_alternatives(case) or _has_range(case) or _is_joined(case)


def _has_alternatives(case: Case) -> bool:
    small = case.said.text.small
    if _OR.search(case.due.small):
        return False
    for found in _OR.finditer(small):
        start, end = case.said.sentence(found.start())
        for held in case.held:
            near = [span for span in held.spans if start <= span[0] < end and _in_list(case, span, found)]
            if near and (held.what is None or other_values(case, held, found.start() - _NEAR, found.end() + _NEAR)):
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
            if ends & {start for start, _ in held.spans} and other_values(case, held, first.start, last.end):
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
            if case.said.text.is_name(token) and is_new(case, token) and case.said.status(token.start) == SAID:
                return True
    return False


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
