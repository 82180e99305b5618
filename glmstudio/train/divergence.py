"""Whether a run still learns: numbers that are not finite, a loss of zero, a loss that runs away."""

from __future__ import annotations

import math
from collections import deque

from glmstudio.errors import StudioError

_MOST_SKIPPED = 20  # steps in a row that 16-bit training leaves out while it looks for its scale
_ZEROS = 5  # steps in a row whose loss is exactly 0: no real text is predicted like that, but broken 16-bit numbers are
_SPAN = 10  # steps whose mean is compared
_FACTOR, _MARGIN = 2.0, 2.0


class DivergenceGuard:
    """Is told every gradient and every loss, and raises StudioError, with the reason, when the run must stop."""

    def __init__(self, *, scaled: bool) -> None:
        """`scaled`: a gradient scaler is at work, which leaves steps out by itself."""
        self._most_skipped = _MOST_SKIPPED if scaled else 0
        self._skipped = self._zeros = 0
        self._recent: deque[float] = deque(maxlen=_SPAN)
        self._best = math.inf

    def gradient(self, finite: bool, step: int) -> None:
        """Before the optimizer's step, so that the numbers learned so far stay good."""
        self._skipped = 0 if finite else self._skipped + 1
        if self._skipped > self._most_skipped:
            raise StudioError("runs.gradient_not_finite", step=step)

    def loss(self, loss: float, step: int) -> None:
        """After a step."""
        if not math.isfinite(loss):
            raise StudioError("runs.loss_not_finite", step=step)
        self._zeros = self._zeros + 1 if loss == 0.0 else 0
        if self._zeros >= _ZEROS:
            raise StudioError("runs.loss_zero", step=step)
        self._recent.append(loss)
        if len(self._recent) < _SPAN:
            return
        mean = sum(self._recent) / _SPAN
        if mean > self._best * _FACTOR + _MARGIN:
            raise StudioError("runs.loss_exploded", step=step, loss=mean, best=self._best)
        self._best = min(self._best, mean)
