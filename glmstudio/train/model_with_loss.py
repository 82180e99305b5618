"""What is trained: the model with the loss, and what a token of it costs."""

from __future__ import annotations

import torch
from torch import nn
from transformers import GlmForCausalLM

from glmstudio.glm.attention import PackedSequences


class ModelWithLoss(nn.Module):
    """The model as the loop sees it: a pack in, the weighted loss of its learned tokens out."""

    def __init__(self, glm: GlmForCausalLM) -> None:
        super().__init__()
        self.glm = glm

    def forward(  # noqa: PLR0913, PLR0917  the parts of a pack
        self,
        input_ids: torch.Tensor,
        lengths: list[int] | None,
        parent: list[int | None] | None,
        label_positions: torch.Tensor,
        labels: torch.Tensor,
        loss_weights: list[float],
        label_counts: list[int],
    ) -> dict[str, torch.Tensor]:
        """`input_ids` (B, T): `lengths` of the documents in a row of them, and which one each goes on from (`parent`);
        None for a batch that is padded. `label_positions` and `labels` (R): which positions predict which token;
        `loss_weights` and `label_counts`: what each token of a conversation counts, and how many there are."""
        documents = PackedSequences(lengths, input_ids.device, parent) if lengths else None
        packed = {"position_ids": documents.positions, "documents": documents} if documents else {}
        hidden = self.glm.model(input_ids=input_ids, use_cache=False, **packed).last_hidden_state  # (B, T, H)
        scored = hidden.flatten(0, 1).index_select(0, label_positions)
        return {"loss": self.glm.lm_head(scored, labels, loss_weights, label_counts)}


def attention_cost_length(glm: GlmForCausalLM) -> float:
    """The length at which a token costs twice as much as the first one does: of the products in the linear layers as
    much as of those with the keys and values before it, half of a conversation on average."""
    config = glm.config
    inner, shared = (count * config.head_dim for count in (config.num_attention_heads, config.num_key_value_heads))
    return float(config.hidden_size * (2 * inner + 2 * shared + 3 * config.intermediate_size) / inner)
