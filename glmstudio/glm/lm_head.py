"""The last layer, which gives a number for each word of the vocabulary; and the loss, which never holds them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from glmstudio.config.settings import LOSS_CHUNK


class LMHead(nn.Linear):
    """Logits of hidden states; or, with `labels`, the loss.

    It is a call of the layer itself, so that what divides a model among processes brings its weights together.
    """

    def forward(
        self,
        hidden: torch.Tensor,
        labels: torch.Tensor | None = None,
        loss_weights: Sequence[float] = (),
        label_counts: Sequence[int] = (),
    ) -> torch.Tensor:
        """(…, V) for `hidden` (…, H); with the ids `labels` (R) after the rows of `hidden` (R, H): the sum of their
        cross entropies, of which the first `label_counts[0]` count `loss_weights[0]` and so on, a float32 number.

        Plain numbers, as engines cast every tensor that is given to a module to the type in which they compute.
        """
        if labels is None:
            return functional.linear(hidden, self.weight)
        place = hidden.device
        each = torch.tensor(loss_weights, device=place).repeat_interleave(torch.tensor(label_counts, device=place))
        loss: torch.Tensor = _Loss.apply(hidden, self.weight, labels, each, torch.is_grad_enabled())
        return loss


class _Loss(torch.autograd.Function):
    """Gradients are made with the loss, chunk by chunk, while the logits are there: nothing is computed twice."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> torch.Tensor:
        hidden, weight, wanted, weights, learns = given
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        largest = weights.max().clamp_min(1e-30) if len(weights) else weights.new_ones(())
        to_hidden = torch.empty_like(hidden, dtype=torch.float32) if learns and hidden.requires_grad else None
        to_weight = torch.zeros_like(weight, dtype=torch.float32) if learns and weight.requires_grad else None
        loss = torch.zeros((), device=hidden.device)
        with torch.autocast(kind, enabled=False):
            table, chunk = weight.to(dtype), max(1, LOSS_CHUNK // len(weight))
            for at in range(0, len(hidden), chunk):
                rows = slice(at, at + chunk)
                states, share = hidden[rows].to(dtype), weights[rows, None] / largest
                said, wrong = _chunk(states, table, wanted[rows], learns=to_hidden is not None or to_weight is not None)
                loss -= (said * weights[rows]).sum()
                if wrong is None:
                    continue
                wrong = wrong.mul_(share).to(dtype)  # about 1: 16-bit numbers can hold it, small weights they could not
                if to_hidden is not None:
                    to_hidden[rows] = wrong @ table
                if to_weight is not None:
                    to_weight.addmm_(wrong.T.to(to_weight.dtype), states.to(to_weight.dtype))
        kept = [None if each is None else each.mul_(largest) for each in (to_hidden, to_weight)]
        ctx.save_for_backward(*kept)
        ctx.dtypes = hidden.dtype, weight.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> Any:
        kept = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return *(None if each is None else each.mul_(given[0]).to(dtype) for each, dtype in kept), None, None, None


def _chunk(
    states: torch.Tensor, table: torch.Tensor, wanted: torch.Tensor, *, learns: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The log-probability of each wanted id (R), and the gradient of minus that with regard to the logits (R, V)."""
    logits = states @ table.T
    chances = logits.log_softmax(-1, dtype=torch.float32)
    del logits
    said = chances.gather(1, wanted[:, None])[:, 0]
    if not learns:
        return said, None
    wrong = chances.exp_()
    wrong[torch.arange(len(wanted), device=wanted.device), wanted] -= 1
    return said, wrong
