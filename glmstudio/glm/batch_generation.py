"""Many questions at once: answers without chance, and how likely a given answer is. For scores, not for a chat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch.nn import functional
from transformers import GlmForCausalLM

from glmstudio.data.protocol.tokenizer import PAD

_TOKENS = 16_384  # of a batch, padding and answers included
_MOST = 64  # questions of a batch

Out = TypeVar("Out")


@dataclass(frozen=True)
class Generated:
    """The ids of an answer without the one that ends it; `ended` is False where it was cut at the limit."""

    ids: list[int]
    ended: bool


def generate(
    glm: GlmForCausalLM, prompts: Sequence[Sequence[int]], stop_ids: Sequence[int], *, limit: int
) -> Iterator[tuple[int, Generated]]:
    """Place and greedy answer of each prompt, of up to `limit` tokens; the shortest come first."""

    def answer(places: list[int]) -> list[Generated]:
        ids, mask = _padded([prompts[place] for place in places], glm.device)
        out = glm.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=limit,
            do_sample=False,
            eos_token_id=list(stop_ids),
            pad_token_id=PAD,
        )
        return [_ended(row, stop_ids) for row in out[:, ids.shape[1] :].tolist()]

    yield from _in_batches([len(prompt) + limit for prompt in prompts], answer)


def log_likelihoods(
    glm: GlmForCausalLM, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> Iterator[tuple[int, float]]:
    """Place and mean natural logarithm of the probability of each answer's tokens after its prompt."""
    texts = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]

    def likely(places: list[int]) -> list[float]:
        ids, mask = _padded([texts[place] for place in places], glm.device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        hidden = glm.model(input_ids=ids, attention_mask=mask, position_ids=positions).last_hidden_state  # (B, T, H)
        found = []
        for row, place in enumerate(places):
            count = len(answers[place])
            logits = glm.get_output_embeddings()(hidden[row, -count - 1 : -1]).float()  # (answer, V)
            found.append(-float(functional.cross_entropy(logits, ids[row, -count:])))
        return found

    yield from _in_batches([len(text) for text in texts], likely)


def _in_batches(lengths: Sequence[int], do: Callable[[list[int]], list[Out]]) -> Iterator[tuple[int, Out]]:
    """What is done for each place, in batches of like length; a batch that finds no room is halved."""
    waiting = list(_batches(sorted(range(len(lengths)), key=lambda place: lengths[place]), lengths))
    while waiting:
        batch = waiting.pop(0)
        try:
            with torch.inference_mode():
                done = do(batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            torch.cuda.empty_cache()
            waiting[:0] = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
            continue
        yield from zip(batch, done, strict=True)


def _batches(order: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    batch: list[int] = []
    for place in order:
        if batch and (len(batch) == _MOST or (len(batch) + 1) * lengths[place] > _TOKENS):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _padded(batch: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask (B, T), padded on the left."""
    width = max(map(len, batch))
    ids = torch.tensor([[PAD] * (width - len(each)) + list(each) for each in batch], device=device)
    mask = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in batch], device=device)
    return ids, mask


def _ended(row: Sequence[int], stop_ids: Sequence[int]) -> Generated:
    for place, token in enumerate(row):
        if token in stop_ids:
            return Generated(list(row[:place]), True)
    return Generated(list(row), False)
