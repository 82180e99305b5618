"""How much of the GPUs' memory each process holds, as far as the driver tells it in time."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TookTooLong

from glmstudio.system.environment import has_the_machines_pids, in_wsl
from glmstudio.system.nvml import GpuReading, read_cards


def held_mib(seconds: float = 3.0) -> dict[int, int] | None:
    """MiB by process; None where the driver hangs, or counts processes by other numbers than this system."""
    if in_wsl() or not has_the_machines_pids():
        return None
    cards = _cards(seconds)
    if cards is None or cards.problem:
        return None
    held: Counter[int] = Counter()
    for gpu in cards.gpus:
        held.update({process.pid: process.used_mib or 0 for process in gpu.processes})
    return dict(held)


def _cards(seconds: float) -> GpuReading | None:
    # What hangs in the driver cannot be cancelled, and must not keep a list or an end waiting.
    answer: Future[GpuReading] = Future()
    threading.Thread(target=lambda: answer.set_result(read_cards()), daemon=True, name="gpu-memory").start()
    try:
        return answer.result(timeout=seconds)
    except TookTooLong:
        return None
