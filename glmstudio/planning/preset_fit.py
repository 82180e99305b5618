"""Whether a preset fits this machine, before any data are chosen."""

from __future__ import annotations

from dataclasses import dataclass

from glmstudio.config.devices import choose
from glmstudio.config.settings import Settings
from glmstudio.errors import StudioError
from glmstudio.models import find_model
from glmstudio.planning.memory import Need
from glmstudio.planning.model_shape import ModelShape, shape_of
from glmstudio.planning.plan import DeviceMemory, at_most, device_memory_of, fit_memory, too_big

# Published numbers of the models in the catalogue (config.json of ChatGLM3-6B), for a plan before the download.
_CHATGLM3_6B = ModelShape(layers=28, hidden=4096, ffn=13696, heads=32, groups=2, head_dim=128, vocab=65024)
KNOWN = {"chatglm3-6b": _CHATGLM3_6B, "chatglm3-6b-base": _CHATGLM3_6B, "chatglm3-6b-32k": _CHATGLM3_6B}


@dataclass(frozen=True)
class PresetFit:
    """What a preset needs at its largest batch, where it would run, and why it cannot."""

    need: Need | None
    place: DeviceMemory | None
    problem: StudioError | None


def fit(settings: Settings) -> PresetFit:
    """Judge a preset on the device that it would take, with the card to itself. Never raises StudioError."""
    try:
        shape = KNOWN.get(settings.model) or shape_of(find_model(settings.model).path)
        place = device_memory_of(choose(settings.device, settings.processes), settings.processes, alone=True)
    except StudioError as error:
        return PresetFit(None, None, error)
    _, needed, changes = fit_memory(settings, shape, place, at_most)
    return PresetFit(needed, place, None if place.holds(needed) else too_big(needed, place, changes))
