"""How likely a model found each token, as log-probabilities; made in slices, so that no table of all of them exists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

MOST_ALTERNATIVES = 5  # as OpenAI's protocol has it
_LEAST = -9999.0  # JSON knows no infinity
_NUMBERS = 1 << 22  # of a table of logits that exist at once: 16 MiB as float32


class TokenScore(NamedTuple):
    """A token's log-probability after all that came before it, and the most likely tokens there, the best one first."""

    logprob: float
    best: tuple[tuple[int, float], ...]


def scores_of(
    states: torch.Tensor, tokens: Sequence[int], logits: Callable[[torch.Tensor], torch.Tensor], vocabulary: int
) -> list[TokenScore]:
    """The scores of `tokens` (T), each of which came after the hidden state of its row of `states` (T, H).

    `logits` makes (R, V) of rows (R, H), where V is `vocabulary`.
    """
    rows, found = max(1, _NUMBERS // vocabulary), list[TokenScore]()
    for start in range(0, len(tokens), rows):
        found += _scores(logits(states[start : start + rows]), tokens[start : start + rows])
    return found


def score_of(logits: torch.Tensor, token: int) -> TokenScore:
    """The score of a token that was chosen by `logits` (V)."""
    return _scores(logits[None], [token])[0]


def _scores(logits: torch.Tensor, tokens: Sequence[int]) -> list[TokenScore]:
    chances = logits.log_softmax(-1, dtype=torch.float32)
    wanted = torch.tensor(tokens, device=logits.device)[:, None]
    own = _finite(chances.gather(1, wanted)[:, 0])
    best = chances.topk(min(MOST_ALTERNATIVES, chances.shape[-1]), dim=-1)
    pairs = zip(best.indices.tolist(), _finite(best.values), strict=True)
    tops = [tuple(zip(ids, values, strict=True)) for ids, values in pairs]
    return [TokenScore(logprob, top) for logprob, top in zip(own, tops, strict=True)]


def _finite(numbers: torch.Tensor) -> list[Any]:
    finite: list[Any] = numbers.nan_to_num(nan=_LEAST).clamp_min(_LEAST).tolist()
    return finite
