"""For how long a suspended process has stood still: the kernel notes no such time, but its scheduler the last turn."""

from __future__ import annotations

import re
from pathlib import Path

_LAST = re.compile(r"^se\.exec_start\s*:\s*([0-9.]+)", re.MULTILINE)


def paused_s(pid: int) -> float | None:
    """Seconds since any thread of it ran; None where the kernel does not tell (not every one is built to)."""
    turns = [_last_turn(task) for task in Path(f"/proc/{pid}/task").glob("*/sched")]
    now = _last_turn(Path("/proc/thread-self/sched"))  # by the same clock: this thread runs right now
    known = [turn for turn in turns if turn is not None]
    return max(0.0, now - max(known)) if known and now is not None else None


def _last_turn(file: Path) -> float | None:
    try:
        found = _LAST.search(file.read_text(encoding="utf-8", errors="replace"))
        return float(found[1]) / 1000 if found else None
    except (OSError, ValueError):
        return None
