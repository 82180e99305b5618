"""How the next token is chosen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sampling:
    """`temperature` 0 takes the most likely token. `seed` makes an answer repeatable; None leaves it to chance."""

    temperature: float = 0.8
    top_p: float = 0.8
    max_tokens: int = 1024
    seed: int | None = None


# The middle one is what the original demos use.
PRESETS = {
    "precise": Sampling(temperature=0.0, top_p=1.0),
    "balanced": Sampling(temperature=0.8, top_p=0.8),
    "creative": Sampling(temperature=1.1, top_p=0.95),
}
