"""The graphics cards as NVIDIA's library describes them: it needs no CUDA and holds no memory of the card."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pynvml

from glmstudio.doctor.report import Gpu, GpuProcess


@dataclass(frozen=True)
class Cards:
    """What the driver said: its version and its GPUs, or `problem` (the name of NVIDIA's error) if it said nothing."""

    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    problem: str = ""


NO_CARDS = Cards()
_NVML = threading.Lock()


def read_cards() -> Cards:
    """Everything the driver tells now."""
    with _NVML:
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            return Cards(problem=type(error).__name__.removeprefix("NVMLError_") or str(error))
        try:
            driver = _ask(pynvml.nvmlSystemGetDriverVersion, default="")
            gpus = (_read_gpu(index) for index in range(_ask(pynvml.nvmlDeviceGetCount, default=0)))
            return Cards(tuple(gpu for gpu in gpus if gpu), _text(driver))
        finally:
            pynvml.nvmlShutdown()


def _read_gpu(index: int) -> Gpu | None:
    handle = _ask(pynvml.nvmlDeviceGetHandleByIndex, index)
    memory = handle and _memory(handle)
    if not memory:
        return None
    return Gpu(
        index=index,
        name=_text(_ask(pynvml.nvmlDeviceGetName, handle, default="NVIDIA GPU")),
        uuid=_text(_ask(pynvml.nvmlDeviceGetUUID, handle, default="")),
        total_mib=memory.total >> 20,
        free_mib=memory.free >> 20,
        temperature_c=_ask(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        processes=tuple(_describe(process) for process in _processes(handle)),
        capability=tuple(_ask(pynvml.nvmlDeviceGetCudaComputeCapability, handle, default=(0, 0))),
    )


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
    user = ""
    if sees_the_drivers_processes():
        try:
            known = psutil.Process(process.pid)
            name, user = known.name(), known.username()
        except (psutil.Error, KeyError):
            pass
    return GpuProcess(process.pid, name, user, used)


def _ask(question: Callable[..., Any], *arguments: Any, default: Any = None) -> Any:
    """An answer, or `default` where this driver or card cannot give it."""
    try:
        return question(*arguments)
    except (pynvml.NVMLError, AttributeError, UnicodeDecodeError):
        return default


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def sees_the_drivers_processes() -> bool:
    """The driver counts processes as the host does; in a container the same number is another process."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino == 0xEFFFFFFC  # the first namespace of a Linux system
    except OSError:
        return True
