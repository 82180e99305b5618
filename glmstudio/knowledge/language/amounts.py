"""Amounts in both languages: 1.5 km, an hour and a half, 四十块钱, 第三层."""

from __future__ import annotations

import re
from fractions import Fraction

from glmstudio.knowledge.language.measures import COUNTERS, money_before, unit_at
from glmstudio.knowledge.language.normal import is_han
from glmstudio.knowledge.language.numerals import HAN_NUMERALS, numeral_at, whole
from glmstudio.knowledge.language.quantities import Amount, FoundQuantity

_AND = re.compile(r",? and | ?零|,? ?")
_SPACE = re.compile(r" ?零?")
_HALF_OF = re.compile(r"half an? |半个?")
_COUNTER_HALF = re.compile(r"个半|([年天周])半")
_A_UNIT = re.compile(
    r"an? (hour|minute|day|week|month|year|kilomet(?:re|er)|met(?:re|er)|mile|kilo|kilogram|gram|lit(?:re|er))"
    r"( and a half)?\b"
)
_VERSION = re.compile(r"\d{1,9}(?:\.\d{1,9}){2,8}")
_CODE = re.compile(r"0\d{1,30}(?!\d|\.\d)")
_COINS = re.compile(r"块([一二三四五六七八九])(?![一二三四五六七八九十百千万])")
_DIGITS_ALONE = re.compile(r"[〇零一二三四五六七八九]{2,20}")
_COMPOUND = frozenset(("time", "month", "length", "yuan", "mass"))


def amount_at(small: str, at: int) -> FoundQuantity | None:
    """The amount that begins at this place of a normal text in small letters."""
    money = money_before(small, at)
    if money:
        number = numeral_at(small, money[1])
        return FoundQuantity(Amount(number[0], money[0]), at, number[1]) if number else None
    found = _simple_amount(small, at)
    return _compound(small, found) if found else None


def _compound(small: str, first: FoundQuantity) -> FoundQuantity:
    """1 hour 30 minutes and 1小时30分钟 are one amount: what follows is less than one of the unit before."""
    what, end, unit = first.what, first.end, first.unit
    while isinstance(what, Amount) and what.dimension in _COMPOUND:
        joint = (_AND if what.dimension in ("time", "month") else _SPACE).match(small, end)
        following = _simple_amount(small, joint.end() if joint else end)
        if not following or not isinstance(following.what, Amount) or following.what.dimension != what.dimension:
            break
        if following.what.value >= unit:
            break
        what, end, unit = Amount(what.value + following.what.value, what.dimension), following.end, following.unit
    return FoundQuantity(what, first.start, end, first.article and end == first.end, unit)


def _simple_amount(small: str, at: int) -> FoundQuantity | None:
    if at >= len(small) or (at and small[at - 1].isascii() and small[at - 1].isalnum() and small[at].isascii()):
        return None
    found = _unit_alone(small, at)
    if found:
        return found
    start = at + 1 if small[at] == "第" else at
    if _VERSION.match(small, start) or _CODE.match(small, start):
        return None
    number = numeral_at(small, start)
    return _measured(small, at, start, number) if number else None


def _unit_alone(small: str, at: int) -> FoundQuantity | None:
    """An hour and a half, half a year, 半小时."""
    one = _A_UNIT.match(small, at)
    unit = unit_at(small, one.start(1)) if one else None
    if one and unit:
        return _amount(Fraction(3, 2) if one[2] else Fraction(1), unit, (at, one.end()))
    half = _HALF_OF.match(small, at)
    unit = unit_at(small, half.end()) if half else None
    return _amount(Fraction(1, 2), unit, (at, unit[2])) if unit else None


def _amount(value: Fraction, unit: tuple[str, Fraction, int], span: tuple[int, int]) -> FoundQuantity:
    return FoundQuantity(Amount(value * unit[1], unit[0]), *span, unit=unit[1])


def _measured(small: str, at: int, start: int, number: tuple[Fraction, int]) -> FoundQuantity | None:
    """The number with what follows it: a unit, a classifier, or nothing."""
    value, end = number
    coins = _COINS.match(small, end)
    if coins:  # 三块五
        return FoundQuantity(Amount(value + Fraction(whole(coins[1]) or 0, 10), "yuan"), at, coins.end())
    half = _COUNTER_HALF.match(small, end)
    if half:  # 一个半小时, 两年半
        unit = unit_at(small, end if half[1] else half.end())
        return _amount(value + Fraction(1, 2), unit, (at, half.end() if half[1] else unit[2])) if unit else None
    unit = unit_at(small, end + 1 if small.startswith("个", end) else end)
    if unit:
        return _amount(value, unit, (at, unit[2]))
    counter = small[end] if end < len(small) and small[end] in COUNTERS else ""
    if not _is_number(small, at, (start, end), counter):
        return None
    article = bool(counter) and small[start:end] == "一" and start == at
    return FoundQuantity(Amount(value, "", counter), at, end + len(counter), article)


def _is_number(small: str, at: int, span: tuple[int, int], counter: str) -> bool:
    """A Chinese numeral of one character is a number only with 第 or a classifier, or alone: not in 三亚 and 一起."""
    start, end = span
    after = small[end : end + 1]
    if not is_han(small[start]) or counter or start != at or small[start:end].isascii():
        return small[start:end] != "半"
    if after and after in "到至或~-" and small[end + 1 : end + 2] in HAN_NUMERALS:
        return True
    if end - start == 1 or (end - start == 2 and _DIGITS_ALONE.fullmatch(small[start:end])):
        before = at > 0 and is_han(small[at - 1])
        return not before and not (after and is_han(after))
    return True
