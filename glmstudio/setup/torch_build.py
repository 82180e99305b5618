"""Which PyTorch fits this machine: decided by the NVIDIA driver and the oldest GPU, before anything is installed.

The driver alone does not tell: a new driver on a V100 would accept CUDA 13 wheels, which hold no code for that GPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess

from glmstudio.setup.messages import Stop, say

DEFAULT = "2.13.0"  # what the tests run with
_NEWEST = {"cu118": "2.7.1", "cu124": "2.6.0", "cu126": DEFAULT, "cu128": "2.11.0", "cu130": DEFAULT, "cpu": DEFAULT}

Version = tuple[int, ...]


def choose(asked: str) -> tuple[str, str]:
    """The build to install, as `2.7.1+cu118`, and the reason in words. `asked` is "" or "auto" for our own choice."""
    if asked not in ("", "auto"):
        build = asked if asked[0].isdigit() else f"{_NEWEST.get(asked, '')}+{asked}"
        return build, say("because_asked")
    card = nvidia()
    if card is None:
        return DEFAULT, say("because_none")
    driver, capability = card
    reason = say("because_card", driver=".".join(map(str, driver)), capability=".".join(map(str, capability)))
    return pick(capability, driver), reason


def pick(cc_min: Version, driver: Version) -> str:
    """The build that both this driver and the GPU of the lowest compute capability can run."""
    if driver < (450, 80):
        raise Stop(say("driver_old", driver=".".join(map(str, driver))))
    if driver < (525, 60, 13):
        return "2.7.1+cu118"
    if cc_min < (7, 5):
        return f"{DEFAULT}+cu126"
    if driver < (580,):
        return "2.11.0+cu128" if cc_min >= (10, 0) else f"{DEFAULT}+cu126"
    # The usual package index holds the CUDA 13 build for Linux, and users have fast mirrors of that index.
    return f"{DEFAULT}+cu130" if os.name == "nt" else DEFAULT


def requirement(build: str) -> list[str]:
    """pip's arguments for a build; those with a tag come from PyTorch's own index (or a mirror of it)."""
    version, _, tag = build.partition("+")
    name = f"torch=={build}" if version else "torch"
    mirror = os.environ.get("GLMSTUDIO_TORCH_INDEX", "https://download.pytorch.org/whl")
    return [name, *(["--index-url", f"{mirror.rstrip('/')}/{tag}"] if tag else [])]


def nvidia() -> tuple[Version, Version] | None:
    """The driver's version and the lowest compute capability of its GPUs; None without a driver or a GPU."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        return _ask_library()
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
        return _ask_nvidia_smi()
    return None


def _ask_library() -> tuple[Version, Version] | None:
    library = ctypes.CDLL("nvml.dll" if os.name == "nt" else "libnvidia-ml.so.1")
    if library.nvmlInit_v2() != 0:
        raise OSError("the driver does not answer")
    try:
        text, count = ctypes.create_string_buffer(96), ctypes.c_uint()
        library.nvmlSystemGetDriverVersion(text, 96)
        library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        found = [_capability(library, index) for index in range(count.value)]
        capabilities = [each for each in found if each]
        return (_numbers(text.value.decode()), min(capabilities)) if capabilities else None
    finally:
        library.nvmlShutdown()


def _capability(library: ctypes.CDLL, index: int) -> Version | None:
    card, major, minor = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
    if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(card)) != 0:
        return None
    failed = library.nvmlDeviceGetCudaComputeCapability(card, ctypes.byref(major), ctypes.byref(minor))
    return None if failed else (major.value, minor.value)


def _ask_nvidia_smi() -> tuple[Version, Version] | None:
    command = ["nvidia-smi", "--query-gpu=driver_version,compute_cap", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    cards = [[_numbers(part) for part in line.split(",")] for line in answer.splitlines() if line.strip()]
    return (cards[0][0], min(capability for _, capability in cards)) if cards else None


def _numbers(version: str) -> Version:
    return tuple(int(part) for part in version.strip().split("."))
