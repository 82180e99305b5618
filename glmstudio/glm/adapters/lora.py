"""LoRA: small matrices beside the linear layers that a setting names, in PEFT's standard adapter format.

The official scripts tuned one matrix, `query_key_value`; the native model has three. An official adapter loads all the
same: its A belongs to each of the three, and its B is split by rows, so the product is the same number for number.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import GlmConfig, GlmForCausalLM

from glmstudio.errors import StudioError
from glmstudio.files import read_json, write_json
from glmstudio.glm.weights.base_weights import adapter_tensors
from glmstudio.glm.weights.layout import lora_tensors

FORMAT = "glmstudio-lora-1"
ATTENTION = ("q_proj", "k_proj", "v_proj")
_IN_MLP = ("gate_up_proj", "down_proj")
EVERY = (*ATTENTION, "o_proj", *_IN_MLP)
_PUBLISHED = {
    "query_key_value": ATTENTION,
    "dense": ("o_proj",),
    "dense_h_to_4h": ("gate_up_proj",),
    "dense_4h_to_h": ("down_proj",),
}
_NAME = "default"
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


@dataclass(frozen=True)
class Lora:
    """What an adapter is: its rank, its factor (`alpha / rank`), its dropout, and the layers that it stands beside."""

    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...]


def attach_lora(model: GlmForCausalLM, lora: Lora, name: str = _NAME) -> None:
    """Put fresh matrices beside the layers: A random, B zero, so that the model is as it was. Only they learn."""
    # It takes a second and brings much with it, which a server without such an adapter does not need.
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=list(lora.targets), bias="none"
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several adapters are meant
        inject_adapter_in_model(config, model, adapter_name=name)
    model.lora = lora
    for parameter, each in model.named_parameters():
        each.requires_grad_("lora_" in parameter)
        if "lora_" in parameter:
            each.data = each.data.float()  # 16-bit numbers would lose the small steps of the optimizer


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
        "target_modules": list(lora.targets),
        "bias": "none",
        "fan_in_fan_out": False,
    }
    write_json(folder / "adapter_config.json", about)
    write_json(folder / "adapter.json", {"format": FORMAT, "base": base, "rank": lora.rank})


def load_lora(folder: Path, model: GlmForCausalLM, *, dropout: float = 0.0, name: str = _NAME) -> Lora:
    """Attach the adapter in `folder`, ours or an official one; `dropout` is for going on with its training.

    `name` tells several of them apart. Raises StudioError where it is damaged or foreign.
    """
    about: Any = read_json(folder / "adapter_config.json")
    lora = replace(_described(about, folder), dropout=dropout)
    attach_lora(model, lora, name)
    restore_lora(model, folder, name)
    return lora


def use_lora(model: GlmForCausalLM, name: str | None) -> None:
    """Answer with the adapter of that name alone, or with none; the layers that it stands beside are not touched."""
    for _, layer in _layers(model):
        if name is not None:
            layer.set_adapter(name)
        layer.enable_adapters(name is not None)


def drop_lora(model: GlmForCausalLM, name: str) -> None:
    """Take an adapter away, as if it had never been attached."""
    for _, layer in _layers(model):
        if name in layer.lora_A:
            layer.delete_adapter(name)
    getattr(model, "peft_config", {}).pop(name, None)


def restore_lora(model: GlmForCausalLM, folder: Path, name: str = _NAME) -> None:
    """Put the numbers of `folder` into the adapter that `model` has. Raises StudioError."""
    given = _given(folder, model.config)
    wanted = numbers(model, name)
    if given.keys() != wanted.keys() or any(given[each].shape != wanted[each].shape for each in wanted):
        raise StudioError("adapters.other_model", folder=str(folder))
    if not all(torch.isfinite(tensor).all() for tensor in given.values()):
        raise StudioError("adapters.not_finite", folder=str(folder))
    with torch.no_grad():
        for each, tensor in wanted.items():
            tensor.copy_(given[each])


def read_lora(folder: Path, config: GlmConfig) -> tuple[Lora, dict[str, torch.Tensor]]:
    """What the adapter in `folder` is, and its matrices, without a model to put them on: `<layer>.lora_A.weight`.

    Raises StudioError where it is damaged or foreign.
    """
    lora, given = _described(read_json(folder / "adapter_config.json"), folder), _given(folder, config)
    layers = [
        f"model.layers.{number}.{'mlp' if target in _IN_MLP else 'self_attn'}.{target}"
        for number in range(config.num_hidden_layers)
        for target in lora.targets
    ]
    ranks = {f"{layer}.lora_{which}.weight": 0 if which == "A" else 1 for layer in layers for which in "AB"}
    if given.keys() != ranks.keys() or any(given[each].dim() != 2 for each in ranks):
        raise StudioError("adapters.other_model", folder=str(folder))
    if any(given[each].shape[at] != lora.rank for each, at in ranks.items()):
        raise StudioError("adapters.other_model", folder=str(folder))
    if not all(torch.isfinite(tensor).all() for tensor in given.values()):
        raise StudioError("adapters.not_finite", folder=str(folder))
    return lora, given


def merge_lora(model: GlmForCausalLM) -> None:
    """Add the adapter to the layers that it stands beside, and take it away: what is left is a plain model."""
    with torch.no_grad():
        for name, layer in [*_layers(model)]:
            plain = layer.get_base_layer()
            merged = plain.weight.float() + layer.get_delta_weight(_NAME).float()
            # A new tensor: the old one may be a file that is mapped into memory.
            plain.weight = nn.Parameter(merged.to(plain.weight.dtype), requires_grad=False)
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, plain)
    model.lora = None


def numbers(model: GlmForCausalLM, name: str = _NAME) -> dict[str, torch.Tensor]:
    """The adapter's tensors under the names that PEFT writes, without copying them."""
    mark = f".{name}."
    return {
        parameter.replace(mark, "."): each.detach()
        for parameter, each in model.named_parameters()
        if ".lora_" in parameter and mark in parameter
    }


def _layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The layers with adapters beside them. Where PEFT was never loaded there is none."""
    peft: Any = sys.modules.get("peft.tuners.lora")
    for name, layer in model.named_modules() if peft is not None else ():
        if isinstance(layer, peft.LoraLayer):
            yield name, layer


_MOST_TARGETS, _LONGEST_TARGET = 1000, 200


def _described(about: Any, folder: Path) -> Lora:
    """What an `adapter_config.json` says. It is input from outside: only plain numbers and known names count."""
    plain = isinstance(about, dict) and about.get("peft_type") == "LORA" and not any(map(about.get, _UNKNOWN))
    if not plain or str(about.get("init_lora_weights")).lower().startswith(_MOVES_THE_BASE):
        kind = str(about.get("peft_type")) if isinstance(about, dict) else "?"
        raise StudioError("adapters.kind", folder=str(folder), kind=kind)
    named = about.get("target_modules")
    named = [named] if isinstance(named, str) else named
    if not isinstance(named, list) or not 0 < len(named) <= _MOST_TARGETS:
        raise StudioError("adapters.kind", folder=str(folder), kind="LORA")
    targets: list[str] = []
    for each in named:
        bare = str(each)[-_LONGEST_TARGET:].rpartition(".")[2]
        targets += _PUBLISHED.get(bare, (bare,))
    try:
        rank, alpha = int(about["r"]), float(about["lora_alpha"])
        dropout = float(about.get("lora_dropout") or 0.0)
        scale = rank**0.5 if about.get("use_rslora") else 1.0
        known = 0 < rank <= 4096 and math.isfinite(alpha) and 0 <= dropout < 1 and set(targets) <= set(EVERY)
        if not known:
            raise ValueError(rank)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise StudioError("adapters.kind", folder=str(folder), kind="LORA") from error
    return Lora(rank, alpha * scale, dropout, tuple(dict.fromkeys(targets)))


def _given(folder: Path, config: GlmConfig) -> dict[str, torch.Tensor]:
    """The numbers in `folder`, under the native model's names."""
    file = folder / "adapter_model.safetensors"
    found = adapter_tensors(file if file.is_file() else folder / "adapter_model.bin")
    given = {name.removeprefix("base_model.model."): tensor.float() for name, tensor in found.items()}
    return _native(given, config)


def _native(given: dict[str, torch.Tensor], config: GlmConfig) -> dict[str, torch.Tensor]:
    """Names of the published model turned into the native one's; native names stay."""
    result: dict[str, torch.Tensor] = {}
    for name, tensor in given.items():
        result |= lora_tensors(name, tensor, config) if name.startswith("transformer.") else {name: tensor}
    return result
