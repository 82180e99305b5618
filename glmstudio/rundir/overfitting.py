"""Whether a run learns its data by heart: the validation loss rises past its minimum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_RISE = 0.01  # less than one per cent above the minimum is noise
_AFTER = 2  # validations after the minimum that have to agree


@dataclass(frozen=True)
class Overfitting:
    """The step of the lowest validation loss with that loss, and the newest ones."""

    step: int
    lowest: float
    last_step: int
    last: float

    @property
    def rise(self) -> float:
        """How far the newest loss lies above the lowest, in per cent of it."""
        return 100 * (self.last / self.lowest - 1)


def overfitting(validation: Sequence[tuple[float, float]]) -> Overfitting | None:
    """What the validation losses (step, loss) of a run prove; None where they prove nothing.

    At least two validations after the lowest one, and none of them less than one per cent above it.
    """
    if not validation:
        return None
    at = min(range(len(validation)), key=lambda index: (validation[index][1], index))
    step, lowest = validation[at]
    after = validation[at + 1 :]
    if len(after) < _AFTER or lowest <= 0 or min(loss for _, loss in after) < lowest * (1 + _RISE):
        return None
    last_step, last = after[-1]
    return Overfitting(int(step), lowest, int(last_step), last)
