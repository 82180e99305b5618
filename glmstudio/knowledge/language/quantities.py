"""Amounts, dates and times of day, and which of them are the same: 1.5 km is 1500 米, and 下午三点半 is 15:30."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from glmstudio.knowledge.language.measures import COUNTERS


@dataclass(frozen=True)
class Amount:
    """A number in the base unit of its `dimension` (m, g, s, months; "" for none); `counter` is a classifier."""

    value: Fraction
    dimension: str = ""
    counter: str = ""


@dataclass(frozen=True)
class Date:
    """A day, or the part of it that is said. `swapped`: 3/5/2021, which is in March or in May."""

    year: int | None = None
    month: int | None = None
    day: int | None = None
    weekday: int | None = None
    swapped: bool = False


@dataclass(frozen=True)
class Time:
    """Minutes since midnight; `vague` where half of the day is not said."""

    minutes: int
    vague: bool = False


Quantity = Amount | Date | Time


@dataclass(frozen=True)
class FoundQuantity:
    """A quantity and where it stands; `article` where it is a 一个 or "a", which only says that there is a thing;
    `unit` is one of its unit, in the base unit."""

    what: Quantity
    start: int
    end: int
    article: bool = False
    unit: Fraction = Fraction(0)


def same(due: Quantity, said: Quantity) -> bool:
    """Whether what was said is the quantity that is due; more than is due (the day beside the year) may be said."""
    if isinstance(due, Date) and isinstance(said, Date):
        return (
            _same_date(due, said)
            or (due.swapped and _same_date(_swap(due), said))
            or (said.swapped and _same_date(due, _swap(said)))
        )
    if isinstance(due, Time) and isinstance(said, Time):
        return due.minutes == said.minutes or ((due.vague or said.vague) and (due.minutes - said.minutes) % 720 == 0)
    if isinstance(due, Amount) and isinstance(said, Amount):
        return due.value == said.value and due.dimension == said.dimension and _same_counter(due.counter, said.counter)
    if isinstance(due, Date):
        return _parts(due) == {"year"} and _is_year(due, said)
    return _is_year(said, due)


def rivals(due: Quantity, said: Quantity) -> bool:
    """Whether the two could answer the same question: of one kind, and of one dimension."""
    if isinstance(due, Amount) and isinstance(said, Amount):
        return due.dimension == said.dimension and _same_counter(due.counter, said.counter)
    if isinstance(due, Date) and isinstance(said, Date):
        return _parts(due) & _parts(said) != set()
    if isinstance(due, Time) and isinstance(said, Time):
        return True
    year, amount = (due, said) if isinstance(due, Date) else (said, due)
    plain = isinstance(amount, Amount) and not amount.dimension and not amount.counter
    return (
        plain
        and isinstance(year, Date)
        and year.year is not None
        and isinstance(amount, Amount)
        and 1000 <= amount.value <= 2200
    )


def _parts(date: Date) -> set[str]:
    return {name for name in ("year", "month", "day", "weekday") if getattr(date, name) is not None}


def _same_date(due: Date, said: Date) -> bool:
    return all(getattr(due, name) == getattr(said, name) for name in _parts(due))


def _swap(date: Date) -> Date:
    return Date(date.year, date.day, date.month, date.weekday)


def _is_year(year: Quantity, amount: Quantity) -> bool:
    if not (isinstance(year, Date) and isinstance(amount, Amount)) or amount.dimension or amount.counter:
        return False
    return year.year is not None and amount.value == year.year


def _same_counter(one: str, other: str) -> bool:
    if not one or not other:
        return True
    rows = COUNTERS.get(one, -1), COUNTERS.get(other, -1)
    return -1 in rows or rows[0] == rows[1]
