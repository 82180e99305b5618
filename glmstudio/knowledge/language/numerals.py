"""Numbers as people write them, in digits and in words of both languages, by their value.

All patterns are bounded and start at one place of a text, so the time for a text grows with its length only.
"""

from __future__ import annotations

import re
from fractions import Fraction

_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_ORDINALS = {
    "first": 1, "second": 2, "third": 3, "fifth": 5, "eighth": 8, "ninth": 9, "twelfth": 12,
    **{f"{word}th": value for value, word in enumerate(_ONES) if value not in (1, 2, 3, 5, 8, 9, 12)},
    **{f"{word[:-1]}ieth": value * 10 for value, word in enumerate(_TENS, 2)},
}  # fmt: skip
_SMALL = {
    **{word: value for value, word in enumerate(_ONES)},
    **{word: value * 10 for value, word in enumerate(_TENS, 2)},
    **_ORDINALS,
}
_SCALES = {
    "hundred": 100, "dozen": 12, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12,
}  # fmt: skip
_PARTS = {
    "half": 2,
    "halves": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "eighth": 8,
    "tenth": 10,
}
_HAN_DIGITS = {char: value for value, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_HAN_SCALES = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "亿": 10**8}
HAN_NUMERALS = frozenset(_HAN_DIGITS) | frozenset(_HAN_SCALES)

_ANY = "|".join(sorted({*_SMALL, *_SCALES}, key=len, reverse=True))
_WORDS = re.compile(
    rf"(?:(?:a|an) (?=hundred|dozen|thousand|million|billion))?(?:{_ANY})(?:(?:-| and | )(?:{_ANY})){{0,12}}\b"
)
_WORD = re.compile(r"[a-z]+")
_DECIMALS = re.compile(r" point((?: (?:zero|one|two|three|four|five|six|seven|eight|nine)){1,8})\b")
_AND_HALF = re.compile(r" and (?:a|one)[ -](half|quarter)\b")
_PART = re.compile(
    r"(?:an? |one[ -]|(?=half))(half|third|quarter|fourth|fifth|sixth|eighth|tenth)\b(?! (?:past|floor|day|time))"
)
_PARTS_OF = re.compile(
    r"(two|three|four|five|six|seven|eight|nine)[ -](halves|thirds|quarters|fourths|fifths|sixths|eighths|tenths)\b"
)
_MIXED = re.compile(r"(\d{1,9}) (\d{1,4})/(\d{1,4})(?![\d/])")
_RATIO = re.compile(r"(\d{1,9})/(\d{1,9})(?![\d/])")
_DIGITS = re.compile(
    r"(\d{1,3}(?:,\d{3}){1,8}(?!\d)|\d{1,3}(?: \d{3}){1,8}(?! ?\d)|\d{1,30})(?!\d)((?:\.\d{1,20})?)(?!\d)"
)
_ENDING = re.compile(r"(?:st|nd|rd|th)\b")
_SCALE = re.compile(
    r" ?(hundred|thousand|million|billion|trillion|dozen)\b|(k)(?![a-z0-9])| ?([百千]?[万亿]|千|百)(?!分)"
)
_PERCENT = re.compile(r" ?%| ?per ?cent\b| percentage points?\b")
_SIGN = re.compile(r"minus |negative |-|零下|负")
_HAN = re.compile(r"[零〇一二两三四五六七八九十百千万亿]{1,20}")
_HAN_DECIMALS = re.compile(r"点([零〇一二三四五六七八九]{1,10})(?![分十刻])")


def numeral_at(text: str, at: int) -> tuple[Fraction, int] | None:
    """The value of the number that begins at this place of a normal text in small letters, and where it ends.

    50 % and 百分之五十 are 1/2; ordinals have the value of their number. None where no number begins.
    """
    sign = _SIGN.match(text, at)
    if sign and not (sign[0] == "-" and at and (text[at - 1].isalnum() or text[at - 1] in ")/-")):
        found = _unsigned(text, sign.end())
        return (-found[0], found[1]) if found else None
    return _unsigned(text, at)


def han_value(word: str) -> Fraction | None:
    """一千二百, 三百五, 一万二 and 二〇二一; None for what is no number, like 千万 or 三两."""
    if all(char in _HAN_DIGITS for char in word):
        return Fraction(int("".join(str(_HAN_DIGITS[char]) for char in word)))
    if word[0] in "百千万亿":
        return None
    total = section = Fraction(0)
    digit: int | None = None
    for place, char in enumerate(word):
        if char in _HAN_DIGITS:
            if digit:  # two digits side by side: 三五十
                return None
            digit = _HAN_DIGITS[char]
            continue
        scale = _HAN_SCALES[char]
        if scale < 10**4:
            section += (1 if digit is None and scale == 10 else digit or 0) * scale
        else:
            total = (
                (total + section + (digit or 0)) * scale if scale == 10**8 else total + (section + (digit or 0)) * scale
            )
            section = Fraction(0)
        digit = None
        if not total and not section and place:
            return None
    if digit and len(word) > 1 and word[-2] in "百千万亿":  # 三百五 is 350
        return total + section + digit * (_HAN_SCALES[word[-2]] // 10)
    return total + section + (digit or 0)


def whole(word: str) -> int | None:
    """The number that a word of digits, of English or of Chinese numerals is."""
    if word.isascii() and word.isdigit():
        return int(word)
    value = han_value(word) if word[0] in HAN_NUMERALS else (found[0] if (found := numeral_at(word, 0)) else None)
    return int(value) if value is not None else None


def _unsigned(text: str, at: int) -> tuple[Fraction, int] | None:
    if at >= len(text):
        return None
    char = text[at]
    if char in "0123456789":
        found = _digits(text, at)
    elif char in HAN_NUMERALS or char == "半":
        found = _han(text, at)
    elif "a" <= char <= "z" and not (at and text[at - 1].isalnum()):
        found = _english(text, at)
    else:
        return None
    return _percent(text, *found) if found else None


def _percent(text: str, value: Fraction, end: int) -> tuple[Fraction, int]:
    percent = _PERCENT.match(text, end)
    return (value / 100, percent.end()) if percent else (value, end)


def _digits(text: str, at: int) -> tuple[Fraction, int] | None:
    mixed = _MIXED.match(text, at)
    if mixed and int(mixed[3]):
        return int(mixed[1]) + Fraction(int(mixed[2]), int(mixed[3])), mixed.end()
    ratio = _RATIO.match(text, at)
    if ratio and int(ratio[2]):
        return Fraction(int(ratio[1]), int(ratio[2])), ratio.end()
    found = _DIGITS.match(text, at)
    if not found:
        return None
    value, end = Fraction(re.sub("[ ,]", "", found[1]) + found[2]), found.end()
    if ending := _ENDING.match(text, end):
        return value, ending.end()
    return _and_half(text, *_scaled(text, value, end))


def _scaled(text: str, value: Fraction, end: int) -> tuple[Fraction, int]:
    scale = _SCALE.match(text, end)
    if not scale:
        return value, end
    word = scale[1] or scale[2] or scale[3]
    if word in _SCALES:
        return value * _SCALES[word], scale.end()
    for char in word:
        value *= 1000 if char == "k" else _HAN_SCALES[char]
    return value, scale.end()


def _english(text: str, at: int) -> tuple[Fraction, int] | None:
    parts = _PARTS_OF.match(text, at)
    if parts:
        bottom = parts[2] if parts[2] == "halves" else parts[2][:-1]
        return Fraction(_SMALL[parts[1]], _PARTS[bottom]), parts.end()
    part = _PART.match(text, at)
    if part:
        return Fraction(1, _PARTS[part[1]]), part.end()
    found = _WORDS.match(text, at)
    if not found:
        return None
    value, end = _words_value(text, found.start(), found.end())
    decimals = _DECIMALS.match(text, end)
    if decimals:
        digits = "".join(str(_SMALL[word]) for word in decimals[1].split())
        return _scaled(text, value + Fraction(int(digits), 10 ** len(digits)), decimals.end())
    return _and_half(text, value, end)


def _words_value(text: str, start: int, end: int) -> tuple[Fraction, int]:
    """Of number words, as far as they make one number: in "two three" that is two."""
    total = current = 0
    last, stop = 10**15, start
    for found in _WORD.finditer(text, start, end):
        word = found[0]
        if word in ("a", "an"):
            current, last = 1, 1
        elif word in _SCALES:
            scale = _SCALES[word]
            current = (current or 1) * scale
            if scale >= 1000:
                total, current = total + current, 0
            last = scale
        elif word != "and":
            small = _SMALL[word]
            if stop != start and not (last >= 100 or (20 <= last < 100 and small < 10)):
                break
            current, last = current + small, small
            if word in _ORDINALS:
                stop = found.end()
                break
        if word != "and":
            stop = found.end()
    return Fraction(total + current), stop


def _and_half(text: str, value: Fraction, end: int) -> tuple[Fraction, int]:
    half = _AND_HALF.match(text, end)
    return (value + Fraction(1, _PARTS[half[1]]), half.end()) if half else (value, end)


def _han(text: str, at: int) -> tuple[Fraction, int] | None:
    if text[at] == "半":
        return Fraction(1, 2), at + 1
    found = _HAN.match(text, at)
    if not found:
        return None
    if text.startswith("分之", found.end()):
        return _han_ratio(text, found)
    value = han_value(found[0])
    if value is None:
        return None
    decimals = _HAN_DECIMALS.match(text, found.end())
    if not decimals:
        return value, found.end()
    digits = "".join(str(_HAN_DIGITS[char]) for char in decimals[1])
    return _scaled(text, value + Fraction(int(digits), 10 ** len(digits)), decimals.end())


def _han_ratio(text: str, bottom: re.Match[str]) -> tuple[Fraction, int] | None:
    """三分之一, 百分之五十, 百分之3.5."""
    below = Fraction(_HAN_SCALES[bottom[0]]) if bottom[0] in _HAN_SCALES else han_value(bottom[0])
    above = _unsigned(text, bottom.end() + 2)
    return (above[0] / below, above[1]) if below and above else None
