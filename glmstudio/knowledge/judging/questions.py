"""What a question asks for: a yes or no, a person, a number of which things, in which unit."""

from __future__ import annotations

import re
from functools import cached_property

from glmstudio.knowledge.language.measures import COUNTERS, unit_at
from glmstudio.knowledge.language.quantities import Amount
from glmstudio.knowledge.language.tokens import STOP, Text, stem

_POLAR = re.compile(
    r"(?:and |so |but |please tell me,? )?(?:is|are|was|were|am|do|does|did|has|have|had|can|could|may|might|must|"
    r"should|shall|will|would|isn't|aren't|don't|doesn't|can't|didn't|wasn't)\b"
)
_HAN_POLAR = re.compile(r"(.)[不没]\1|有没有|是否|能否|可否|(?:吗|么|没有|没|不)[?\s。]*$")
_HAN_OPEN = re.compile(r"什么|谁|哪|几|多少|怎|为何|为什么")
_EITHER = re.compile(r"\bor\b|还是")
_WHO = re.compile(r"\b(?:who|whom|whose)\b|谁|哪位|什么人|叫什么|什么名字|名字是什么|\b(?:called|name|named)\b")
_HOW_MANY = re.compile(r"\bhow (?:many|much) ([a-z-]{1,30}(?: [a-z-]{1,30}){0,3})")
_UNIT_ASKED = re.compile(r"(?:\bhow (?:many|much) |多少|几)个?")
_COUNTED = re.compile(r"(?:多少|几)([\u4e00-\u9fff])([\u4e00-\u9fff]{0,6})")
_HOW_OLD = re.compile(r"\bhow old\b|几岁|多大|多少岁")
_MONEY = re.compile(r"多少钱")
_NOT = re.compile(r"\bnot\b|n't\b|\bnever\b|\bcannot\b|不(?!锈|仅|同)|没(?!有[?\s]*$)|未|无法|禁止")
_WH_HAN = re.compile(
    r"什么(?:时候|地方|人|名字|颜色)?|谁|哪[一个位里儿年天座家种几些]*|几[点月日号]?|多少|怎么样?|多[长高重大远久深宽厚]"
)


class QuestionKind:
    """A question in normal form, and what it asks for."""

    def __init__(self, question: str) -> None:
        self.text = Text(question)

    @cached_property
    def polar(self) -> bool:
        """Whether yes or no answers it."""
        small = self.text.small.strip()
        if _EITHER.search(small):
            return False
        if _POLAR.match(small):
            return True
        return bool(_HAN_POLAR.search(small)) and not _HAN_OPEN.search(small)

    @cached_property
    def who(self) -> bool:
        """Whether a name answers it."""
        return bool(_WHO.search(self.text.small))

    @cached_property
    def one_of(self) -> bool:
        """Whether it asks in Chinese for one person or thing, by its name."""
        return self.who or bool(re.search(r"哪一?[个支位家座条只种本所间款]", self.text.small))

    @cached_property
    def negated(self) -> bool:
        """Whether it asks what is not."""
        return not self.polar and bool(_NOT.search(self.text.small))

    @cached_property
    def unit(self) -> Amount | None:
        """The unit that a number alone is in: kilograms in "how many kilograms"."""
        small = self.text.small
        asked = _UNIT_ASKED.search(small)
        unit = unit_at(small, asked.end()) if asked else None
        if unit:
            return Amount(unit[1], unit[0])
        for pattern, name in ((_HOW_OLD, "years"), (_MONEY, "元")):
            if pattern.search(small) and (unit := unit_at(name, 0)):
                return Amount(unit[1], unit[0])
        return None

    @cached_property
    def counted(self) -> frozenset[str]:
        """The stems of the things that "how many" counts."""
        found = _HOW_MANY.search(self.text.small)
        words: list[str] = []
        for word in found[1].split() if found else ():
            if word in STOP:
                break
            words.append(stem(word))
        return frozenset(words)

    @cached_property
    def counter(self) -> str:
        """The classifier after 几 or 多少."""
        found = _COUNTED.search(self.text.small)
        return found[1] if found and found[1] in COUNTERS else ""

    @cached_property
    def counts(self) -> bool:
        """Whether it asks for a number."""
        return bool(
            _HOW_MANY.search(self.text.small) or re.search(r"几|多少|第几|\bwhich (?:number|floor)", self.text.small)
        )

    @cached_property
    def anchors(self) -> dict[str, int]:
        """Stems and pairs of characters by which a clause is known to speak of what is asked, with their weight."""
        return {**self._english_anchors(), **self._han_anchors()}

    @cached_property
    def before_asked(self) -> str:
        """The Chinese right before the asking word: 市长是 in 东湖市的市长是谁."""
        found = _WH_HAN.search(self.text.small)
        before = re.search(r"[\u4e00-\u9fff]{2,12}$", self.text.small[: found.start()]) if found else None
        return before[0] if before else ""

    def _english_anchors(self) -> dict[str, int]:
        words = [token for token in self.text.tokens if token.kind == "word" and token.text.isascii()]
        return {
            stem(token.text): 1
            for place, token in enumerate(words)
            if token.text not in STOP and not (place and self.text.is_name(token))
        }

    def _han_anchors(self) -> dict[str, int]:
        small = self.text.small
        found = _WH_HAN.search(small)
        pairs = {
            small[i : i + 2]: 1
            for i in range(len(small) - 1)
            if "\u4e00" <= small[i] <= "\u9fff" and "\u4e00" <= small[i + 1] <= "\u9fff"
        }
        if not found:
            return pairs
        after = "".join(re.findall(r"[\u4e00-\u9fff]", small[found.end() :].rstrip("的?。 了吗呢啊")))
        before = re.sub(r"[是在有为叫由于的]+$", "", small[: found.start()])[-2:]
        key = re.sub(r"^[年月日天点名座个]", "", after) if len(after) > 1 else after
        pairs[key or before] = 3
        pairs.pop("", None)
        return pairs
