"""Every preset in the order in which the page offers them, and whether its memory is here."""

from __future__ import annotations

import re

from glmstudio.config.presets import Preset, list_presets
from glmstudio.planning.memory_fit import PresetFit, fit
from glmstudio.ui.framework.ttl_cache import cached
from glmstudio.ui.state.choice import model_in_use

_USUAL = ("ptuning_v2", "lora", "full", "smoke")
_LESS_MEMORY = re.compile(r"_\d+gb$")
_BITS = ("16", "8", "4")


@cached(3.0)
def presets_in_order() -> list[Preset]:
    """Those for the model in use first, of these the usual ones, and of a kind those that give up least for memory."""
    used = model_in_use()

    def place(preset: Preset) -> tuple[object, ...]:
        kind = kind_of(preset)
        usual = next((at for at, name in enumerate(_USUAL) if kind.startswith(name)), len(_USUAL))
        other = preset.model != (used.name if used else "demo")
        return other, preset.model, preset.own, usual, kind, *compromise(preset), preset.name

    return sorted(list_presets(), key=place)


@cached(3.0)
def preset_fits() -> list[tuple[Preset, PresetFit]]:
    """The same, each with the memory that it needs."""
    return [(preset, fit(preset.settings)) for preset in presets_in_order()]


def first_that_fits() -> Preset | None:
    """The preset of somebody who chose none: the first one whose memory is here; without any, the first one."""
    every = preset_fits()
    model = every[0][0].model if every else ""
    fitting = (preset for preset, found in every if preset.model == model and not preset.own and not found.problem)
    return next(fitting, every[0][0] if every else None)


def kind_of(preset: Preset) -> str:
    """What a preset is for; presets of one kind differ by the memory that they are for. One's own are each a kind."""
    name = preset.name.rpartition("/")[2]
    if preset.own:
        return name
    return "full" if name.startswith("full_") else _LESS_MEMORY.sub("", name)


def compromise(preset: Preset) -> tuple[int, int, bool]:
    """What it gives up for memory: exactness by fewer bits, and time by fewer GPUs or by computing layers twice."""
    settings = preset.settings
    return _BITS.index(settings.base_bits), -settings.processes, settings.gradient_checkpointing == "on"


def teaches_facts(preset: Preset) -> bool:
    """Whether it is made for facts."""
    return preset.settings.best_by == "facts"
