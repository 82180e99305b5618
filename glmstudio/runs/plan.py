"""The plan of a run, before it starts: does it fit, how long will it take, what will lie on the disk."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from glmstudio.data.selection import Selection
from glmstudio.data.store import Store
from glmstudio.errors import StudioError
from glmstudio.models import ready_model
from glmstudio.paths import paths
from glmstudio.runs.lease import CPU, cards
from glmstudio.runs.memory import Need, Shape, disk_need, need, shape_of
from glmstudio.runs.presets import Settings
from glmstudio.runs.probe import Probe, look_probe

_RESERVE = 0.04  # of the memory that is free: what the estimate may miss
_SHORTEST = 256  # tokens: a shorter limit is proposed to nobody


@dataclass(frozen=True)
class Plan:
    """What a run needs and gives. Sizes in bytes; `seconds` is for all steps, where a probe has measured.

    `remedy` holds the settings that would make it fit, the least harmful first; empty where it fits or nothing helps.
    """

    settings: Settings
    device: str
    device_name: str
    need: Need
    free: int
    total: int
    steps: int
    epochs: float
    longest: int
    probe: Probe
    seconds: float | None
    disk: int
    disk_free: int
    remedy: dict[str, Any]

    @property
    def fits(self) -> bool:
        """Whether the memory is enough."""
        return self.need.total <= self.free * (1 - _RESERVE)

    @property
    def problem(self) -> StudioError | None:
        """Why the run would fail."""
        if not self.fits:
            return StudioError("runs.does_not_fit", need=self.need.total / 1e9, free=self.free / 1e9)
        if self.disk > self.disk_free:
            return StudioError("runs.disk_small", need=self.disk / 1e9, free=self.disk_free / 1e9)
        return None


def make_plan(settings: Settings, device: str, store: Store, chosen: Selection) -> Plan:
    """The plan for data that are read. Raises StudioError for a model that cannot be used."""
    model = ready_model(settings.model)
    shape = shape_of(model.path)
    name, free, total = _memory(device)
    largest = _largest_batch(store, chosen, settings.batch_size)
    planned = settled(settings, shape, largest, device, free)
    probe = look_probe(planned, device, store.key)
    per_step = settings.batch_size * settings.accumulation
    tokens = chosen.tokens / chosen.used * per_step
    needed = _need(planned, shape, largest, device)
    fits = needed.total <= free * (1 - _RESERVE)
    return Plan(
        settings=planned,
        device=device,
        device_name=name,
        need=needed,
        free=free,
        total=total,
        steps=settings.steps,
        epochs=settings.steps * per_step / chosen.used,
        longest=largest[0],
        probe=probe,
        seconds=settings.steps * tokens / probe.tokens_per_second if probe.tokens_per_second else None,
        disk=disk_need(shape, settings),
        disk_free=shutil.disk_usage(_existing(paths().runs)).free,
        remedy={} if fits else _remedy(settings, shape, store, chosen, device, free),
    )


def settled(settings: Settings, shape: Shape, largest: tuple[int, int, int], device: str, free: int) -> Settings:
    """The settings with "auto" decided: gradient checkpointing is on where the memory is not enough without."""
    if settings.gradient_checkpointing != "auto":
        return settings
    off = dataclasses.replace(settings, gradient_checkpointing="off")
    if _need(off, shape, largest, device).total <= free * (1 - _RESERVE):
        return off
    return dataclasses.replace(settings, gradient_checkpointing="on")


def _need(settings: Settings, shape: Shape, largest: tuple[int, int, int], device: str) -> Need:
    _, tokens, learned = largest
    return need(shape, settings, tokens=tokens, learned=learned, on_gpu=device != CPU)


def _remedy(
    settings: Settings, shape: Shape, store: Store, chosen: Selection, device: str, free: int
) -> dict[str, Any]:
    for changes in _gentle(settings, device):
        other = dataclasses.replace(settings, **changes)
        largest = _largest_batch(store, chosen, other.batch_size, other.max_length)
        if _need(settled(other, shape, largest, device, free), shape, largest, device).total <= free * (1 - _RESERVE):
            return changes
    return {}


def _gentle(settings: Settings, device: str) -> Iterator[dict[str, Any]]:
    """Changes that save memory, those that change the result least first."""
    changes: dict[str, Any] = {"gradient_checkpointing": "on"}
    yield changes
    batch, accumulation = settings.batch_size, settings.accumulation
    while batch > 1:
        batch, accumulation = batch // 2, accumulation * 2
        changes |= {"batch_size": batch, "accumulation": accumulation}
        yield dict(changes)
    if device != CPU and settings.method != "full":
        for bits in ("8", "4"):
            yield (changes := changes | {"base_bits": bits})
    length = settings.max_length
    while length // 2 >= _SHORTEST:
        length //= 2
        yield changes | {"max_length": length}


def _largest_batch(store: Store, chosen: Selection, batch: int, limit: int | None = None) -> tuple[int, int, int]:
    """The longest conversation, and of a batch of the longest ones its tokens with padding and its learned tokens."""
    ends = chosen.ends if limit is None else np.minimum(chosen.ends, limit)
    longest = np.argsort(-ends, kind="stable")[:batch]
    learned = sum(int(store.learned(int(chosen.rows[at]), int(ends[at])).sum()) for at in longest)
    return int(ends[longest[0]]), int(ends[longest[0]]) * len(longest), learned


def _memory(device: str) -> tuple[str, int, int]:
    """Name, free and total memory of the device in bytes."""
    if device == CPU:
        memory = psutil.virtual_memory()
        return "", int(memory.available), int(memory.total)
    name, free, total = cards()[device]
    return name, free << 20, total << 20


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder
