"""Before the first step: every process must have the same program, settings, data and model as the first one."""

from __future__ import annotations

from pathlib import Path

from glmstudio.config.settings import Settings
from glmstudio.rundir.fingerprint import difference, differs, fingerprint
from glmstudio.train.distributed.context import DistributedContext


def agree(context: DistributedContext, settings: Settings, model: Path, data: str) -> None:
    """Raise StudioError, in every process, naming one that differs. `data`: the check sum of what was read."""
    if context.world == 1:
        return
    told = context.gather((context.machine, fingerprint(settings, data=data, model=model)))
    ours = told[0][1]
    for rank, (machine, theirs) in enumerate(told):
        if found := difference(ours, theirs):
            raise differs(rank, machine, found)
