"""Base weights in 8 or 4 bits, by bitsandbytes: for cards with little memory. What learns stays in 32 bits."""

from __future__ import annotations

import torch
from torch import nn
from transformers import GlmForCausalLM

from glmstudio.errors import StudioError


def quantise(model: GlmForCausalLM, bits: int, device: torch.device) -> None:
    """Replace the linear layers of every block, and move the model to `device`, layer by layer.

    The embedding and the head stay as they are: they are few, and errors there are heard in every token. Raises
    StudioError where bitsandbytes is not installed or does not serve this machine.
    """
    try:
        import bitsandbytes
    except (ImportError, RuntimeError, OSError) as error:
        raise StudioError("models.no_bitsandbytes", reason=str(error)) from error
    layers = bitsandbytes.nn
    for block in model.model.layers:
        for name, linear in [*block.named_modules()]:
            if isinstance(linear, nn.Linear):
                parent, _, own = name.rpartition(".")
                small = _eight(layers, linear) if bits == 8 else _four(layers, linear)
                setattr(block.get_submodule(parent), own, small.to(device))
        block.to(device)
    model.to(device)
    model.is_loaded_in_8bit, model.is_loaded_in_4bit = bits == 8, bits == 4  # PEFT asks for it


def _eight(layers: nn.Module, linear: nn.Linear) -> nn.Module:
    small = layers.Linear8bitLt(
        linear.in_features, linear.out_features, linear.bias is not None, has_fp16_weights=False, threshold=6.0
    )
    small.weight = layers.Int8Params(linear.weight.data, requires_grad=False, has_fp16_weights=False)
    small.bias = linear.bias
    return small


def _four(layers: nn.Module, linear: nn.Linear) -> nn.Module:
    small = layers.Linear4bit(
        linear.in_features,
        linear.out_features,
        linear.bias is not None,
        compute_dtype=linear.weight.dtype,
        quant_type="nf4",
    )
    small.weight = layers.Params4bit(linear.weight.data, requires_grad=False, quant_type="nf4")
    small.bias = linear.bias
    return small
