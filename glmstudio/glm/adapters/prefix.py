"""P-Tuning v2: learned keys and values in front of every layer's own.

ChatGLM3 gives the prefix no rotary angle and counts the real tokens from 0. So the prefix is not put into the cache
(which would move the positions): `glmstudio.glm.attention` adds it, layer by layer, and everything else of the model
stays as it is: padding, `generate`, gradient checkpointing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import GlmConfig, GlmForCausalLM

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


class _Distribute:
    """Before each forward pass: computes the prefix once and hands every layer its part."""

    def __init__(self, model: GlmForCausalLM) -> None:
        self._model = model

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hand_out(self._model, _sequences(args, kwargs))


def hand_out(model: GlmForCausalLM, sequences: int) -> None:
    """Give every layer its part of the prefix, if there is one, for so many sequences."""
    prefix = getattr(model, "prefix", None)
    states = None if prefix is None else prefix(sequences, model.dtype)
    for index, layer in enumerate(model.model.layers):
        layer.self_attn.prefix = None if states is None else (states[2 * index], states[2 * index + 1])


def _sequences(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """How many sequences the pass has: each has the prefix for itself, with a dropout of its own."""
    if kwargs.get("documents") is not None:
        return len(kwargs["documents"])
    tokens = kwargs.get("input_ids")
    if tokens is None:
        tokens = kwargs["inputs_embeds"] if kwargs.get("inputs_embeds") is not None else args[0]
    return int(tokens.shape[0])
