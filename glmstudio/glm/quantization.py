"""Base weights in 8 or 4 bits, for GPUs with little memory. What learns stays in 32 bits.

They are only stored so: products are computed in the type of the activations, with weights that are made wide for a
moment. 8 bits: a factor for each row. 4 bits: for each 64 numbers of a row a factor and an offset, by which they lose
less than with the fixed steps of NF4 (9.0 % of their norm to 9.2 %, normally distributed); bitsandbytes' kernels for
NF4 are taken all the same where they load, because they do not make the weights wide.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import GlmForCausalLM

from glmstudio.glm.layers import Norm

GROUP = 64  # numbers of a row that share a factor, at 4 bits
_ROWS = {"cpu": 4}  # else 1: a product with more rows is faster with wide weights
_LINE = 32  # numbers that the kernel for 8 bits reads at once
_NEAR = 2e-2


def quantize(model: GlmForCausalLM, bits: int, device: torch.device, dtype: torch.dtype) -> None:
    """Replace the linear layers of every block, and move the model to `device`, layer by layer; what is not replaced
    gets the type `dtype`.

    The embedding and the head stay as they are: they are few, and errors there are heard in every token.
    """
    make = Linear8bit if bits == 8 else _library_four() or Linear4bit
    for block in model.model.layers:
        for name, linear in [*block.named_modules()]:
            if isinstance(linear, nn.Linear):
                parent, _, own = name.rpartition(".")
                setattr(block.get_submodule(parent), own, make(linear.to(device), dtype).to(device))
        for each in block.children():
            if isinstance(each, Norm):
                each.to(device, dtype)
    for module in (model.model.embed_tokens, model.model.norm, model.lm_head):
        module.to(device, dtype)
    model.to(device)
    model.is_loaded_in_4bit = bits == 4  # PEFT asks for it


class QuantizedLinear(nn.Linear):
    """A frozen linear layer whose `weight` holds small whole numbers; `wide` gives them as they were, nearly."""

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().to(dtype), requires_grad=False)

    def wide(self, dtype: torch.dtype) -> torch.Tensor:
        """(out, in)."""
        raise NotImplementedError

    def few(self, rows: torch.Tensor) -> torch.Tensor | None:
        """The product for a few rows (R, in), without wide weights; None where no kernel for it is known here."""
        return None

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """(…, in) to (…, out)."""
        result = None
        if given.numel() <= _ROWS.get(given.device.type, 1) * self.in_features and not given.requires_grad:
            result = self.few(given.reshape(-1, self.in_features))
        result = _Through.apply(given, self) if result is None else result.view(*given.shape[:-1], self.out_features)
        return result if self.bias is None else result + self.bias


class Linear8bit(QuantizedLinear):
    """8 bits and a factor for each row of the weight."""

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__(linear, dtype)
        weight = linear.weight.detach().float()
        # As it will be used: a row must not have another factor in a prompt than in an answer.
        scale = weight.abs().amax(dim=1).div_(127).clamp_min_(1e-7).to(dtype).float()
        small = (weight / scale[:, None]).round_().clamp_(-127, 127).to(torch.int8)
        self.weight = nn.Parameter(small, requires_grad=False)
        self.register_buffer("scale", scale, persistent=False)

    def wide(self, dtype: torch.dtype) -> torch.Tensor:
        """(out, in)."""
        return self.weight.to(dtype).mul_(self.scale[:, None].to(dtype))

    def few(self, rows: torch.Tensor) -> torch.Tensor | None:
        """As in `QuantizedLinear`."""
        if self.in_features % _LINE:  # the CPU's kernel would read beyond the end of a row
            return None
        kernel = _eight_kernel(rows.device, rows.dtype)
        return None if kernel is None else kernel(rows, self.weight, self.scale)


class Linear4bit(QuantizedLinear):
    """4 bits, two numbers in a byte, with a factor and an offset for each group of a row."""

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__(linear, dtype)
        grouped = functional.pad(linear.weight.detach().float(), (0, -linear.in_features % GROUP)).unflatten(
            1, (-1, GROUP)
        )
        least, most = grouped.amin(-1, keepdim=True), grouped.amax(-1, keepdim=True)
        least = least.to(dtype).float()
        step = ((most - least) / 15).clamp_min(1e-7).to(dtype).float()
        small = ((grouped - least) / step).round_().clamp_(0, 15).to(torch.uint8).flatten(1)
        self.weight = nn.Parameter(small[:, ::2] | (small[:, 1::2] << 4), requires_grad=False)
        self.register_buffer("step", step.to(dtype), persistent=False)
        self.register_buffer("least", least.to(dtype), persistent=False)

    def wide(self, dtype: torch.dtype) -> torch.Tensor:
        """(out, in)."""
        pairs = torch.stack([self.weight & 15, self.weight >> 4], dim=-1).to(dtype)
        grouped = pairs.view(self.out_features, -1, GROUP).mul_(self.step.to(dtype)).add_(self.least.to(dtype))
        return grouped.flatten(1)[:, : self.in_features]


class _Through(torch.autograd.Function):
    """The product with weights that are made wide in each direction, and never kept."""

    @staticmethod
    def forward(ctx: Any, given: torch.Tensor, layer: QuantizedLinear) -> torch.Tensor:
        ctx.layer = layer
        return functional.linear(given, layer.wide(given.dtype))

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> Any:
        return given[0] @ ctx.layer.wide(given[0].dtype), None


Kernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@lru_cache
def _eight_kernel(device: torch.device, dtype: torch.dtype) -> Kernel | None:
    """What multiplies a few rows (R, in) with an int8 weight and its factors without making it wide; tried once, and
    None where it fails or computes something else."""
    kernel = _on_cpu if device.type == "cpu" else torch.compile(_fused, dynamic=True)
    rows = torch.linspace(-1, 1, 128, device=device)[None].to(dtype)
    weight = torch.arange(-64, 64, device=device).to(torch.int8).repeat(32, 1)
    scale = torch.linspace(0.001, 0.002, 32, device=device)
    try:
        found = kernel(rows, weight, scale)
    except Exception:  # noqa: BLE001  a private operation, or a compiler that is not there: each fails in its own way
        return None
    wanted = rows.float() @ (weight.float() * scale[:, None]).T
    return kernel if torch.allclose(found.float(), wanted, rtol=_NEAR, atol=_NEAR) else None


def _on_cpu(rows: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Its kernel reads the weights once in bfloat16, and takes 15 times as long in float32."""
    one = torch.ones_like(scale, dtype=torch.bfloat16)
    return torch._weight_int8pack_mm(rows.to(one.dtype), weight, one).to(rows.dtype) * scale  # noqa: SLF001


def _fused(rows: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """One sum for each row of the weight, which PyTorch's compiler makes one kernel of: the weight is read as it is."""
    return ((rows.float()[:, None] * weight).sum(-1) * scale).to(rows.dtype)


def _library_four() -> Callable[[nn.Linear, torch.dtype], nn.Module] | None:
    """bitsandbytes' layer, where it loads."""
    try:
        layers = importlib.import_module("bitsandbytes").nn
    except (ImportError, RuntimeError, OSError, AttributeError):
        return None

    def made(linear: nn.Linear, dtype: torch.dtype) -> nn.Module:
        linear = linear.to(dtype)
        small: nn.Module = layers.Linear4bit(
            linear.in_features, linear.out_features, linear.bias is not None,
            compute_dtype=linear.weight.dtype, quant_type="nf4",
        )  # fmt: skip
        small.weight = layers.Params4bit(linear.weight.data, requires_grad=False, quant_type="nf4")
        small.bias = linear.bias
        return small

    return made
