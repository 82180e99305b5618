"""The forward pass of an answer: transformers' own, without the care that it takes for what no answer needs.

A small model spends as much time on that care as on its numbers, and so does a large one on a GPU. Where nothing
stands beside the weights, one product makes queries, keys and values: the weights of the three lie one behind the
other in memory, and their layers hold parts of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import Cache, GlmForCausalLM

from glmstudio.glm.adapters.prefix import hand_out
from glmstudio.glm.attention import attention
from glmstudio.glm.layers import Attention, swiglu, turn

_MIXED = ("q_proj", "k_proj", "v_proj")
_BEFORE = ("input_layernorm", "post_attention_layernorm")
_AFTER = ("post_self_attn_layernorm", "post_mlp_layernorm")  # of a branch, in a "glm4"


class DecodeForward:
    """Reads tokens into a cache. For one thread, and with no other user of the model between `begin` and the last
    `read`."""

    def __init__(self, model: GlmForCausalLM) -> None:
        self.model = model
        self._bare = [_FusedBlock.of(layer) for layer in model.model.layers]
        self._is_bare = False
        every = torch.arange(model.config.max_position_embeddings, device=model.device)[None]
        with torch.inference_mode(mode=False), torch.no_grad():
            self._angles = model.model.rotary_emb(every.float(), every)  # (1, context, 1, pairs)
        if model.device.type == "cuda":
            torch.cuda.empty_cache()  # what the three layers had before

    def begin(self) -> None:
        """An answer begins, with whatever stands beside the weights now."""
        hand_out(self.model, 1)
        self._is_bare = all(bare and bare.alone for bare in self._bare)

    def read(
        self,
        ids: torch.Tensor,
        cache: Cache,
        positions: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The logits (V), float32, after `ids` (1, T), which follow what `cache` holds and are added to it."""
        return self.logits(self.states(ids, cache, positions, mask)[-1])

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """(…, V), float32, for hidden states (…, H)."""
        logits: torch.Tensor = self.model.lm_head(self.model.model.norm(states))
        return logits.float()

    def states(
        self,
        ids: torch.Tensor,
        cache: Cache,
        positions: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The hidden states (T, H) of `ids` (1, T) behind the last layer, as `read` has them before it takes the last.

        `positions` (T) are counted on where they are not given; `mask` (1, 1, T or 1, S) tells which of the cache's
        places may be seen, where not all that come before may.
        """
        inner = self.model.model
        if positions is None:
            before = cache.get_seq_length()
            angles = self._angles[:, before : before + ids.shape[1]]
        else:
            angles = self._angles.index_select(1, positions)
        hidden = functional.embedding(ids, inner.embed_tokens.weight)
        for layer, bare in zip(inner.layers, self._bare, strict=True):
            if bare and self._is_bare:
                hidden = bare(hidden, angles, cache, mask)
            else:
                branch = layer.self_attn(layer.input_layernorm(hidden), angles, mask, cache=cache)[0]
                hidden = hidden + _normed(layer, _AFTER[0], branch)
                branch = layer.mlp(layer.post_attention_layernorm(hidden))
                hidden = hidden + _normed(layer, _AFTER[1], branch)
        return hidden[0]


@dataclass(frozen=True)
class _FusedBlock:
    """A block's numbers, at hand without asking its modules for them."""

    block: Any
    module: Attention
    heads: int
    groups: int
    before: tuple[Any, Any]
    after: tuple[Any, Any]
    mixed: tuple[torch.Tensor, torch.Tensor | None]
    linear: tuple[torch.Tensor, torch.Tensor, torch.Tensor]

    @classmethod
    def of(cls, block: Any) -> _FusedBlock | None:
        """None where its linear layers are of another kind."""
        if not _plain(block):
            return None
        module, config = block.self_attn, block.self_attn.config
        layers = (module.o_proj, block.mlp.gate_up_proj, block.mlp.down_proj)
        return cls(
            block, module, config.num_attention_heads, config.num_key_value_heads,
            (_norm(block, _BEFORE[0]), _norm(block, _BEFORE[1])), (_norm(block, _AFTER[0]), _norm(block, _AFTER[1])),
            _joined([getattr(module, name) for name in _MIXED]),
            (layers[0].weight.detach(), layers[1].weight.detach(), layers[2].weight.detach()),
        )  # fmt: skip

    @property
    def alone(self) -> bool:
        """Whether nothing has been put beside the weights since."""
        return _plain(self.block)

    def __call__(self, hidden: torch.Tensor, angles: torch.Tensor, cache: Cache, mask: Any) -> torch.Tensor:
        """(1, T, H) to (1, T, H)."""
        heads, groups = self.heads, self.groups
        out, gate_up, down = self.linear
        states = functional.linear(torch.rms_norm(hidden, *self.before[0]), *self.mixed)
        states = states.view(1, hidden.shape[1], heads + 2 * groups, -1)
        turn(states[:, :, : heads + groups], angles)
        query, key, value = states.transpose(1, 2).split([heads, groups, groups], dim=1)  # (1, …, T, D)
        key, value = cache.update(key, value, self.module.layer_idx)
        mixed, _ = attention(self.module, query, key, value, mask, scaling=self.module.scaling)
        branch = functional.linear(mixed.flatten(2), out)
        hidden = hidden + (branch if self.after[0] is None else torch.rms_norm(branch, *self.after[0]))
        both = functional.linear(torch.rms_norm(hidden, *self.before[1]), gate_up)
        branch = functional.linear(swiglu(both), down)
        return hidden + (branch if self.after[1] is None else torch.rms_norm(branch, *self.after[1]))


def _plain(block: Any) -> bool:
    module, feed = block.self_attn, block.mlp
    layers = (module.q_proj, module.k_proj, module.v_proj, module.o_proj, feed.gate_up_proj, feed.down_proj)
    return all(type(layer) is nn.Linear for layer in layers)


def _norm(block: Any, name: str) -> tuple[list[int], torch.Tensor, float] | None:
    """What `torch.rms_norm` takes besides its input; None where the block has no such norm."""
    norm = getattr(block, name, None)
    return None if norm is None else (list(norm.weight.shape), norm.weight.detach(), norm.variance_epsilon)


def _normed(block: Any, name: str, branch: torch.Tensor) -> torch.Tensor:
    norm = getattr(block, name, None)
    return branch if norm is None else norm(branch)


def _joined(layers: list[nn.Linear]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Their weights and biases, if they have any, as one of each; they themselves hold parts of it from now on."""
    sizes = [layer.out_features for layer in layers]
    with torch.inference_mode(mode=False):  # what is made in that mode can never be trained through again
        weight = torch.cat([layer.weight.detach() for layer in layers])
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        bias = torch.cat(biases) if biases else None
    for layer, part in zip(layers, weight.split(sizes), strict=True):
        layer.weight.data = part
    for layer, own in zip(layers, () if bias is None else bias.split(sizes), strict=False):
        layer.bias.data = own
    return weight, bias
