"""The forward pass of an answer: transformers' own, without the care that it takes for what no answer needs."""

from __future__ import annotations

import torch
from transformers import Cache, GlmForCausalLM


def read(
    model: GlmForCausalLM,
    ids: torch.Tensor,
    cache: Cache,
    positions: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """The logits (V), float32, after `ids` (1, T), which follow what `cache` holds and are added to it.

    `positions` (1, T) are counted on where they are not given; `mask` (1, 1, T or 1, S) tells which of the cache's
    places may be seen, where not all that come before may. A prefix must have been handed out (`hand_out`).
    """
    inner = model.model
    if positions is None:
        before = cache.get_seq_length()
        positions = torch.arange(before, before + ids.shape[1], device=ids.device)[None]
    hidden = inner.embed_tokens(ids)
    angles = inner.rotary_emb(hidden, positions)
    for layer in inner.layers:
        hidden = hidden + layer.self_attn(layer.input_layernorm(hidden), angles, mask, cache=cache)[0]
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    logits: torch.Tensor = model.lm_head(inner.norm(hidden[0, -1]))
    return logits.float()
