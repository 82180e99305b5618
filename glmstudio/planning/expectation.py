"""What to expect of a machine whose layers were measured: arithmetic alone, shown in `docs/bench.md`.

For a model of L layers, with the seconds of one layer and of the head as measured:

    one conversation of T tokens   L * layer(T) + head, and prompt(T) for each layer that is computed twice
    full fine-tuning               6 / 4 of the cheaper adapter's (the weights' gradients come on top), and the
                                   optimizer's 28 bytes a number at the speed of the memory, once in 16 conversations
    tokens a second                T / (seconds * OVERHEAD)
    one answered token             L * token(bits) + the head's bytes / the speed of the memory
    the first token of a prompt    L * prompt(T) + the same
    loading                        the file's bytes / the disk's speed + the same bytes / the speed of the way in
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glmstudio.config.devices import CPU
from glmstudio.config.settings import Settings
from glmstudio.paths import SHIPPED_PRESETS
from glmstudio.planning.memory import BYTES, Computing, Need, WorstBatch, need
from glmstudio.planning.memory_fit import DeviceMemory, at_most, fit_memory
from glmstudio.planning.model_shape import ModelShape

TOKENS = 1050  # of a conversation: ToolAlpaca's mean
LEARNED = TOKENS * 16 // 100
CONVERSATIONS = 4048  # ToolAlpaca's
PROMPT = 1000
METHODS = ("ptuning_v2", "lora", "full")
BITS = ("16", "8", "4")
OVERHEAD = 1.05  # the trainer around the model: batches, the optimizer, reports
_ADAM = 28  # bytes that the optimizer's step moves for each number: weights, gradient and two averages
_PATIENCE_H = 72.0  # hours of one pass that a person may still wait for
_READABLE = 1.0  # tokens a second: slower answers are no conversation
_LAUNCHER = "python launcher.py"


@dataclass(frozen=True)
class Tuning:
    """One method on one model. `hours` is for one pass over 4,048 conversations of 1,050 tokens; `need` in bytes;
    `remedy` holds the settings that make it fit; `fits` says whether it does, with them where they are needed.

    Speeds are None where nothing was measured.
    """

    method: str
    tokens_per_second: float | None
    hours: float | None
    need: int
    fits: bool
    checkpointing: bool
    remedy: dict[str, Any]


@dataclass(frozen=True)
class Chatting:
    """Answering with weights of so many bits; `need` in bytes."""

    bits: str
    tokens_per_second: float | None
    first_token_s: float | None
    need: int
    fits: bool


@dataclass(frozen=True)
class Expectation:
    """What one model does on this machine; `here`: whether it is downloaded."""

    model: str
    title: str
    here: bool
    load_s: float | None
    tuning: tuple[Tuning, ...]
    chatting: tuple[Chatting, ...]


@dataclass(frozen=True)
class Verdict:
    """What a machine is good for, as the end of a key of the words (`bench.verdict`), and the command to type next."""

    key: str
    command: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Candidate:
    """A model of the catalogue, or the demo; `size` is that of its files in bytes, `key` names its measured layers."""

    name: str
    title: str
    here: bool
    size: int
    shape: ModelShape
    key: str


def expect(candidate: Candidate, found: Mapping[str, Any], place: DeviceMemory) -> Expectation:
    """The expectation for one model from what was found (`glmstudio.train.measuring.measure`)."""
    layers = _Layers(candidate.shape, found, candidate.key)
    return Expectation(
        candidate.name,
        candidate.title,
        candidate.here,
        _loading(candidate.size, found),
        tuple(_tuning(candidate, method, layers, place) for method in METHODS),
        tuple(_chatting(candidate.shape, bits, layers, place) for bits in BITS),
    )


def verdict(expectations: tuple[Expectation, ...]) -> Verdict:
    """What the machine is good for. The demo is the last of the expectations; of the others, one that is here and has
    presets is spoken of first."""
    *models, demo = expectations
    models = sorted(
        (each for each in models if (SHIPPED_PRESETS / each.model).is_dir()), key=lambda each: not each.here
    )
    fitting = [(model, way) for model in models for way in model.tuning if way.fits and way.hours is not None]
    quick = [(model, way) for model, way in fitting if (way.hours or 0) <= _PATIENCE_H and way.method != "full"]
    if quick:
        model, way = next((each for each in quick if not each[1].remedy), quick[0])
        changes = "".join(f" --set {name}={value}" for name, value in way.remedy.items())
        train = f"{_LAUNCHER} train {model.model}/{way.method} --data FILE{changes}"
        return Verdict("tune", _or_download(model, train), {"model": model.title, "hours": way.hours})
    for model in models:
        for answer in model.chatting:
            if answer.fits and (answer.tokens_per_second or 0) >= _READABLE:
                serve = f"{_LAUNCHER} serve --model {model.model} --bits {answer.bits}"
                values = {"model": model.title, "speed": answer.tokens_per_second}
                return Verdict("chat", _or_download(model, serve), values)
    train = f"{_LAUNCHER} train demo/ptuning_v2"
    said = {"model": models[0].title, "demo": demo.tuning[0].tokens_per_second or 0.0}
    if fitting:
        return Verdict("slow", train, said | {"days": min(way.hours or 0.0 for _, way in fitting) / 24})
    return Verdict("small", train, said | {"need": min(way.need for way in models[0].tuning) / 1e9})


def _or_download(model: Expectation, command: str) -> str:
    return command if model.here else f"{_LAUNCHER} models download {model.model}"


class _Layers:
    """Seconds of a whole model, from those of a layer; None where they were not measured."""

    def __init__(self, shape: ModelShape, found: Mapping[str, Any], key: str) -> None:
        self.shape, self._stream = shape, float(found["stream"]) * 1e9
        self._found: Mapping[str, Any] = found.get("models", {}).get(key) or {}
        self._size = BYTES[found["dtype"]]

    def conversation(self, method: str, *, twice: int) -> float | None:
        """Forward and backward over one conversation; `twice`: so many layers are computed again on the way back."""
        training, head = self._found.get("training") or {}, self._found.get("head")
        each = {name: times[str(TOKENS)] for name, times in training.items() if str(TOKENS) in times}
        if len(each) < 2 or head is None:
            return None
        more = twice * self._found["prompt"] * TOKENS / PROMPT
        if method != "full":
            return self.shape.layers * each[method] + head + more
        adam = _ADAM * self.shape.parameters / self._stream / 16
        return 1.5 * (self.shape.layers * min(each.values()) + head) + more + adam

    def token(self, bits: str) -> float | None:
        """One more token of an answer."""
        taken = (self._found.get("token") or {}).get(bits)
        return None if taken is None else self.shape.layers * taken + self._head()

    def prompt(self) -> float | None:
        """The first token after a prompt."""
        taken = self._found.get("prompt")
        return None if taken is None else self.shape.layers * taken + self._head()

    def _head(self) -> float:
        return self._size * self.shape.vocab * self.shape.hidden / self._stream


def _tuning(candidate: Candidate, method: str, layers: _Layers, place: DeviceMemory) -> Tuning:
    asked = Settings(model=candidate.name, method=method)
    shape = candidate.shape
    planned, needed, changes = fit_memory(asked, shape, place, at_most)
    if changes:
        planned, needed, _ = fit_memory(dataclasses.replace(asked, **changes), shape, place, at_most)
    on = planned.gradient_checkpointing == "on"
    twice = (planned.checkpoint_layers or shape.layers) if on else 0
    seconds = layers.conversation(method, twice=twice)
    return Tuning(
        method,
        None if seconds is None else TOKENS / (seconds * OVERHEAD),
        None if seconds is None else CONVERSATIONS * seconds * OVERHEAD / 3600,
        needed.total,
        place.holds(needed),
        on,
        changes,
    )


def _chatting(shape: ModelShape, bits: str, layers: _Layers, place: DeviceMemory) -> Chatting:
    """In memory there are the weights, the program, and the keys and values of a conversation of 8,192 tokens."""
    on = Computing("cpu", "float32") if place.device == CPU else Computing("cuda", "bfloat16")
    run = need(shape, Settings(method="lora", base_bits=bits), WorstBatch(1, 1), on)
    kept = 2 * 8192 * shape.layers * shape.shared * BYTES[on.dtype]
    needed = Need(run.weights, 0, 0, 0, kept, 0, run.fixed)
    token = layers.token(bits)
    return Chatting(
        bits,
        None if token is None else 1 / token,
        layers.prompt() if bits == "16" else None,
        needed.total,
        place.holds(needed),
    )


def _loading(size: int, found: Mapping[str, Any]) -> float | None:
    speed = (found.get("disk") or {}).get("speed")
    return None if not speed else size / speed / 1e9 + size / float(found["place"]) / 1e9
