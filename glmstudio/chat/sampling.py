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


# What each number may be, in a request and in a conversation that is taken in.
LIMITS: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (1e-6, 1),
    "max_tokens": (1, 32768),
    "seed": (-(2**63), 2**63 - 1),
}
WHOLE = ("max_tokens", "seed")

# The middle one is what the original demos use.
PRESETS = {
    "precise": Sampling(temperature=0.0, top_p=1.0),
    "balanced": Sampling(temperature=0.8, top_p=0.8),
    "creative": Sampling(temperature=1.1, top_p=0.95),
}
