"""How the processes of a run share the model: DDP, FSDP, ZeRO."""

from __future__ import annotations

from glmstudio.config.settings import Settings
from glmstudio.train.distributed.context import DistributedContext
from glmstudio.train.strategies.base import ShardingStrategy


def strategy_of(settings: Settings, context: DistributedContext) -> ShardingStrategy:
    """The strategy that the settings name. Raises StudioError where DeepSpeed does not load."""
    if settings.engine == "fsdp":
        from glmstudio.train.strategies.fsdp import FSDPStrategy

        return FSDPStrategy(settings, context)
    if settings.engine != "ddp":
        from glmstudio.train.strategies.zero import ZeroStrategy

        return ZeroStrategy(settings, context)
    return ShardingStrategy(settings, context)
