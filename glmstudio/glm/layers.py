"""The parts of a block that are no matrix products, each one step with a backward pass of its own.

Written out in PyTorch's small operations they read and write every number many times, and keep several copies of it
for the backward pass. The numbers are those of transformers' modules, whose parameters these classes take over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import GlmForCausalLM
from transformers.models.glm.modeling_glm import GlmAttention, GlmMLP, GlmRMSNorm, GlmRotaryEmbedding
from transformers.models.glm4.modeling_glm4 import Glm4Attention, Glm4MLP, Glm4RMSNorm, Glm4RotaryEmbedding

from glmstudio.glm.attention import attention
from glmstudio.glm.lm_head import LMHead


def use_own_layers(model: GlmForCausalLM) -> None:
    """Give the model's modules the forward passes of this file; their parameters stay what and where they are."""
    for module in model.modules():
        own = _OWN.get(type(module))
        if own is not None:
            module.__class__ = own
    model.lm_head.__class__ = LMHead


class Norm(GlmRMSNorm):
    """RMSNorm; keeps its input as it is, and one number for each token."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(…, H) to (…, H)."""
        if not torch.is_grad_enabled():
            return nn.functional.rms_norm(hidden_states, self.weight.shape, self.weight, self.variance_epsilon)
        result: torch.Tensor = _Norm.apply(hidden_states, self.weight, self.variance_epsilon)
        return result


class SwiGLU(GlmMLP):
    """The feed-forward part; keeps the two halves of the wide layer and makes the rest again when it is needed."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(…, H) to (…, H)."""
        both = self.gate_up_proj(hidden_states)
        inner = _SwiGLU.apply(both) if torch.is_grad_enabled() else swiglu(both)
        result: torch.Tensor = self.down_proj(inner)
        return result


class Attention(GlmAttention):
    """Attention with `glmstudio.glm.attention`, and with angles that are numbers of their own."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, None]:
        """(B, T, H) to (B, T, H), with what `Angles` gives; `cache` (`past_key_values` in transformers before 5.23) as
        in transformers."""
        cache = kwargs.pop("cache", None)
        older = kwargs.pop("past_key_values", None)
        cache = older if cache is None else cache
        rotated = _Rotate.apply if torch.is_grad_enabled() else _turned
        query = self._heads(rotated(self.q_proj(hidden_states), position_embeddings, self.head_dim))
        key = self._heads(rotated(self.k_proj(hidden_states), position_embeddings, self.head_dim))
        value = self._heads(self.v_proj(hidden_states))
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)
        mixed, _ = attention(self, query, key, value, attention_mask, scaling=self.scaling, **kwargs)
        return self.o_proj(mixed.flatten(2)), None

    def _heads(self, states: torch.Tensor) -> torch.Tensor:
        """(B, T, heads * D) to (B, heads, T, D)."""
        return states.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


class Angles(GlmRotaryEmbedding):
    """The rotary angles of all positions, once for all layers."""

    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        """Complex numbers (B or 1, T, 1, pairs) for positions (B or 1, T)."""
        angles = position_ids[..., None, None].float() * self.inv_freq.float()
        return torch.polar(torch.full_like(angles, self.attention_scaling), angles)


_OWN: dict[type[nn.Module], type[nn.Module]] = {  # those of "glm4" are the same but for their names
    GlmRMSNorm: Norm, GlmMLP: SwiGLU, GlmAttention: Attention, GlmRotaryEmbedding: Angles,
    Glm4RMSNorm: Norm, Glm4MLP: SwiGLU, Glm4Attention: Attention, Glm4RotaryEmbedding: Angles,
}  # fmt: skip


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        result, scale = _KERNELS["norm"](given, weight, epsilon)
        ctx.save_for_backward(given, weight, scale)
        return result

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> Any:
        kept, weight, scale = ctx.saved_tensors
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = (given[0].float() * kept.float() * scale).flatten(0, -2).sum(0).to(weight.dtype)
        return _KERNELS["norm_back"](given[0], kept, weight, scale), of_weight, None


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, both: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(both)
        result: torch.Tensor = _KERNELS["swiglu"](both)
        return result

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> Any:
        return _KERNELS["swiglu_back"](given[0], *ctx.saved_tensors)


def _norm(given: torch.Tensor, weight: torch.Tensor, epsilon: float) -> tuple[torch.Tensor, torch.Tensor]:
    wide = given.float()
    scale = (wide.square().mean(-1, keepdim=True) + epsilon).rsqrt()
    return (wide * scale).to(given.dtype) * weight, scale


def _norm_back(gradient: torch.Tensor, given: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    wide, scaled = given.float(), (gradient * weight).float()
    along = (scaled * wide).sum(-1, keepdim=True) * scale.pow(3) / -wide.shape[-1]
    return scaled.mul_(scale).addcmul_(wide, along).to(given.dtype)


def swiglu(both: torch.Tensor) -> torch.Tensor:
    """(…, F) for the gate and what goes through it (…, 2 F)."""
    gate, up = both.chunk(2, dim=-1)
    return nn.functional.silu(gate).mul_(up)


def _swiglu_back(gradient: torch.Tensor, both: torch.Tensor) -> torch.Tensor:
    gate, up = both.chunk(2, dim=-1)
    result = torch.empty_like(both)
    to_gate, to_up = result.chunk(2, dim=-1)
    to_up.copy_(nn.functional.silu(gate).mul_(gradient))
    to_gate.copy_(torch.ops.aten.silu_backward(gradient * up, gate))
    return result


_KERNELS: dict[str, Callable[..., Any]] = {
    "norm": _norm, "norm_back": _norm_back, "swiglu": swiglu, "swiglu_back": _swiglu_back,
}  # fmt: skip


def compile_layers(device: torch.device, dtype: torch.dtype) -> None:
    """Have PyTorch's compiler make one kernel of each of these functions, for this process. Raises what it raises
    where it finds no compiler for its own code, and leaves them as they were."""
    made = {name: torch.compile(function, dynamic=True) for name, function in _KERNELS.items()}
    given, weight = torch.ones(2, 8, device=device, dtype=dtype), torch.ones(8, device=device, dtype=dtype)
    _, scale = made["norm"](given, weight, 1e-5)
    made["norm_back"](given, given, weight, scale)
    made["swiglu_back"](made["swiglu"](given), given)
    _KERNELS.update(made)


class _Rotate(torch.autograd.Function):
    """Turns the first numbers of every head, in neighbouring pairs; the gradient is turned back."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, angles: torch.Tensor, width: int) -> torch.Tensor:
        ctx.save_for_backward(angles)
        ctx.width = width
        return _turned(states, angles, width)

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> Any:
        return _turned(given[0], ctx.saved_tensors[0].conj(), ctx.width), None, None


def _turned(states: torch.Tensor, angles: torch.Tensor, width: int) -> torch.Tensor:
    """(B, T, heads * width), a copy."""
    result = states.clone()
    turn(result.unflatten(-1, (-1, width)), angles)
    return result


def turn(states: torch.Tensor, angles: torch.Tensor) -> None:
    """Turn (B, T, heads, D) where they lie, by the angles of `Angles`."""
    pairs = states[..., : 2 * angles.shape[-1]].unflatten(-1, (-1, 2))
    if states.dtype == torch.float32:
        torch.view_as_complex(pairs).mul_(angles)
    else:
        pairs.copy_(torch.view_as_real(torch.view_as_complex(pairs.float()).mul_(angles)))
