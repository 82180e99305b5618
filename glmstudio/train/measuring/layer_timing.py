"""Decoder layers of a published shape with random numbers, timed: what training and answering cost on this device."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from transformers import GlmForCausalLM

from glmstudio.config.settings import Settings
from glmstudio.errors import StudioError
from glmstudio.glm.adapters.prefix import attach_prefix
from glmstudio.glm.decode import DecodeForward
from glmstudio.glm.kv_cache import GrowingCache
from glmstudio.glm.lm_head import LMHead
from glmstudio.glm.quantization import quantize
from glmstudio.glm.weights.base_weights import native_model, set_angles, tie_head
from glmstudio.glm.weights.model_config import native_config
from glmstudio.planning.memory import Computing, WorstBatch, need
from glmstudio.planning.model_shape import ModelShape
from glmstudio.train.methods import METHODS

CONTEXT = 1024  # tokens before the one that is decoded
_SMALL = 100_000_000  # numbers: a model of no more is measured whole
_WORDS = 64  # the vocabulary of what is measured: the head is measured by itself
_SHARE = 0.7  # of the free memory
_STD = 0.02


@dataclass(frozen=True)
class LayerBench:
    """Where and how long: `flops` (a second) and `free` bytes decide how much of a model is measured at once; each
    figure is repeated for `seconds`."""

    device: torch.device
    dtype: torch.dtype
    free: int
    flops: float
    seconds: float

    def time(self, do: Callable[[], object], warm: Callable[[], object] | None = None) -> float:
        """The seconds of `do`, after `warm` (else `do`) once: the median, or, of fewer than five, the least, because
        other programs only add to it."""
        (warm or do)()
        self.wait()
        taken: list[float] = []
        end = time.perf_counter() + self.seconds
        while len(taken) < 2 or (time.perf_counter() + taken[-1] < end and len(taken) < 200):
            begun = time.perf_counter()
            do()
            self.wait()
            taken.append(time.perf_counter() - begun)
        return statistics.median(taken) if len(taken) >= 5 else min(taken)

    def wait(self) -> None:
        """Until the GPU has done all that it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True)
class LayerPart:
    """What of a model is measured: so many `layers` of `shape`; `factor` times their seconds are those of as many
    layers of the model."""

    shape: ModelShape
    factor: float


def choose_part(shape: ModelShape, tokens: int, bench: LayerBench, seconds: float) -> LayerPart | None:
    """The largest part that the free memory holds, and that takes about `seconds` at most; None where none does.

    Where one layer is too much, it is one of half the width, or a quarter: its time is multiplied by the ratio of the
    numbers in it.
    """
    whole = shape.linear_parameters // shape.layers
    wanted = [shape.layers] if shape.linear_parameters <= _SMALL else [4, 2, 1] if bench.device.type == "cuda" else [1]
    for part in [_narrow(shape, layers, 1) for layers in wanted] + [_narrow(shape, 1, less) for less in (2, 4, 8)]:
        work = 24 * part.linear_parameters * tokens / bench.flops
        if _memory(part, tokens, bench) <= _SHARE * bench.free and work <= seconds:
            return LayerPart(part, whole * part.layers / part.linear_parameters)
    return None


def _narrow(shape: ModelShape, layers: int, less: int) -> ModelShape:
    """So many layers, of a part of the width."""
    heads = max(1, shape.heads // less)
    return dataclasses.replace(
        shape,
        layers=layers,
        hidden=shape.hidden // less,
        ffn=shape.ffn // less,
        heads=heads,
        groups=min(heads, max(1, shape.groups // less)),
        vocab=_WORDS,
    )


def _memory(part: ModelShape, tokens: int, bench: LayerBench) -> int:
    settings = Settings(method="lora", gradient_checkpointing="off")
    on = Computing(bench.device.type, str(bench.dtype).removeprefix("torch."))
    needed = need(part, settings, WorstBatch(tokens, 1), on)
    return needed.total - needed.fixed  # this process has its libraries loaded


def random_model(shape: ModelShape, bench: LayerBench) -> GlmForCausalLM:
    """A model of ordinary random numbers: such that do not grow, vanish or become denormal on their way through it."""
    config = {
        "model_type": "glm4" if shape.norms > 2 else "glm", "vocab_size": shape.vocab, "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn, "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.groups, "head_dim": shape.head_dim, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 8192, "attention_bias": shape.biased, "partial_rotary_factor": shape.turned,
        "tie_word_embeddings": shape.tied,
    }  # fmt: skip
    with torch.device("meta"):
        model = native_model(native_config(config, "")).to(bench.dtype)
    model = model.to_empty(device=bench.device)
    tie_head(model)
    set_angles(model, bench.device)
    with torch.no_grad():
        for name, each in model.named_parameters():
            if each.dim() == 1:
                each.fill_(1.0 if "norm" in name else 0.0)
            else:
                each.normal_(std=_STD)
    return model.requires_grad_(False).eval()


def training_seconds(model: GlmForCausalLM, method: str, lengths: Sequence[int], bench: LayerBench) -> list[float]:
    """Seconds of one forward and backward pass over all layers of `model`, as a run of `method` makes it, for
    conversations of each of the lengths.

    The input asks for its gradient, too, as that of every layer but the first does in a run. `model` is left with
    what the method put on it, but for a prefix.
    """
    METHODS[method].attach(model, Settings(method=method), None)
    model.train()

    came: list[torch.Tensor | None] = []

    def step(length: int) -> None:
        given = _input(model, length, bench).requires_grad_()
        with _autocast(bench):
            hidden = model.model(inputs_embeds=given, use_cache=False).last_hidden_state
        hidden.backward(torch.randn_like(hidden))
        for each in model.parameters():
            each.grad = None
        came[:] = [hidden, given.grad]

    taken = []
    for tokens in lengths:
        short = tokens if bench.device.type == "cuda" else min(64, tokens)
        taken.append(bench.time(partial(step, tokens), partial(step, short)))
        _check(*came)
    if method == "ptuning_v2":
        attach_prefix(model, None)
    model.eval()
    return taken


def prompt_seconds(model: GlmForCausalLM, tokens: int, bench: LayerBench) -> float:
    """Seconds in which all layers of `model` read a prompt."""
    with torch.inference_mode():
        given, short = _input(model, tokens, bench), _input(model, min(64, tokens), bench)
        came: list[torch.Tensor] = []

        def read(what: torch.Tensor) -> None:
            came[:] = [model.model(inputs_embeds=what, use_cache=False).last_hidden_state]

        taken = bench.time(lambda: read(given), None if bench.device.type == "cuda" else lambda: read(short))
        _check(*came)
        return taken


def token_seconds(model: GlmForCausalLM, bench: LayerBench) -> float:
    """Seconds of all layers of `model` for one more token after `CONTEXT` others."""
    with torch.inference_mode():
        reader, kept = DecodeForward(model), GrowingCache(model.config)
        ids = torch.arange(CONTEXT, device=bench.device)[None] % model.config.vocab_size
        reader.begin()
        _check(reader.read(ids, kept))
        answer: list[torch.Tensor] = []

        def decode() -> None:
            answer[:] = [reader.read(ids[:, :1], kept)]
            kept.cut(CONTEXT)

        taken = bench.time(decode)
        _check(*answer)
        return taken


def small_token_seconds(part: LayerPart, bits: int, bench: LayerBench) -> float | None:
    """Seconds of one layer of the model for one more token, with weights of 8 or 4 bits; None where this machine has
    nothing that computes with them."""
    shape, factor = part.shape, part.factor / part.shape.layers
    if bench.device.type != "cuda" and shape.linear_parameters > _SMALL:
        # Making a whole layer small takes a processor seconds, and the products are bound by arithmetic there.
        shape = _narrow(shape, 1, 2)
        factor *= part.shape.linear_parameters / shape.linear_parameters
    try:
        model = random_model(shape, bench)
        with _quiet():
            quantize(model, bits, bench.device, bench.dtype)
            return factor * token_seconds(model, bench)
    except (RuntimeError, NotImplementedError, AttributeError):
        return None


def head_seconds(shape: ModelShape, rows: int, bench: LayerBench) -> float:
    """Seconds of the head and the loss, forward and backward, over `rows` scored positions."""
    size, parts = bench.dtype.itemsize, 1
    while parts < 64 and (size * shape.hidden + 16 * rows) * shape.vocab // parts > _SHARE * bench.free:
        parts *= 2
    words = max(1, shape.vocab // parts)
    with torch.device(bench.device):
        head = LMHead(shape.hidden, words, bias=False, dtype=bench.dtype).requires_grad_(False)
        wanted, weights = torch.randint(words, (rows,)), [1 / rows]
    nn.init.normal_(head.weight, std=_STD)

    came: list[torch.Tensor | None] = []

    def step() -> None:
        given = torch.randn(rows, shape.hidden, device=bench.device, dtype=bench.dtype, requires_grad=True)
        head(given, wanted, weights, [rows]).backward()
        came[:] = [given.grad]

    taken = bench.time(step) * parts
    _check(*came)
    return taken


def _autocast(bench: LayerBench) -> AbstractContextManager[object]:
    """As the trainer computes: only float16 has autocast."""
    return torch.autocast(bench.device.type, torch.float16) if bench.dtype == torch.float16 else nullcontext()


def _input(model: GlmForCausalLM, tokens: int, bench: LayerBench) -> torch.Tensor:
    return torch.randn(1, tokens, model.config.hidden_size, device=bench.device, dtype=bench.dtype)  # (1, T, H)


def _check(*tensors: torch.Tensor | None) -> None:
    """Raise StudioError for numbers that no healthy training has: arithmetic with them has another speed."""
    for each in tensors:
        if each is None or not torch.isfinite(each).all() or not each.float().std() > 1e-20:
            raise StudioError("bench.unsound")


@contextmanager
def _quiet() -> Iterator[None]:
    """Libraries that miss what is optional say so once and again."""
    import logging
    import warnings

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
