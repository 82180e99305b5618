"""Why a run ended, from what its processes printed: each cause in human words, with what helps."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.files import opened
from glmstudio.system.portable.signals import KILL
from glmstudio.units import memory_bytes

_TAIL = 40_000
_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_WANTED = re.compile(r"Tried to allocate ([\d.]+) (B|KiB|MiB|GiB)")
_FREE = re.compile(r"(?:of which |already allocated; )([\d.]+) (B|KiB|MiB|GiB) (?:is )?free")  # PyTorch 2.1 and before
_TOTAL = re.compile(r"(?:total capacity of |GPU \d+; )([\d.]+) (B|KiB|MiB|GiB)")

_FAILED = re.compile(r"host\s*: (\S+)\s+rank\s*: (\d+) \(local_rank: \d+\)\s+exitcode\s*: (-?\d+)")
_NCCL = re.compile(
    r"(NCCL (?:error|WARN)[^\n]{0,160}|ncclUnhandledCudaError|ncclSystemError|NCCL timeout"
    r"|Watchdog caught collective operation timeout[^\n]{0,160})"
)
# What is said where no memory is left for a library's code. Where the file system forbids running it, more follows.
_UNMAPPED = re.compile(r"failed to map segment from shared object(?!: Operation not permitted)")
# A worker that crashes by itself dies of other signals.
_OUTSIDE = re.compile(
    r"(?:Received (?:Signals\.)?|Signal \d+ \()(SIG(?:TERM|HUP|INT|QUIT|USR1|USR2))\b|got signal: (\d+)"
)


def reason(log: Path, start: int = 0) -> StudioError:
    """The cause that the end of `log` names, from byte `start` on; "it crashed, see the log" where it names none.
    Of several processes, the one that failed first is named, too."""
    text = _tail(log, start)
    cause = next((found for look in _CAUSES if (found := look(text, log))), StudioError("runs.crashed", log=str(log)))
    return _of_a_process(cause, text)


def by_signal(number: int) -> StudioError:
    """Why a process ended that a signal ended and that said nothing."""
    if number == KILL:
        return StudioError("runs.killed")
    return StudioError("runs.ended_from_outside", signal=signal.Signals(number).name)


def out_of_memory(text: str, *, free: int | None = None, total: int | None = None) -> StudioError:
    """What was asked for and what was free, as far as the message or the caller knows."""
    wanted, freed, whole = (_bytes(pattern, text) for pattern in (_WANTED, _FREE, _TOTAL))
    freed, whole = freed if freed is not None else free, whole if whole is not None else total
    if wanted is None or freed is None or whole is None:
        return StudioError("runs.out_of_memory")
    said = {"wanted": wanted, "free": freed, "total": whole}
    return StudioError("runs.out_of_card_memory", **{name: memory_bytes(count) for name, count in said.items()})


def _of_a_process(cause: StudioError, text: str) -> StudioError:
    """The cause with the process that failed first, where torchrun's summary lists several.

    One that was killed comes before those that only lost their connection to it, whatever torchrun saw first.
    """
    found = [(host, int(rank), int(code)) for host, rank, code in _FAILED.findall(text)]
    if len({rank for _, rank, _ in found}) < 2:
        return cause
    killed = next((each for each in found if each[2] == -KILL), None)
    machine, rank, _ = killed or found[-1]  # torchrun's own root cause comes last
    return StudioError("runs.in_rank", cause=cause, rank=rank, machine=machine)


def _memory(text: str, _: Path) -> StudioError | None:
    marks = (
        "OutOfMemoryError", "CUDA out of memory", "not enough memory", "Cannot allocate memory",
        "can't allocate memory", "MemoryError", "std::bad_alloc", "CUBLAS_STATUS_ALLOC_FAILED", "Unable to allocate",
        "Memory allocation still failed", "cannot allocate memory for thread-local data",
    )  # fmt: skip
    found = any(mark in text for mark in marks) or _UNMAPPED.search(text)
    return out_of_memory(text) if found else None


def _killed(text: str, _: Path) -> StudioError | None:
    return StudioError("runs.killed") if "-9 (SIGKILL)" in text or re.search(r"exitcode\s*: -9\b", text) else None


def _loader(text: str, _: Path) -> StudioError | None:
    if "DataLoader worker" not in text:
        return None
    return StudioError("runs.shared_memory" if "bus error" in text.lower() else "runs.loader_killed")


def _port(text: str, _: Path) -> StudioError | None:
    return StudioError("runs.port_taken") if "EADDRINUSE" in text or "address already in use" in text.lower() else None


def _disk(text: str, log: Path) -> StudioError | None:
    full = "No space left on device" in text or "Disk quota exceeded" in text
    return StudioError("runs.disk_full", folder=str(log.parent)) if full else None


def _driver(text: str, _: Path) -> StudioError | None:
    marks = (
        "CUDA driver version is insufficient", "no CUDA-capable device", "device has fallen off", "GPU is lost",
        "unspecified launch failure", "illegal memory access", "CUDA error: device not ready", "uncorrectable ECC",
        "no kernel image is available", "No CUDA GPUs are available", "CUDA unknown error",
    )  # fmt: skip
    mark = next((mark for mark in marks if mark in text), None)
    return StudioError("runs.driver_lost", mark=mark) if mark else None


def _nccl(text: str, _: Path) -> StudioError | None:
    match = _NCCL.search(text)
    return StudioError("runs.nccl", line=match[1].strip()) if match else None


def _ended(text: str, _: Path) -> StudioError | None:
    match = _OUTSIDE.search(text)
    if match is None:
        return None
    return StudioError("runs.ended_from_outside", signal=match[1] or signal.Signals(int(match[2])).name)


_CAUSES: tuple[Callable[[str, Path], StudioError | None], ...] = (
    _memory, _disk, _loader, _driver, _nccl, _port, _killed, _ended,
)  # fmt: skip


def _bytes(pattern: re.Pattern[str], text: str) -> int | None:
    match = pattern.search(text)
    return round(float(match[1]) * _UNITS[match[2]]) if match else None


def _tail(log: Path, start: int) -> str:
    try:
        with opened(log) as stream:
            stream.seek(max(start, log.stat().st_size - _TAIL))
            return stream.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
