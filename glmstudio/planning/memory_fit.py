"""Does it fit: what a run needs against the memory of its device, the settings that "auto" becomes, and what helps."""

from __future__ import annotations

import bisect
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psutil

from glmstudio.config.devices import CPU, cards_of, choose, no_card, processes_on
from glmstudio.config.settings import Settings, on_one_prompt, pack_limit
from glmstudio.errors import StudioError
from glmstudio.models import find_model
from glmstudio.planning.memory import BYTES, Computing, Need, WorstBatch, need
from glmstudio.planning.model_shape import ModelShape, shape_of
from glmstudio.units import memory_bytes

MARGIN = 0.96  # of the memory that is free: the rest is what the estimate may miss
_PACKS = (8192, 4096, 2048, 1024, 1)  # tokens of a pack; the last one: each conversation by itself
_PACKED_ON_CPU = 1024  # larger ones do not fit its caches (measured: docs/benchmarks.md)
_SHORTEST = 256  # tokens: a shorter limit is proposed to nobody

LargestOf = Callable[[Settings], WorstBatch]

# Published numbers of the models in the catalogue (their config.json), for a plan before the download.
_CHATGLM3_6B = ModelShape(layers=28, hidden=4096, ffn=13696, heads=32, groups=2, head_dim=128, vocab=65024)
_GLM_4_9B = ModelShape(layers=40, hidden=4096, ffn=13696, heads=32, groups=2, head_dim=128, vocab=151552)
_GLM_4_0414 = dataclasses.replace(_GLM_4_9B, norms=4)
_GLM_EDGE = ModelShape(
    layers=28, hidden=2048, ffn=6144, heads=16, groups=4, head_dim=128, vocab=59264,
    biased=False, turned=1.0, tied=True,
)  # fmt: skip
KNOWN = {
    **dict.fromkeys(("chatglm3-6b", "chatglm3-6b-base", "chatglm3-6b-32k"), _CHATGLM3_6B),
    **dict.fromkeys(("glm-4-9b", "glm-4-9b-chat"), _GLM_4_9B),
    "glm-4-9b-chat-1m": dataclasses.replace(_GLM_4_9B, groups=4),
    **dict.fromkeys(("glm-4-9b-0414", "glm-z1-9b-0414"), _GLM_4_0414),
    "glm-edge-1.5b-chat": _GLM_EDGE,
    "glm-edge-4b-chat": dataclasses.replace(_GLM_EDGE, layers=40, hidden=3072, ffn=8192, heads=24, groups=6),
}


@dataclass(frozen=True)
class DeviceMemory:
    """Where a run would train. Memory in bytes, for each of its processes: that of the fullest GPU, or a share of the
    main memory."""

    device: str
    name: str
    free: int
    total: int
    processes: int = 1

    def holds(self, needed: Need) -> bool:
        """Whether there is room."""
        return needed.total <= self.free * MARGIN


@dataclass(frozen=True)
class PresetFit:
    """What a preset needs at its largest batch, where it would run, and why it cannot."""

    need: Need | None
    place: DeviceMemory | None
    problem: StudioError | None
    shape: ModelShape | None = None


def fit(settings: Settings) -> PresetFit:
    """Judge a preset on the device that it would take, with the GPU to itself. Never raises StudioError."""
    try:
        shape = KNOWN.get(settings.model) or shape_of(find_model(settings.model).path)
        place = device_memory_of(choose(settings.device, settings.processes), settings.processes, alone=True)
    except StudioError as error:
        return PresetFit(None, None, error)
    _, needed, changes = fit_memory(settings, shape, place, at_most)
    problem = None if place.holds(needed) else too_big(needed, place, changes)
    host, there = needed.host * place.processes, psutil.virtual_memory().total
    if problem is None and host > there * MARGIN:
        problem = StudioError("runs.host_small", need=memory_bytes(host), free=memory_bytes(there))
    return PresetFit(needed, place, problem, shape)


def device_memory_of(device: str, processes: int = 0, *, alone: bool = False) -> DeviceMemory:
    """The memory of the device; `alone` counts what another run or a chat holds as free, because it will have ended.

    Raises StudioError where a GPU of it is gone.
    """
    count = processes_on(device, processes)
    if device == CPU:
        memory = psutil.virtual_memory()
        free = memory.total if alone else memory.available
        return DeviceMemory(device, "", int(free) // count, int(memory.total) // count, count)
    found = cards_of(device)
    if len(found) < count:
        raise no_card(device)
    names = " + ".join(
        f"{number} × {name}" if number > 1 else name for name, number in Counter(card.name for card in found).items()
    )
    free, total = (min(getattr(card, amount) for card in found) << 20 for amount in ("free", "total"))
    return DeviceMemory(device, names, total if alone else free, total, count)


def at_most(settings: Settings) -> WorstBatch:
    """The largest pack or batch that the settings allow, for a plan without data; a sixth of the tokens is learned, as
    in conversations with tools (ToolAlpaca: 16 %), which are half as long as the limit."""
    sequences, tokens = settings.batch_size, settings.batch_size * settings.max_length
    if settings.packing:
        limit, whole = pack_limit(settings, settings.max_length), tokens * settings.accumulation
        tokens = min(limit, whole)
        if on_one_prompt(settings) > 1:
            return sharing_batch(settings, tokens, whole // 6, whole)
        sequences = -(-2 * tokens // settings.max_length)
        return WorstBatch(tokens, tokens // 6, sequences, -(-whole // limit))
    return WorstBatch(tokens, tokens // 6, sequences)


def sharing_batch(settings: Settings, tokens: int, learned: int, whole: int) -> WorstBatch:
    """The most where prompts are shared: then one pack may hold all conversations of a step, two to a prompt."""
    count = settings.batch_size * settings.accumulation
    common = min(whole, tokens * on_one_prompt(settings))
    return WorstBatch(tokens, min(learned, tokens), count + count // 2, -(-whole // tokens), common)


def resolve_auto(settings: Settings, shape: ModelShape, place: DeviceMemory, largest: LargestOf) -> Settings:
    """The settings with what is left to the plan decided: packs as large as the memory holds, and where it does not
    hold even the smallest, gradient checkpointing for as few layers as will do."""

    def fits(other: Settings) -> bool:
        return place.holds(estimate(other, shape, place, largest))

    checkpointing = "on" if settings.gradient_checkpointing == "on" else "off"
    given = dataclasses.replace(settings, gradient_checkpointing=checkpointing)
    sizes = [settings.pack_tokens]
    if settings.packing and not settings.pack_tokens:
        sizes = [size for size in _PACKS if place.device != CPU or size <= _PACKED_ON_CPU]
    packed = [dataclasses.replace(given, pack_tokens=size) for size in sizes]
    found = next((each for each in packed if fits(each)), packed[-1])
    if settings.gradient_checkpointing != "auto" or fits(found):
        return found

    def twice(count: int) -> Settings:
        return dataclasses.replace(found, gradient_checkpointing="on", checkpoint_layers=count)

    # More layers computed twice never need more memory.
    least = 1 + bisect.bisect_left(range(1, shape.layers), True, key=lambda count: fits(twice(count)))
    return twice(least if least < shape.layers else 0)


def estimate(settings: Settings, shape: ModelShape, place: DeviceMemory, largest: LargestOf) -> Need:
    """The memory that a step needs at its peak."""
    on_cpu = place.device == CPU
    dtype = settings.dtype if settings.dtype in BYTES else ("float32" if on_cpu else "bfloat16")
    on = Computing("cpu" if on_cpu else "cuda", dtype, place.processes)
    return need(shape, settings, largest(settings), on)


def fit_memory(
    settings: Settings, shape: ModelShape, place: DeviceMemory, largest: LargestOf
) -> tuple[Settings, Need, dict[str, Any]]:
    """The settings with "auto" decided, what a step then needs, and where that does not fit, the changes that help."""
    planned = resolve_auto(settings, shape, place, largest)
    needed = estimate(planned, shape, place, largest)
    return planned, needed, {} if place.holds(needed) else remedy(settings, shape, place, largest)


def remedy(settings: Settings, shape: ModelShape, place: DeviceMemory, largest: LargestOf) -> dict[str, Any]:
    """The changes that make it fit and change the result least; empty where none does."""
    for changes in _gentle(settings, place.device):
        other = dataclasses.replace(settings, **changes)
        if place.holds(estimate(resolve_auto(other, shape, place, largest), shape, place, largest)):
            return changes
    return {}


def too_big(needed: Need, place: DeviceMemory, changes: dict[str, Any]) -> StudioError:
    """Why it does not fit, and what would help."""
    key = "runs.does_not_fit" if changes else "runs.never_fits"
    said = ", ".join(f"{name}={value}" for name, value in changes.items())
    need, free, total = (memory_bytes(each) for each in (needed.total, place.free, place.total))
    return StudioError(key, need=need, free=free, total=total, changes=said)


def _gentle(settings: Settings, device: str) -> Iterator[dict[str, Any]]:
    """Changes that save memory, those that change the result least first."""
    changes: dict[str, Any] = {}
    if settings.packing and settings.pack_tokens:
        yield (changes := {"pack_tokens": 0})
    changes = changes | {"gradient_checkpointing": "on"}
    yield changes
    batch, accumulation = settings.batch_size, settings.accumulation
    while batch > 1 and not settings.packing:  # of a pack, it says only how the conversations count
        batch, accumulation = batch // 2, accumulation * 2
        changes = changes | {"batch_size": batch, "accumulation": accumulation}
        yield changes
    if device != CPU and settings.method != "full":
        for bits in ("8", "4"):
            yield (changes := changes | {"base_bits": bits})
    length = settings.max_length
    while length // 2 >= _SHORTEST:
        length //= 2
        yield changes | {"max_length": length}
