"""The machine while a run trains: a line for each of its GPUs, and memory and disk where they are the limit."""

from __future__ import annotations

import shutil

import psutil

from glmstudio.config.devices import CPU
from glmstudio.paths import paths
from glmstudio.system.nvml import Gpu
from glmstudio.ui.framework.markup import Html, bar, tag
from glmstudio.ui.state.checkup import CHECKUP
from glmstudio.ui.state.runwatch import RunSnapshot
from glmstudio.units import memory, size
from glmstudio.words import say

_SCARCE = 0.9  # share of the memory in use from which on it is the limit
_HOT = 85  # degrees at which GPUs begin to throttle
_LITTLE_DISK = 20e9  # bytes


def render_hardware(lang: str, known: RunSnapshot) -> Html:
    """The GPUs of a run that goes on, and what is short; nothing for one that does not."""
    if not known.state.holds_device:
        return Html("")
    mine = known.run.device.split(",")
    gpus = [gpu for gpu in CHECKUP.gpus() if gpu.uuid in mine]
    parts = [*(_gpu(lang, gpu) for gpu in gpus), _memory(lang, always=mine == [CPU]), _disk(lang)]
    return tag('<div class="gs-hardware">{parts}</div>', parts=[part for part in parts if part])


def _gpu(lang: str, gpu: Gpu) -> Html:
    used, hot = gpu.total_mib - gpu.free_mib, (gpu.temperature_c or 0) >= _HOT
    facts = [
        "" if gpu.utilization is None else say(lang, "ui.doctor.utilization", percent=gpu.utilization),
        "" if gpu.temperature_c is None else f"{gpu.temperature_c} °C",
        "" if gpu.power_w is None else f"{gpu.power_w} W",
    ]
    return _meter(
        f"GPU {gpu.index}",
        used / max(1, gpu.total_mib),
        " · ".join([f"{memory(used)} / {memory(gpu.total_mib)}", *filter(None, facts)]),
        say(lang, "ui.hardware.hot") if hot else "",
    )


def _memory(lang: str, *, always: bool) -> Html:
    now = psutil.virtual_memory()
    share = 1 - now.available / max(1, now.total)
    if not always and share < _SCARCE:
        return Html("")
    figures = f"{memory((now.total - now.available) / 2**20)} / {memory(now.total / 2**20)}"
    return _meter(
        say(lang, "ui.hardware.memory"), share, figures, say(lang, "ui.hardware.scarce") if share >= _SCARCE else ""
    )


def _disk(lang: str) -> Html:
    try:
        disk = shutil.disk_usage(paths().home)
    except OSError:
        return Html("")
    if disk.free >= _LITTLE_DISK:
        return Html("")
    free = say(lang, "ui.hardware.disk_free", free=size(disk.free))
    return _meter(say(lang, "ui.hardware.disk"), 1 - disk.free / max(1, disk.total), free, "")


def _meter(name: str, share: float, figures: str, warning: str) -> Html:
    return tag(
        '<div class="gs-meter" data-key="meter-{name}"><b>{name}</b>{bar}<span class="gs-small gs-number">{figures}'
        "{warning}</span></div>",
        name=name,
        bar=bar(share, label=name, kind="attention" if warning else "running"),
        figures=figures,
        warning=tag(' · <strong class="gs-short">{warning}</strong>', warning=warning) if warning else "",
    )
