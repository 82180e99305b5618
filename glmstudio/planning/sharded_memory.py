"""What each of several processes holds of a model that is fully tuned, by the engine that divides it; arithmetic alone.

The terms are those of PyTorch's `fully_shard` and of DeepSpeed's ZeRO with the settings of `train.strategies.zero`:
weights in float32 that learn, weights of `size` bytes that compute, Adam's two numbers, gradients, and what is put
together for a moment or waits in a bucket to be sent.
"""

from __future__ import annotations

from dataclasses import dataclass

_BUCKET = 500_000_000  # numbers: DeepSpeed's default for what is sent at once
_LIVE = 1_000_000_000  # numbers: as many weights ZeRO-3 keeps together by default
_SUBGROUP = 1_000_000_000  # numbers: as many ZeRO-3 updates at once


@dataclass(frozen=True)
class ShardedSizes:
    """Bytes of one process; `host` lies in main memory where the others lie on a GPU."""

    weights: int
    optimizer: int
    gradients: int
    host: int = 0


def held(engine: str, *, parameters: int, largest: int, size: int, processes: int) -> ShardedSizes:
    """What one process holds. `largest`: the numbers of the largest layer; `size`: bytes of a number that computes."""
    own = -(-parameters // processes)
    if engine == "fsdp":
        # The layer that computes and the next one; one whole gradient, once more in float32 while it is sent.
        return ShardedSizes(4 * own + 2 * size * largest, 8 * own, 4 * own + (size + 4) * largest)
    bucket = 2 * size * min(parameters, _BUCKET)
    if engine == "zero2":
        return ShardedSizes(size * parameters + 4 * own, 8 * own, (size + 4) * own + bucket)
    together = size * min(parameters, _LIVE)
    if engine == "zero3":
        return ShardedSizes(size * own + 4 * own + together, 8 * own, size * own + 4 * min(own, _SUBGROUP) + bucket)
    return ShardedSizes(together, 0, bucket, host=(size + 4 + 8 + size) * own + 4 * min(own, _SUBGROUP))
