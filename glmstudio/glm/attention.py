"""Attention as every model here computes it: over a learned prefix, then over what came before in the same document.

No mask is made where a kernel knows what "causal" means, and keys and values that several heads share are not copied
for each of them where a kernel takes them as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, chain
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention.bias import causal_lower_right
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv
from transformers.masking_utils import sdpa_mask

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # PyTorch before 2.10
    varlen_attn = None

ATTENTION = "glm_studio"
_NEAR = 2e-2  # how far 16-bit results around 1 may lie apart

Pair = tuple[torch.Tensor, torch.Tensor]


class PackedSequences:
    """Several documents in one row of T tokens. Each counts its positions from 0 and sees only itself, except where it
    goes on from an earlier one, `parent`: then it sees that one as well, and counts on from it. (That one goes on from
    none.)

    tokens     a a a a b b c c c
    lengths    4, 2, 3
    parent     None, 0, None
    positions  0 1 2 3 4 5 0 1 2
    """

    def __init__(
        self, lengths: Sequence[int], device: torch.device, parent: Sequence[int | None] | None = None
    ) -> None:
        self.lengths, self._device = list(lengths), device
        self.parent = list(parent or [None] * len(lengths))
        before = [0 if earlier is None else lengths[earlier] for earlier in self.parent]
        self.seen = [start + own for start, own in zip(before, lengths, strict=True)]
        spans = [torch.arange(start, end) for start, end in zip(before, self.seen, strict=True)]
        self.positions = torch.cat(spans)[None].to(device)  # (1, T)
        self.cu_seqlens_q = self._ends(lengths)  # where each begins, and the last one ends: (documents + 1), int32
        self._cu_seqlens_k: dict[int, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self.lengths)

    def cu_seqlens_k(self, prefix: int) -> torch.Tensor:
        """As `cu_seqlens_q`, for all that each of them sees, which begins with a prefix of so many."""
        if prefix not in self._cu_seqlens_k:
            self._cu_seqlens_k[prefix] = self._ends([prefix + seen for seen in self.seen])
        return self._cu_seqlens_k[prefix]

    def parts(self, own: torch.Tensor, learned: Sequence[torch.Tensor] | None, dim: int) -> list[list[torch.Tensor]]:
        """What each of them sees, of keys or of values: its prefix, the document that it goes on from, itself."""
        # Split, not sliced: the gradient of a slice is as large as the whole pack, once for each document.
        each = own.split(self.lengths, dim)
        seen = [[one] if at is None else [each[at], one] for at, one in zip(self.parent, each, strict=True)]
        return seen if learned is None else [[first, *rest] for first, rest in zip(learned, seen, strict=True)]

    def _ends(self, lengths: Sequence[int]) -> torch.Tensor:
        return torch.tensor(list(accumulate(lengths, initial=0)), dtype=torch.int32, device=self._device)


def attention(  # noqa: PLR0913  transformers calls it with these
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    documents: PackedSequences | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """(B, T, heads, D) for queries (B, heads, T, D), over the layer's prefix and S keys and values (B, groups, S, D).

    Without `attention_mask` the queries are the last T of the S positions, and each sees what is not after it.
    """
    prefix: Pair | None = getattr(module, "prefix", None)
    if documents is not None and len(documents) > 1:
        return _packed(query, (key, value), prefix, documents, scaling), None
    if query.shape[2] == 1 and not query.requires_grad:
        return _single(query, (key, value), prefix, attention_mask, scaling), None
    if prefix is not None:
        if attention_mask is not None:
            attention_mask = functional.pad(attention_mask[..., : key.shape[2]], (prefix[0].shape[2], 0), value=True)
        key, value = torch.cat([prefix[0], key], dim=2), torch.cat([prefix[1], value], dim=2)
    return _dense(query, (key, value), attention_mask, scaling).transpose(1, 2).contiguous(), None


def _dense(query: torch.Tensor, pair: Pair, mask: torch.Tensor | None, scaling: float | None) -> torch.Tensor:
    """(B, heads, T, D). Without a mask, the queries are the last of the keys' positions."""
    key, value = pair
    length, total = query.shape[2], key.shape[2]
    before = total - length
    grouped = mask is None and _takes_groups(query)
    if not grouped:
        groups = query.shape[1] // key.shape[1]
        key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    given: dict[str, Any] = {"scale": scaling, "enable_gqa": grouped}
    if mask is not None or not before:
        return functional.scaled_dot_product_attention(query, key, value, mask, is_causal=mask is None, **given)
    if query.is_cuda:
        return functional.scaled_dot_product_attention(query, key, value, causal_lower_right(length, total), **given)
    kept = length * total if query.requires_grad else 0  # a mask stays until the backward pass, and so would the rows
    if before > length and kept < before * query.shape[1] * query.shape[3]:
        # A piece of a long prompt: a mask of these few rows is cheaper than the rows before them.
        seen = torch.ones(length, total, dtype=torch.bool, device=query.device).tril(before)
        return functional.scaled_dot_product_attention(query, key, value, seen, **given)
    # The kernel counts from the first query: it gets as many as there are keys, and the first results are dropped.
    query = functional.pad(query, (0, 0, before, 0))
    return functional.scaled_dot_product_attention(query, key, value, is_causal=True, **given)[:, :, before:]


def _packed(
    query: torch.Tensor, pair: Pair, prefix: Pair | None, documents: PackedSequences, scaling: float | None
) -> torch.Tensor:
    """(1, T, heads, D): each document over its own prefix (one of the prefix's batch) and its own tokens."""
    if _takes_lengths(query.device, query.dtype):
        return _by_lengths(query, pair, prefix, documents, scaling)
    return _one_by_one(query, pair, prefix, documents, scaling)


def _one_by_one(
    query: torch.Tensor, pair: Pair, prefix: Pair | None, documents: PackedSequences, scaling: float | None
) -> torch.Tensor:
    keys, values = (
        documents.parts(own, learned, 2)
        for own, learned in zip(pair, [each.split(1) for each in prefix] if prefix else [None, None], strict=True)
    )
    results = []
    for one, key, value in zip(query.split(documents.lengths, 2), keys, values, strict=True):
        both = (torch.cat(key, 2), torch.cat(value, 2)) if len(key) > 1 else (key[0], value[0])
        results.append(_dense(one, both, None, scaling).transpose(1, 2))
    return torch.cat(results, dim=1)


def _by_lengths(
    query: torch.Tensor, pair: Pair, prefix: Pair | None, documents: PackedSequences, scaling: float | None
) -> torch.Tensor:
    """The same in one call of the kernel for sequences of many lengths, which takes (T, heads, D)."""
    query, *both = (each[0].transpose(0, 1) for each in (query, *pair))
    before = prefix[0].shape[2] if prefix else 0
    if before or documents.seen != documents.lengths:
        firsts = [each.transpose(1, 2).unbind() for each in prefix] if prefix else [None, None]
        seen = (documents.parts(own, learned, 0) for own, learned in zip(both, firsts, strict=True))
        both = [torch.cat(list(chain.from_iterable(parts))) for parts in seen]
    result: torch.Tensor = varlen_attn(
        query.contiguous(), both[0].contiguous(), both[1].contiguous(),
        documents.cu_seqlens_q, documents.cu_seqlens_k(before),
        max(documents.lengths), before + max(documents.seen), scale=scaling, window_size=(-1, 0), enable_gqa=True,
    )  # fmt: skip
    return result[None]


def _single(
    query: torch.Tensor, pair: Pair, prefix: Pair | None, mask: torch.Tensor | None, scaling: float | None
) -> torch.Tensor:
    """(B, 1, heads, D) for one new token, which sees all keys: the heads of a group are rows of one product."""
    batch, heads, _, width = query.shape
    rows = query.reshape(batch, pair[0].shape[1], -1, width)  # (B, groups, heads of a group, D)
    if prefix is None and not query.is_cuda:  # a card's kernel would use one of its many units for each group
        result = functional.scaled_dot_product_attention(rows, *pair, mask, scale=scaling)
    else:
        result = _in_parts(rows, [pair] if prefix is None else [prefix, pair], mask, scaling or width**-0.5)
    return result.reshape(batch, heads, 1, width).transpose(1, 2)


def _in_parts(rows: torch.Tensor, parts: list[Pair], mask: torch.Tensor | None, scaling: float) -> torch.Tensor:
    """(B, groups, R, D) for rows of that shape over all parts, which are not put together for it; `mask` is for the
    last one."""
    rows = rows * scaling  # before the product, which 16-bit numbers might not hold otherwise
    scores = [rows @ key.mT for key, _ in parts]
    if mask is not None:
        scores[-1] = scores[-1].masked_fill(~mask, -torch.inf)
    shares = torch.cat(scores, dim=-1).float().softmax(-1).to(rows.dtype)
    weighed = shares.split([key.shape[2] for key, _ in parts], dim=-1)
    products = [share @ value for share, (_, value) in zip(weighed, parts, strict=True)]
    return products[0] if len(products) == 1 else products[0] + products[1]


def _takes_groups(query: torch.Tensor) -> bool:
    """Whether the fast kernels take keys and values that heads share. On a card only flash attention does; where it
    does not serve, the plain kernel would be taken, which keeps all scores."""
    return not query.is_cuda or _has_flash(query.device, query.dtype)


@lru_cache
def _has_flash(device: torch.device, dtype: torch.dtype) -> bool:
    small = device.type == "cuda" and dtype in (torch.float16, torch.bfloat16)
    return small and torch.cuda.get_device_capability(device) >= (8, 0)


@lru_cache
def _takes_lengths(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this machine's kernel for many lengths computes what the documents one by one do, tried once."""
    if varlen_attn is None or not _has_flash(device, dtype):
        return False
    documents, results = PackedSequences([5, 9, 4], device, parent=[None, None, 0]), []
    drawn = torch.Generator("cpu").manual_seed(0)
    # It is asked in the middle of a layer, which may be one that is computed twice: nothing of this belongs to that.
    apart = torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor)
    with torch.enable_grad(), torch.autocast(device.type, enabled=False), apart:
        shapes = ((1, 8, 18, 64), (1, 2, 18, 64), (1, 2, 18, 64), (3, 2, 3, 64), (3, 2, 3, 64))
        given = [torch.randn(shape, generator=drawn).to(device, dtype).requires_grad_() for shape in shapes]
        query, key, value, *prefix = given
        for way in (_one_by_one, _by_lengths):
            try:
                result = way(query, (key, value), (prefix[0], prefix[1]), documents, None)
                results.append([result, *torch.autograd.grad(result.float().square().sum(), given)])
            except (RuntimeError, TypeError):  # a card, a system or a PyTorch that does not have it
                return False
    return all(torch.allclose(one, other, atol=_NEAR, rtol=_NEAR) for one, other in zip(*results, strict=True))


def _mask_for_model(*args: Any, **kwargs: Any) -> torch.Tensor | None:
    """Only padding needs a mask; what is causal, and where documents end, `attention` knows."""
    if kwargs.get("attention_mask") is None:
        return None
    mask: torch.Tensor | None = sdpa_mask(*args, **kwargs)
    return mask


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, _mask_for_model)
