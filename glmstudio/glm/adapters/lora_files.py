"""LoRA adapters on disk: PEFT's standard form, ours and those that other trainers save in their own words.

What stands beside which layer is told by the matrices in the file; `adapter_config.json` has to agree.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import GlmConfig, GlmForCausalLM

from glmstudio.errors import StudioError
from glmstudio.files import read_json, write_json
from glmstudio.glm.adapters.adapter_words import in_adapter_words
from glmstudio.glm.adapters.lora import ATTENTION, EVERY, NAME, Lora, attach_lora, numbers
from glmstudio.glm.weights.base_weights import adapter_tensors
from glmstudio.glm.weights.layout import lora_tensors

FORMAT = "glmstudio-lora-1"
_PUBLISHED = {
    "query_key_value": ATTENTION,
    "dense": ("o_proj",),
    "dense_h_to_4h": ("gate_up_proj",),
    "dense_4h_to_h": ("down_proj",),
}
_UNKNOWN = (
    "use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "fan_in_fan_out", "lora_bias", "use_qalora",
    "alora_invocation_tokens", "layer_replication", "target_parameters", "trainable_token_indices",
)  # fmt: skip
_MOVES_THE_BASE = (
    "pissa",
    "olora",
    "corda",
    "loftq",
)  # starts that take away from the base what the adapter begins with
_MOST_TARGETS, _LONGEST_TARGET = 1000, 200
_KEY = re.compile(r"(?:module\.|base_model\.model\.)*(.+\.lora_[AB])(?:\.[\w-]+)?\.weight")
_MODULE = re.compile(r"model\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)")
_LAYER = re.compile(r"layers\.(\d+)\.")
_MORE = ("modules_to_save", "lora_magnitude_vector", "lora_embedding", "lora_ga")


def save_lora(model: GlmForCausalLM, folder: Path, *, base: str) -> None:
    """Write the adapter in PEFT's form, and which model (`base`) it belongs to."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"base_model.model.{name}": tensor.cpu().contiguous() for name, tensor in numbers(model).items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    lora: Lora = model.lora
    about = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": list(lora.modules or lora.targets),
        "bias": "none",
        "fan_in_fan_out": False,
    }
    write_json(folder / "adapter_config.json", about)
    write_json(folder / "adapter.json", {"format": FORMAT, "base": base, "rank": lora.rank})


def load_lora(folder: Path, model: GlmForCausalLM, *, dropout: float = 0.0, name: str = NAME) -> Lora:
    """Attach the adapter in `folder`, ours or an official one; `dropout` is for going on with its training.

    `name` tells several of them apart. Raises StudioError where it is damaged or foreign.
    """
    about = _described(read_json(folder / "adapter_config.json"), folder)
    given = _read(folder, model.config)
    lora = replace(about.fitted(given, model.config, folder), dropout=dropout)
    attach_lora(model, lora, name)
    _fill(model, given, folder, name)
    return lora


def read_lora(folder: Path, config: GlmConfig) -> tuple[Lora, dict[str, torch.Tensor]]:
    """What the adapter in `folder` is, and its matrices, without a model to put them on: `<layer>.lora_A.weight`.

    Raises StudioError where it is damaged or foreign.
    """
    about = _described(read_json(folder / "adapter_config.json"), folder)
    given = _read(folder, config)
    lora = about.fitted(given, config, folder)
    for name in {name.partition(".lora_")[0] for name in given}:
        down, up = (given.get(f"{name}.lora_{which}.weight") for which in "AB")
        if down is None or up is None:
            raise StudioError("adapters.not_as_described", folder=str(folder), name=name)
        if down.dim() != 2 or up.dim() != 2 or {down.shape[0], up.shape[1]} != {lora.rank}:
            raise StudioError("adapters.other_model", folder=str(folder))
    if not all(torch.isfinite(tensor).all() for tensor in given.values()):
        raise StudioError("adapters.not_finite", folder=str(folder))
    return lora, given


def restore_lora(model: GlmForCausalLM, folder: Path, name: str = NAME) -> None:
    """Put the numbers of `folder` into the adapter that `model` has. Raises StudioError."""
    _fill(model, _read(folder, model.config), folder, name)


def _fill(model: GlmForCausalLM, given: dict[str, torch.Tensor], folder: Path, name: str) -> None:
    wanted = numbers(model, name)
    if off := sorted(given.keys() ^ wanted.keys()):
        raise StudioError("adapters.not_as_described", folder=str(folder), name=off[0])
    if any(given[each].shape != wanted[each].shape for each in wanted):
        raise StudioError("adapters.other_model", folder=str(folder))
    if not all(torch.isfinite(tensor).all() for tensor in given.values()):
        raise StudioError("adapters.not_finite", folder=str(folder))
    with torch.no_grad():
        for each, tensor in wanted.items():
            tensor.copy_(given[each])


def _read(folder: Path, config: GlmConfig) -> dict[str, torch.Tensor]:
    """The matrices of an adapter's file by the names that they have in the native model. Raises StudioError."""
    file = folder / "adapter_model.safetensors"
    file = file if file.is_file() else file.with_suffix(".bin")
    with in_adapter_words():
        found = adapter_tensors(file)
    for name in found:
        if any(part in name for part in _MORE):
            raise _other_kind(folder, f"LORA, {next(part for part in _MORE if part in name)}")
    named = {f"{match[1]}.weight": tensor for name, tensor in found.items() if (match := _KEY.fullmatch(name))}
    if not found or any(not tensor.numel() for tensor in named.values()):
        raise StudioError("adapters.empty", file=str(file))
    if not named:
        raise StudioError("adapters.none", folder=str(folder))
    if len(named) < sum(_KEY.fullmatch(name) is not None for name in found):
        raise StudioError("adapters.several", file=str(file))
    result: dict[str, torch.Tensor] = {}
    for name, tensor in named.items():
        whole = f"transformer.{name}" if name.startswith("encoder.layers.") else name
        result |= lora_tensors(whole, tensor.float(), config)
    return result


@dataclass(frozen=True)
class _Description:
    """What an `adapter_config.json` says: `named` are the bare layers or, in one layer of the model, `exact` ones;
    None where it says so by a pattern. `layers` are those of the model that it is limited to; None for all, or where
    a pattern may limit them."""

    lora: Lora
    named: tuple[str, ...] | None
    exact: frozenset[tuple[int, str]]
    layers: frozenset[int] | None
    free: bool

    def fitted(self, given: Iterable[str], config: GlmConfig, folder: Path) -> Lora:
        """The adapter with exactly the layers whose matrices are there. Raises StudioError where the file has others
        than the description."""
        modules = dict.fromkeys(name.partition(".lora_")[0] for name in given)
        places = {}
        for module in modules:
            match = _MODULE.fullmatch(module)
            if match is None or match[2] not in EVERY:
                raise _other_kind(folder, f"LORA, {module[-60:]}")
            places[int(match[1]), match[2]] = module
        held = {layer for layer, _ in places}
        smaller = self.layers is None and not self.exact and not self.free and held == set(range(len(held)))
        if max(held) >= config.num_hidden_layers or (smaller and len(held) < config.num_hidden_layers):
            raise StudioError("adapters.other_model", folder=str(folder))
        named = self.named if self.named is not None else tuple({part for _, part in places})
        layers = held if self.free else (self.layers or range(config.num_hidden_layers))
        wanted = {(layer, part) for layer in layers for part in named} | self.exact
        if off := sorted(wanted ^ places.keys()):
            raise StudioError("adapters.not_as_described", folder=str(folder), name=f"layers.{off[0][0]}.{off[0][1]}")
        whole = set(wanted) == {(layer, part) for layer in range(config.num_hidden_layers) for part in named}
        kinds = tuple(part for part in EVERY if part in {part for _, part in places})
        return replace(self.lora, targets=kinds, modules=() if whole else tuple(modules))


def _described(about: Any, folder: Path) -> _Description:
    """What an `adapter_config.json` says. It is input from outside: only plain numbers and known names count."""
    if not isinstance(about, dict) or about.get("peft_type") != "LORA":
        raise _other_kind(folder, str(about.get("peft_type")) if isinstance(about, dict) else "?")
    for option in _UNKNOWN:
        if about.get(option):
            raise _other_kind(folder, f"LORA, {option}")
    if str(start := about.get("init_lora_weights")).lower().startswith(_MOVES_THE_BASE):
        raise _other_kind(folder, f"LORA, {str(start)[:40]}")
    try:
        rank, alpha = int(about["r"]), float(about["lora_alpha"])
        dropout = float(about.get("lora_dropout") or 0.0)
        scale = rank**0.5 if about.get("use_rslora") else 1.0
        if not (0 < rank <= 4096 and math.isfinite(alpha) and 0 <= dropout < 1):
            raise ValueError(rank)
        named, exact = _targets(about.get("target_modules"))
        layers = _layers(about.get("layers_to_transform"))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _other_kind(folder, "LORA") from error
    patterns = [about.get("exclude_modules"), about.get("target_modules") if named is None else None]
    if patterns[0]:
        named, exact = None, frozenset()
    free = layers is None and any(map(str.isdigit, "".join(str(each or "") for each in patterns)))
    return _Description(Lora(rank, alpha * scale, dropout, named or EVERY), named, exact, layers, free)


def _targets(said: Any) -> tuple[tuple[str, ...] | None, frozenset[tuple[int, str]]]:
    """The layers that are named for the whole model, and those for one layer of it; None for a pattern, which is never
    run: it can be made to take for ever. Raises ValueError."""
    if said == "all-linear":
        return EVERY, frozenset()
    if isinstance(said, str) and not re.fullmatch(r"[\w.]+", said[-_LONGEST_TARGET:]):
        return None, frozenset()
    listed = [said] if isinstance(said, str) else said
    if not isinstance(listed, list) or not 0 < len(listed) <= _MOST_TARGETS:
        raise ValueError(said)
    named: list[str] = []
    exact: set[tuple[int, str]] = set()
    for each in listed:
        text = str(each)[-_LONGEST_TARGET:]
        bare = text.rpartition(".")[2]
        parts = _PUBLISHED.get(bare, (bare,))
        if not set(parts) <= set(EVERY):
            raise ValueError(bare)
        if place := _LAYER.search(text):
            exact |= {(int(place[1]), part) for part in parts}
        else:
            named += parts
    return tuple(dict.fromkeys(named)), frozenset(exact)


def _layers(said: Any) -> frozenset[int] | None:
    listed = [said] if isinstance(said, int) else said
    if not listed and listed != [0]:
        return None
    if not isinstance(listed, list) or not all(isinstance(each, int) and 0 <= each < 1024 for each in listed):
        raise ValueError(said)
    return frozenset(listed)


def _other_kind(folder: Path, kind: str) -> StudioError:
    return StudioError("adapters.kind", folder=str(folder), kind=kind[:100])
