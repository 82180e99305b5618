"""Who wants to hear how far the reading of a dataset is, and who may stop it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from glmstudio.errors import StudioError

_PACE_S = 0.2

Tell = Callable[[float, int], None]
Cancelled = Callable[[], bool]


@dataclass
class ProgressWatch:
    """The listeners of one reading of `total` bytes, and how far it is."""

    tell: Tell | None = None
    cancelled: Cancelled | None = None
    total: int = 1
    read: int = 0
    records: int = 0
    _next: float = field(default=0.0)

    def moved(self, count: int) -> None:
        """So many bytes more were read."""
        self.read += count

    def look(self, source: Path) -> None:
        """Tell, and raise StudioError where it was stopped; both a few times a second at most."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _PACE_S
        if self.cancelled is not None and self.cancelled():
            raise StudioError("data.cancelled", source=str(source))
        if self.tell is not None:
            self.tell(min(1.0, self.read / max(1, self.total)), self.records)
