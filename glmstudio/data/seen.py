"""What came before, by 64-bit marks: a table of a few bytes an entry, so that a million records take little memory."""

from __future__ import annotations

from array import array

_FULL = 0.6  # of its places are taken before it grows
SPREAD = 0x9E3779B97F4A7C15  # an odd number whose bits are well mixed
_ALL = (1 << 64) - 1


class SeenTable:
    """A number (from 0, below 2**63) for each mark that was put in first."""

    def __init__(self) -> None:
        self._count = 0
        self._clear(1 << 10)

    def __len__(self) -> int:
        return self._count

    def first(self, mark: int, number: int) -> int | None:
        """The number that was put under this mark before; None, and the number is put there, where there was none."""
        at = self._place(mark)
        if held := self._numbers[at]:
            return held - 1
        self._marks[at], self._numbers[at] = mark, number + 1
        self._count += 1
        if self._count > _FULL * len(self._marks):
            self._grow()
        return None

    def _place(self, mark: int) -> int:
        """Where the mark stands, or would."""
        most = len(self._marks) - 1
        at = (mark * SPREAD & _ALL) >> 20 & most
        while self._numbers[at] and self._marks[at] != mark:
            at = at + 1 & most
        return at

    def _grow(self) -> None:
        marks, numbers = self._marks, self._numbers
        self._clear(2 * len(marks))
        for mark, number in zip(marks, numbers, strict=True):
            if number:
                at = self._place(mark)
                self._marks[at], self._numbers[at] = mark, number

    def _clear(self, size: int) -> None:
        self._marks, self._numbers = array("Q", bytes(8 * size)), array("Q", bytes(8 * size))
