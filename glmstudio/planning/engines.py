"""What an engine needs of the machine and of the other settings, before anything is started."""

from __future__ import annotations

import os
import shutil

from glmstudio.config import deepspeed, support
from glmstudio.config.devices import CPU
from glmstudio.config.settings import Settings
from glmstudio.errors import StudioError
from glmstudio.system import nvml

_BF16 = (8, 0)  # compute capability of the first cards that compute in bfloat16


def problem(settings: Settings, device: str) -> StudioError | None:
    """Why a run with these settings could not train on `device` with its engine; None where it can.

    The first time after DeepSpeed was installed this takes seconds: a child process loads it.
    """
    if device != CPU and (lacks := support.problem("gpu_training")):
        return lacks
    if settings.engine == "ddp":
        return None
    if settings.method != "full":
        return StudioError("engines.needs_full", engine=settings.engine, method=settings.method)
    if settings.engine == "fsdp":
        return _fsdp_problem(settings, device)
    try:
        deepspeed.check()
    except StudioError as error:
        return error
    missing = _missing_builders() if device == CPU else []
    return StudioError("engines.no_compiler", names=", ".join(missing)) if missing else None


def _fsdp_problem(settings: Settings, device: str) -> StudioError | None:
    """FSDP has no scaler for 16-bit numbers of the old kind, so a card without bfloat16 computes in 32 bits."""
    if settings.dtype == "float32":
        return None
    named = set(device.split(","))
    old = [
        gpu.name
        for gpu in nvml.read_cards().gpus
        if (gpu.uuid in named or str(gpu.index) in named) and (0, 0) < gpu.capability < _BF16
    ]
    return StudioError("engines.fsdp_needs_bf16", card=old[0]) if old else None


def _missing_builders() -> list[str]:
    """On the CPU, DeepSpeed compiles how its processes talk when it is first used."""
    path = deepspeed.search_path()
    compiler = os.environ.get("CXX", "g++")
    return [name for name in (compiler, "ninja") if shutil.which(name, path=path) is None]
