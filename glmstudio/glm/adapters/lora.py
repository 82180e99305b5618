"""LoRA: small matrices beside the linear layers that a setting names.

The official scripts tuned one matrix, `query_key_value`; the native model has three. An official adapter loads all the
same: its A belongs to each of the three, and its B is split by rows, so the product is the same number for number.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import GlmForCausalLM

ATTENTION = ("q_proj", "k_proj", "v_proj")
EVERY = (*ATTENTION, "o_proj", "gate_up_proj", "down_proj")
NAME = "default"


@dataclass(frozen=True)
class Lora:
    """What an adapter is: its rank, its factor (`alpha / rank`), its dropout, and the layers that it stands beside:
    the `targets` of every block, or only `modules`, by their whole names."""

    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...]
    modules: tuple[str, ...] = ()


def attach_lora(model: GlmForCausalLM, lora: Lora, name: str = NAME) -> None:
    """Put fresh matrices beside the layers: A random, B zero, so that the model is as it was. Only they learn."""
    # It takes a second and brings much with it, which a server without such an adapter does not need.
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.modules or lora.targets),
        bias="none",
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several adapters are meant
        inject_adapter_in_model(config, model, adapter_name=name)
    model.lora = lora
    for parameter, each in model.named_parameters():
        each.requires_grad_("lora_" in parameter)
        if "lora_" in parameter:
            each.data = each.data.float()  # 16-bit numbers would lose the small steps of the optimizer


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


def merge_lora(model: GlmForCausalLM) -> None:
    """Add the adapter to the layers that it stands beside, and take it away: what is left is a plain model."""
    with torch.no_grad():
        for name, layer in [*_layers(model)]:
            plain = layer.get_base_layer()
            merged = plain.weight.float() + layer.get_delta_weight(NAME).float()
            # A new tensor: the old one may be a file that is mapped into memory.
            plain.weight = nn.Parameter(merged.to(plain.weight.dtype), requires_grad=False)
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, plain)
    model.lora = None


def numbers(model: GlmForCausalLM, name: str = NAME) -> dict[str, torch.Tensor]:
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
