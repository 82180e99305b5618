"""Dates in both languages: 2021年3月5日, 2021-03-05, the 5th of March, Mondays."""

from __future__ import annotations

import re

from glmstudio.knowledge.language.numerals import whole
from glmstudio.knowledge.language.quantities import Date, FoundQuantity

_MONTH = (
    r"(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)"
)
_NUMBER_OF = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_DOUBTFUL = frozenset(("may", "march", "mar", "dec", "jan", "sep", "oct", "nov"))  # words or names as well
_NTH = r"(\d{1,2})(?:st|nd|rd|th)?"
_WORD_NTH = (
    r"((?:(?:twenty|thirty)[- ])?(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth)|"
    r"(?:ten|eleven|twelf|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|twentie|thirtie)th)"
)
_YEAR = r"(\d{4})(?!\d)"
_MONTH_FIRST = re.compile(rf"\b{_MONTH}\b\.? (?:the )?(?:{_NTH}|{_WORD_NTH})\b(?!:)(?:,? (?:of )?{_YEAR})?")
_DAY_FIRST = re.compile(rf"(?:{_NTH}|{_WORD_NTH})(?: day)?(?: of)?[ -]{_MONTH}\b(?:\.?,?[ -](?:of )?{_YEAR})?")
_MONTH_YEAR = re.compile(rf"{_MONTH}\b\.?,?(?: of)? {_YEAR}")
_MONTH_ONLY = re.compile(rf"{_MONTH}\b")
_BEFORE_MONTH = re.compile(
    r"\b(?:in|of|on|since|until|till|by|every|each|next|last|early|late|mid|this|from|to|and|or|between|is|was)[ -]$"
)
_ISO = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?!\d|[-/.]\d)")
_DAY_OR_MONTH = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})(?!\d|[-/.]\d)")
_H = "〇零一二三四五六七八九"
_HAN_DATE = re.compile(
    rf"(?:(\d{{3,4}}|[{_H}]{{4}}) ?年 ?)?(\d{{1,2}}|[{_H}十]{{1,3}}) ?月(?:份|(\d{{1,2}}|[{_H}十]{{1,3}}) ?[日号]?)?"
    r"(?![亮饼球台光季票])"
)
_HAN_YEAR = re.compile(rf"(\d{{4}}|[{_H}]{{4}}) ?年(?![代前后间来多])")
_WEEKDAYS = ("mon", "tues", "wednes", "thurs", "fri", "satur", "sun")
_WEEKDAY = re.compile(rf"({'|'.join(_WEEKDAYS)})days?\b")
_HAN_WEEKDAY = re.compile(r"(?:周|星期|礼拜)([一二三四五六日天])(?![年岁次回])")


def date_at(text: str, small: str, at: int) -> FoundQuantity | None:
    """The date that begins at this place of a normal text; `small` is the same in small letters."""
    for reader in (_digit_date, _han_date):
        found = reader(small, at)
        if found:
            return found
    if at and small[at - 1].isalnum() and small[at - 1].isascii():
        return None
    return _english_date(small, at) or _month_only(text, small, at)


def _day(year: str | None, month: int | None, day: int | None) -> Date | None:
    if month is not None and not 1 <= month <= 12:
        return None
    if day is not None and not 1 <= day <= 31:
        return None
    return Date(whole(year) if year else None, month, day)


def _digit_date(small: str, at: int) -> FoundQuantity | None:
    iso = _ISO.match(small, at)
    if iso:
        date = _day(iso[1], int(iso[3]), int(iso[4]))
        return FoundQuantity(date, at, iso.end()) if date else None
    other = _DAY_OR_MONTH.match(small, at)
    if not other:
        return None
    first, second = int(other[1]), int(other[3])
    if other[2] == "." or first > 12:
        date = _day(other[4], second, first)
    else:
        date = _day(other[4], first, second)
        if date and second <= 12:
            date = Date(date.year, first, second, swapped=True)
    return FoundQuantity(date, at, other.end()) if date else None


def _han_date(small: str, at: int) -> FoundQuantity | None:
    weekday = _HAN_WEEKDAY.match(small, at)
    if weekday:
        return FoundQuantity(Date(weekday="一二三四五六日".index(weekday[1].replace("天", "日"))), at, weekday.end())
    found = _HAN_DATE.match(small, at)
    if found:
        date = _day(found[1], whole(found[2]), whole(found[3]) if found[3] else None)
        if date:
            return FoundQuantity(date, at, found.end())
    year = _HAN_YEAR.match(small, at)
    return FoundQuantity(Date(whole(year[1])), at, year.end()) if year else None


def _english_date(small: str, at: int) -> FoundQuantity | None:
    weekday = _WEEKDAY.match(small, at)
    if weekday:
        return FoundQuantity(Date(weekday=_WEEKDAYS.index(weekday[1])), at, weekday.end())
    first = _MONTH_FIRST.match(small, at)
    if first:
        return _english_day(first[4], first[1], first[2] or first[3], first)
    later = _DAY_FIRST.match(small, at)
    if later:
        return _english_day(later[4], later[3], later[1] or later[2], later)
    month = _MONTH_YEAR.match(small, at)
    return _english_day(month[2], month[1], None, month) if month else None


def _english_day(year: str | None, month: str, day: str | None, match: re.Match[str]) -> FoundQuantity | None:
    date = _day(year, _NUMBER_OF[month[:3]], whole(day) if day else None)
    return FoundQuantity(date, match.start(), match.end()) if date else None


def _month_only(text: str, small: str, at: int) -> FoundQuantity | None:
    """A month alone; may, march, mar, dec and so on are months only where they are written and placed like one."""
    month = _MONTH_ONLY.match(small, at)
    if not month or not text[at].isupper():
        return None
    placed = (
        _BEFORE_MONTH.search(small, max(0, at - 10), at) or month.end() == len(small) or small[month.end()] in ".,;!"
    )
    if month[1] in _DOUBTFUL and not placed:
        return None
    return FoundQuantity(Date(month=_NUMBER_OF[month[1][:3]]), at, month.end())
