"""Times of day in both languages: 3:30 pm, half past three in the afternoon, 下午三点半."""

from __future__ import annotations

import re

from glmstudio.knowledge.language.numerals import whole
from glmstudio.knowledge.language.quantities import FoundQuantity, Time

_HOURS = r"(\d{1,2}|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)"
_HALF = r"( ?(?:[ap]m\b|[ap]\.m\b\.?))"
_CLOCK = re.compile(rf"(\d{{1,2}}):(\d{{2}})(?::\d{{2}})?(?!\d){_HALF}?")
_HOUR = re.compile(rf"{_HOURS}(?: o'clock{_HALF}?|{_HALF}| (?=in the (?:morning|afternoon|evening)\b|at night\b))")
_PAST = re.compile(rf"(half|quarter|a quarter|twenty|ten|five)(?: minutes)? (past|to) {_HOURS}\b{_HALF}?")
_PERIOD_AFTER = re.compile(r" ?(?:in the (morning|afternoon|evening)|at (night))\b")
_NAMED = re.compile(r"(noon|midday|midnight|正午|午夜)\b")
_H = "〇零一二三四五六七八九"
_HAN_TIME = re.compile(
    rf"(\d{{1,2}}|[{_H}十]{{1,3}}|两)(?:点(?!五[万千百亿])|时(?![候间代期刻常]))[钟整]?"
    rf"(?:(半)|([一三])刻|(\d{{1,2}}|[{_H}十]{{1,3}})分|([〇零一二三四五]?十[一二三四五六七八九]?|零[一二三四五六七八九]))?"
)
_HAN_PERIOD = re.compile(r"(凌晨|清晨|早上|早晨|上午|中午|下午|傍晚|晚上|夜里|半夜|今晚) ?")
_MINUTES = {"half": 30, "quarter": 15, "a quarter": 15, "twenty": 20, "ten": 10, "five": 5}
_MORNING = frozenset(("am", "morning", "凌晨", "清晨", "早上", "早晨", "上午"))
_AFTERNOON = frozenset(("pm", "afternoon", "下午"))
_EVENING = frozenset(("evening", "night", "傍晚", "晚上", "夜里", "今晚"))


def time_at(small: str, at: int) -> FoundQuantity | None:
    """The time of day that begins at this place of a normal text in small letters."""
    period = _HAN_PERIOD.match(small, at)
    start = period.end() if period else at
    han = _HAN_TIME.match(small, start)
    if han and (han.end() == len(small) or small[han.end()] != "分"):
        return _han_time(han, period, at)
    clock = _CLOCK.match(small, start)
    if clock:
        return _clock(small, clock, period[1] if period else "", at)
    if period or (at and small[at - 1].isalnum()):
        return None
    return _english_time(small, at)


def _time(hour: int, minute: int, period: str, *, vague: bool) -> Time | None:
    """The time by the part of the day in which it is said to be; without one it is vague up to 12."""
    if hour > 24 or minute > 59:
        return None
    if period in _MORNING and hour == 12:
        hour = 0
    elif (period in _AFTERNOON and hour < 12) or (period == "中午" and hour < 10):
        hour += 12
    elif period in _EVENING and hour <= 12:  # 晚上十二点 is midnight
        hour = (hour + 12) % 24
    known = bool(period) and period != "半夜"
    return Time(hour % 24 * 60 + minute, vague=vague and not known and hour <= 12)


def _han_time(found: re.Match[str], period: re.Match[str] | None, at: int) -> FoundQuantity | None:
    minute = 30 if found[2] else 0
    if found[3]:
        minute = 15 if found[3] == "一" else 45
    if found[4] or found[5]:
        minute = whole(found[4] or found[5].lstrip("零〇") or "零") or 0
    hour = whole(found[1])
    time = _time(hour or 0, minute, period[1] if period else "", vague=True)
    return FoundQuantity(time, at, found.end()) if time else None


def _clock(small: str, clock: re.Match[str], period: str, at: int) -> FoundQuantity | None:
    end = clock.end()
    if clock[3]:
        period = clock[3].strip().replace(".", "")
    elif after := _PERIOD_AFTER.match(small, end):
        period, end = after[1] or after[2], after.end()
    time = _time(int(clock[1]), int(clock[2]), period, vague=not clock[1].startswith("0"))
    return FoundQuantity(time, at, end) if time else None


def _english_time(small: str, at: int) -> FoundQuantity | None:
    named = _NAMED.match(small, at)
    if named:
        return FoundQuantity(Time(0 if named[1] in ("midnight", "午夜") else 720), at, named.end())
    past = _PAST.match(small, at)
    if past:
        minutes = _MINUTES[past[1]]
        hour = whole(past[3]) or 0
        if past[2] == "to":
            hour, minutes = hour - 1, 60 - minutes
        return _with_period(small, hour, minutes, past[4], past)
    found = _HOUR.match(small, at)
    return _with_period(small, whole(found[1]) or 0, 0, found[2] or found[3], found) if found else None


def _with_period(small: str, hour: int, minute: int, half: str | None, match: re.Match[str]) -> FoundQuantity | None:
    end, period = match.end(), (half or "").strip().replace(".", "")
    if not period and (after := _PERIOD_AFTER.match(small, end - (small[end - 1] == " "))):
        period, end = after[1] or after[2], after.end()
    time = _time(hour, minute, period, vague=True)
    return FoundQuantity(time, match.start(), end) if time else None
