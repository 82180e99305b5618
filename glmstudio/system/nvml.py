"""The graphics cards as NVIDIA's library describes them: it needs no CUDA and holds no memory of the card."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pynvml

from glmstudio.system.environment import has_the_machines_pids, in_wsl
from glmstudio.system.process import COOKIE, environment
from glmstudio.system.process_table import clean

_RECOVERY_FIELD = 230  # NVML_FI_DEV_GET_GPU_RECOVERY_ACTION; older bindings have no name for it


@dataclass(frozen=True)
class GpuProcess:
    """A program that holds memory of a GPU; `used_mib` is None where the driver does not tell."""

    pid: int
    name: str
    user: str
    used_mib: int | None
    owner: str = ""  # "ours" for this studio's runs and model server, "other", or "" where nobody can know


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU as its driver describes it."""

    index: int
    name: str
    uuid: str
    total_mib: int
    free_mib: int
    temperature_c: int | None
    processes: tuple[GpuProcess, ...]
    capability: tuple[int, int] = (0, 0)
    utilization: int | None = None  # per cent of the time in which it computed
    power_w: int | None = None
    unnamed_mib: int | None = None  # in use, but by no program that the driver names; None where it cannot tell


@dataclass(frozen=True)
class GpuReading:
    """What the driver said: its version and its GPUs, or `problem` (the name of NVIDIA's error) if it said nothing."""

    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    problem: str = ""
    lost: tuple[int, ...] = ()  # cards that the driver lists and cannot reach any more


@dataclass(frozen=True)
class GpuHealth:
    """How a card is; None where it does not tell. Reasons are NVML's bits for slowing its clock down."""

    index: int
    name: str
    uncorrected: int | None = None
    retiring: bool = False
    remap_pending: bool = False
    remap_failed: bool = False
    recovery: int = 0
    slowed: int = 0
    temperature_c: int | None = None
    mode: int = 0
    mig: bool = False


NO_CARDS = GpuReading()


class _Library:
    """NVIDIA's library, kept open between looks, because opening it is the slow part; opened anew after an error."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._open = False

    def problem(self) -> str:
        """Open it if it is not; the name of NVIDIA's error where it cannot be."""
        try:
            if not self._open:
                pynvml.nvmlInit()
                self._open = True
            pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            self.close()
            return type(error).__name__.removeprefix("NVMLError_") or str(error)
        return ""

    def close(self) -> None:
        """Let go of it, so that the next look begins anew."""
        if self._open:
            self._open = False
            _ask(pynvml.nvmlShutdown)


_LIBRARY = _Library()


def read_cards() -> GpuReading:
    """Everything the driver tells now of memory and of who holds it."""
    with _LIBRARY.lock:
        if problem := _LIBRARY.problem():
            return GpuReading(problem=problem)
        driver = _text(_ask(pynvml.nvmlSystemGetDriverVersion, default=""))
        count = _ask(pynvml.nvmlDeviceGetCount, default=0)
        read = {index: _read_gpu(index) for index in range(count)}
        lost = tuple(index for index, gpu in read.items() if gpu is None)
        if lost:
            _LIBRARY.close()
        return GpuReading(tuple(gpu for gpu in read.values() if gpu), driver, lost=lost)


def read_health() -> tuple[GpuHealth, ...]:
    """How each card is."""
    with _LIBRARY.lock:
        if _LIBRARY.problem():
            return ()
        handles = {
            index: _ask(pynvml.nvmlDeviceGetHandleByIndex, index)
            for index in range(_ask(pynvml.nvmlDeviceGetCount, default=0))
        }
        return tuple(_read_health(index, handle) for index, handle in handles.items() if handle)


def _read_gpu(index: int) -> Gpu | None:
    handle = _ask(pynvml.nvmlDeviceGetHandleByIndex, index)
    memory = handle and _memory(handle)
    if not memory:
        return None
    processes = tuple(_describe(process) for process in _processes(handle))
    power = _ask(pynvml.nvmlDeviceGetPowerUsage, handle)
    rates = _ask(pynvml.nvmlDeviceGetUtilizationRates, handle)
    return Gpu(
        index=index,
        name=_text(_ask(pynvml.nvmlDeviceGetName, handle, default="NVIDIA GPU")),
        uuid=_text(_ask(pynvml.nvmlDeviceGetUUID, handle, default="")),
        total_mib=memory.total >> 20,
        free_mib=memory.free >> 20,
        temperature_c=_ask(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        processes=processes,
        capability=tuple(_ask(pynvml.nvmlDeviceGetCudaComputeCapability, handle, default=(0, 0))),
        utilization=None if rates is None else int(rates.gpu),
        power_w=None if power is None else round(power / 1000),
        unnamed_mib=_unnamed(memory, processes),
    )


def _unnamed(memory: Any, processes: tuple[GpuProcess, ...]) -> int | None:
    """Memory in use that no program is named for. The first version of the answer counts the driver's own as used."""
    if in_wsl() or not has_the_machines_pids() or any(process.used_mib is None for process in processes):
        return None
    used = (memory.used >> 20) - (0 if hasattr(memory, "reserved") else 900)
    return max(0, used - sum(process.used_mib or 0 for process in processes))


def _read_health(index: int, handle: Any) -> GpuHealth:
    _, _, pending, failed = _ask(pynvml.nvmlDeviceGetRemappedRows, handle, default=(0, 0, 0, 0))
    reasons = _ask(pynvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
    if reasons is None:
        reasons = _ask(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle, default=0)
    return GpuHealth(
        index=index,
        name=_text(_ask(pynvml.nvmlDeviceGetName, handle, default="NVIDIA GPU")),
        uncorrected=_ask(
            pynvml.nvmlDeviceGetTotalEccErrors,
            handle,
            pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
            pynvml.NVML_VOLATILE_ECC,
        ),
        retiring=bool(_ask(pynvml.nvmlDeviceGetRetiredPagesPendingStatus, handle)),
        remap_pending=bool(pending),
        remap_failed=bool(failed),
        recovery=_recovery(handle),
        slowed=int(reasons),
        temperature_c=_ask(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        mode=int(_ask(pynvml.nvmlDeviceGetComputeMode, handle, default=0)),
        mig=bool(_ask(pynvml.nvmlDeviceGetMigMode, handle, default=(0, 0))[0]),
    )


def _recovery(handle: Any) -> int:
    """What the driver wants done to the card: 0 nothing, 1 a reset, 2 a restart of the machine, and so on."""
    values = _ask(pynvml.nvmlDeviceGetFieldValues, handle, [_RECOVERY_FIELD])
    return int(values[0].value.uiVal) if values and values[0].nvmlReturn == 0 else 0


def _memory(handle: Any) -> Any:
    # The second version does not count what the driver keeps for itself as used; drivers before 510 lack it.
    newer = _ask(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2))
    return newer or _ask(pynvml.nvmlDeviceGetMemoryInfo, handle)


def _processes(handle: Any) -> list[Any]:
    every = {}
    for question in (pynvml.nvmlDeviceGetComputeRunningProcesses, pynvml.nvmlDeviceGetGraphicsRunningProcesses):
        every.update({process.pid: process for process in _ask(question, handle, default=[])})
    return [every[pid] for pid in sorted(every)]


def _describe(process: Any) -> GpuProcess:
    used = None if process.usedGpuMemory is None else process.usedGpuMemory >> 20
    name = Path(_text(_ask(pynvml.nvmlSystemGetProcessName, process.pid, default=""))).name
    user = owner = ""
    # The driver counts processes as the machine does; in a container the same number is another process.
    if has_the_machines_pids():
        try:
            known = psutil.Process(process.pid)
            name, user = known.name(), known.username()
            owner = "ours" if COOKIE in environment(process.pid) else "other"
        except (psutil.Error, KeyError):
            pass
    return GpuProcess(process.pid, clean(name, 60), clean(user, 60), used, owner)


def _ask(question: Callable[..., Any], *arguments: Any, default: Any = None) -> Any:
    """An answer, or `default` where this driver or card cannot give it."""
    try:
        return question(*arguments)
    except (pynvml.NVMLError, AttributeError, UnicodeDecodeError, ValueError):
        return default


def _text(value: Any) -> str:
    return (value.decode(errors="replace") if isinstance(value, bytes) else str(value))[:120]
