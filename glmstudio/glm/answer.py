"""The forward pass of an answer: transformers' own, without the care that it takes for what no answer needs.

One product makes queries, keys and values where nothing stands beside their weights, which then lie one behind the
other in memory.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from transformers import Cache, GlmForCausalLM

from glmstudio.glm.attention import attention
from glmstudio.glm.layers import Attention, turn
from glmstudio.glm.prefix import hand_out

_ONE = ("q_proj", "k_proj", "v_proj")


class Reader:
    """Reads tokens into a cache. For one thread, and with no other user of the model between `begin` and the last
    `read`."""

    def __init__(self, model: GlmForCausalLM) -> None:
        self.model = model
        self._joined = [_joined(layer.self_attn) for layer in model.model.layers]
        self._plain = False

    def begin(self) -> None:
        """An answer begins, with whatever stands beside the weights now."""
        hand_out(self.model, 1)
        self._plain = all(_plain(layer.self_attn) for layer in self.model.model.layers)

    def read(
        self,
        ids: torch.Tensor,
        cache: Cache,
        positions: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The logits (V), float32, after `ids` (1, T), which follow what `cache` holds and are added to it.

        `positions` (1, T) are counted on where they are not given; `mask` (1, 1, T or 1, S) tells which of the cache's
        places may be seen, where not all that come before may.
        """
        inner = self.model.model
        if positions is None:
            before = cache.get_seq_length()
            positions = torch.arange(before, before + ids.shape[1], device=ids.device)[None]
        hidden = inner.embed_tokens(ids)
        angles = inner.rotary_emb(hidden, positions)
        for layer, joined in zip(inner.layers, self._joined, strict=True):
            normed = layer.input_layernorm.forward(hidden)
            if joined and self._plain:
                hidden = hidden + _attended(layer.self_attn, joined, normed, angles, cache, mask)
            else:
                hidden = hidden + layer.self_attn(normed, angles, mask, cache=cache)[0]
            hidden = hidden + layer.mlp.forward(layer.post_attention_layernorm.forward(hidden))
        logits: torch.Tensor = self.model.lm_head(inner.norm(hidden[0, -1]))
        return logits.float()


def _attended(
    module: Attention,
    joined: tuple[torch.Tensor, torch.Tensor],
    hidden: torch.Tensor,
    angles: torch.Tensor,
    cache: Cache,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """(1, T, H) to (1, T, H), as `Attention` computes it."""
    config = module.config
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    states = functional.linear(hidden, *joined).unflatten(-1, (-1, module.head_dim))  # (1, T, heads + 2 groups, D)
    turn(states[:, :, : heads + groups], angles)
    query, key, value = (each.transpose(1, 2) for each in states.split([heads, groups, groups], dim=2))
    key, value = cache.update(key, value, module.layer_idx)
    mixed, _ = attention(module, query, key, value, mask, scaling=module.scaling)
    return module.o_proj.forward(mixed.flatten(2))


def _plain(module: Attention) -> bool:
    return all(type(getattr(module, name)) is nn.Linear for name in (*_ONE, "o_proj"))


def _joined(module: Attention) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The weight and bias of the three layers as one; they themselves become parts of it."""
    if not _plain(module):
        return None
    layers = [getattr(module, name) for name in _ONE]
    whole = tuple(torch.cat([getattr(layer, kind).detach() for layer in layers]) for kind in ("weight", "bias"))
    for kind, tensor in zip(("weight", "bias"), whole, strict=True):
        sizes = [getattr(layer, kind).shape[0] for layer in layers]
        for layer, part in zip(layers, tensor.split(sizes), strict=True):
            getattr(layer, kind).data = part
    return whole[0], whole[1]
