"""For how long a suspended process has stood still: the kernel notes no such time, but its scheduler the last turn."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

_LAST = re.compile(r"^se\.exec_start\s*:\s*([0-9.]+)", re.MULTILINE)


def paused_s(pid: int) -> float | None:
    """Seconds since any thread of it ran; None where the kernel does not tell (not every one is built to)."""
    latest: dict[int, float] = {}
    for task in Path(f"/proc/{pid}/task").glob("*"):
        cpu, turn = _last_cpu(task), _last_turn(task)
        if cpu is not None and turn is not None:
            latest[cpu] = max(turn, latest.get(cpu, turn))
    since = [_clock(cpu, turn) for cpu, turn in latest.items()]
    known = [each for each in since if each is not None]
    return min(known) if known and len(known) == len(latest) else None


def _clock(cpu: int, turn: float) -> float | None:
    """Seconds since that turn by the clock of the processor that it was taken on.

    Each processor has a clock of its own: it stands still while a virtual machine's host runs something else on it, so
    two of them may be hours apart. A thread that runs there right now has its time.
    """
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {cpu})
        now = _last_turn(Path("/proc/thread-self"))
        return max(0.0, now - turn) if now is not None else None
    except OSError:  # a processor that this process may not use
        return None
    finally:
        with suppress(OSError):
            os.sched_setaffinity(0, allowed)


def _last_cpu(task: Path) -> int | None:
    try:  # field 39 of proc(5); the name before it may hold anything, a bracket too
        return int((task / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[36])
    except (OSError, ValueError, IndexError):
        return None


def _last_turn(task: Path) -> float | None:
    try:
        found = _LAST.search((task / "sched").read_text(encoding="utf-8", errors="replace"))
        return float(found[1]) / 1000 if found else None
    except (OSError, ValueError):
        return None
