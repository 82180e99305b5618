"""What the engine tells of a job: the reused prefix, scores of the prompt, each token, and last how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # before vLLM, the server runs without torch
    from glmstudio.serve.token_scores import TokenScore


class NoMemoryError(Exception):
    """The memory is not enough for a conversation of so many `tokens`, not even alone."""

    def __init__(self, tokens: int) -> None:
        super().__init__(tokens)
        self.tokens = tokens


@dataclass(frozen=True)
class PrefixHit:
    """The first so many tokens of the prompt were computed before. Told again where the job had to begin anew."""

    tokens: int


@dataclass(frozen=True)
class PromptScores:
    """The scores of all tokens of the prompt but the first one."""

    scores: list[TokenScore]


@dataclass(frozen=True)
class NewToken:
    """A token of the answer. Its score, where asked for, is by the logits as they are, whatever the sampling does."""

    id: int
    score: TokenScore | None = None


@dataclass(frozen=True)
class JobFinished:
    """The answer is over: it ended by itself, at its limit, or because nobody listens."""


@dataclass(frozen=True)
class JobFailed:
    """The answer broke off."""

    error: Exception


Event = PrefixHit | PromptScores | NewToken | JobFinished | JobFailed
