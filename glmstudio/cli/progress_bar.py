"""What a terminal shows of long work on data, and of lengths: bars of letters."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from glmstudio.cli.terminal import t

_PATIENCE_S = 1.0
_PACE_S = 0.2
_WIDE = 30


@contextmanager
def progress() -> Iterator[Callable[[float, int], None]]:
    """A bar on the error stream for `tell(share, records)`, where that is a terminal and it takes over a second."""
    shows, drawn = sys.stderr.isatty(), False
    due = time.monotonic() + _PATIENCE_S

    def tell(share: float, records: int) -> None:
        nonlocal due, drawn
        now = time.monotonic()
        if shows and now >= due:
            due, drawn = now + _PACE_S, True
            bar = "█" * round(share * _WIDE)
            text = t("cli.reading", bar=f"{bar:░<{_WIDE}}", percent=share * 100, records=records)
            print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        if drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def histogram(bars: Sequence[tuple[int, int, int]], limit: int | None) -> list[str]:
    """How many records have how many tokens, a line a bar; the limit is a line of its own."""
    highest = max((count for _, _, count in bars), default=0)
    lines = [t("cli.lengths")]
    for low, high, count in bars:
        if limit is not None and low >= limit and not any(line.startswith("-") for line in lines):
            lines.append(t("cli.limit_line", limit=limit))
        bar = "█" * -(-count * _WIDE // highest) if highest else ""
        lines.append(f"{low + 1:>7,} - {high:<7,} {bar:<{_WIDE}} {count:,}".rstrip())
    return lines
