"""P-Tuning v2: learned keys and values in front of every layer's own.

ChatGLM3 gives the prefix no rotary angle and counts the real tokens from 0. So the prefix is not put into the cache
(which would move the positions): an attention function adds it, layer by layer, and everything else of the model
stays as it is: padding, `generate`, gradient checkpointing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention.bias import causal_lower_right
from transformers import AttentionInterface, AttentionMaskInterface, GlmConfig, GlmForCausalLM
from transformers.integrations.sdpa_attention import repeat_kv
from transformers.masking_utils import sdpa_mask

ATTENTION = "glm_prefix"
PLAIN = "sdpa"
DROPOUT = 0.1


class Prefix(nn.Module):
    """`length` virtual tokens: a table `embedding` (P, 2 * layers * groups * head_dim), as in the official code.

    With `projection` the table goes through Linear, Tanh, Linear of that inner width. Call `initialise` or load the
    numbers before use.
    """

    def __init__(
        self, config: GlmConfig, length: int, *, projection: int | None = None, dropout: float = DROPOUT
    ) -> None:
        """`projection` is the hidden width of the projection, or None for none."""
        super().__init__()
        self.length = length
        self.shape = (2 * config.num_hidden_layers, config.num_key_value_heads, config.head_dim)
        width = self.shape[0] * self.shape[1] * self.shape[2]
        self.embedding = nn.Embedding(length, width)
        self.trans = (
            None
            if projection is None
            else nn.Sequential(nn.Linear(width, projection), nn.Tanh(), nn.Linear(projection, width))
        )
        self.dropout = nn.Dropout(dropout)
        self._kept: torch.Tensor | None = None

    def initialise(self, std: float = 1.0) -> None:
        """Normal numbers of width `std` in the table. The original asks for this, but newer transformers leave its
        memory uninitialised (`docs/model.md`)."""
        nn.init.normal_(self.embedding.weight, std=std)
        for layer in self.trans or ():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()

    def table(self) -> torch.Tensor:
        """The numbers as used: (P, 2 * layers * groups * head_dim)."""
        table = self.embedding.weight
        return table if self.trans is None else self.trans(table)

    def forward(self, batch: int, dtype: torch.dtype) -> torch.Tensor:
        """Keys (even rows) and values (odd rows) of all layers: (2 * layers, B, groups, P, head_dim)."""
        fixed = not self.training and not torch.is_grad_enabled()
        if fixed and self._kept is not None and self._kept.dtype == dtype:
            states = self._kept
        else:
            states = self.table().view(self.length, *self.shape).permute(1, 2, 0, 3).to(dtype)  # (2L, G, P, D)
            self._kept = states if fixed else None
        states = states.unsqueeze(1).expand(-1, batch, -1, -1, -1)
        result: torch.Tensor = self.dropout(states)
        return result

    def train(self, mode: bool = True) -> Prefix:
        """As in torch; also forgets the states that were kept for generating."""
        self._kept = None
        super().train(mode)
        return self


def attach_prefix(model: GlmForCausalLM, prefix: Prefix | None) -> None:
    """Make `model` attend to `prefix` in every forward pass; `model.prefix` holds it. None makes it plain again."""
    if not hasattr(model, "prefix"):
        if prefix is None:
            return
        model.model.register_forward_pre_hook(_Distribute(model), with_kwargs=True)
    model.prefix = prefix if prefix is None else prefix.to(model.device)
    model.set_attn_implementation(PLAIN if prefix is None else ATTENTION)


class _Distribute:
    """Before each forward pass: computes the prefix once and hands every layer its part."""

    def __init__(self, model: GlmForCausalLM) -> None:
        self._model = model

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._model.prefix is None:
            return
        tokens = kwargs.get("input_ids")
        if tokens is None:
            tokens = kwargs["inputs_embeds"] if kwargs.get("inputs_embeds") is not None else args[0]
        states = self._model.prefix(tokens.shape[0], self._model.dtype)
        for index, layer in enumerate(module.layers):
            layer.self_attn.prefix = (states[2 * index], states[2 * index + 1])


def _attention(  # noqa: PLR0913  transformers calls it with these
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over the layer's prefix and then its own keys; returns (B, T, heads, head_dim)."""
    prefix_key, prefix_value = module.prefix
    groups = module.num_key_value_groups
    key = repeat_kv(torch.cat([prefix_key, key], dim=2), groups)  # (B, heads, P + S, D)
    value = repeat_kv(torch.cat([prefix_value, value], dim=2), groups)
    mask = _mask(attention_mask, query, key, prefix_key.shape[2])
    output = functional.scaled_dot_product_attention(query, key, value, mask, dropout_p=dropout, scale=scaling)
    return output.transpose(1, 2).contiguous(), None


def _mask(mask: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor, prefix: int) -> torch.Tensor | None:
    """Which of P + S keys each query sees: always the whole prefix, then what is not after it and not padding."""
    length, total = query.shape[2], key.shape[2]
    if mask is not None:
        return functional.pad(mask[..., : total - prefix], (prefix, 0), value=True)
    if length == 1:
        return None
    if query.is_cuda:  # keeps the fast kernels, which a mask tensor would not
        bias: torch.Tensor = causal_lower_right(length, total)
        return bias
    return torch.ones(length, total, dtype=torch.bool, device=query.device).tril(total - length)


def _mask_for_model(*args: Any, **kwargs: Any) -> torch.Tensor | None:
    mask: torch.Tensor | None = sdpa_mask(*args, **kwargs)
    return mask


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, _mask_for_model)
