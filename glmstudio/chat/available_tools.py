"""Which tools a model is told of: as many as may be called, and none where it was trained without any."""

from __future__ import annotations

import os
from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.families.recognition import family_of
from glmstudio.models import find_model
from glmstudio.paths import paths
from glmstudio.rundir.run import Run, find_run
from glmstudio.tools.permissions import is_chosen, permission
from glmstudio.tools.tool import Tool
from glmstudio.tools.toolbox import toolbox, trained


def offered(model: str, *, asking: bool = True) -> list[Tool]:
    """All that are not switched off; without `asking`, only those that may always run.

    The demo model was trained on six tools and is thrown off by others: it is told of more only where somebody said so.
    """
    may = ("always", "ask") if asking else ("always",)
    tools = [tool for tool in toolbox().tools.values() if permission(tool) in may]
    if find_model(model).kind != "demo":
        return tools
    known = trained()
    return [tool for tool in tools if tool.name in known or is_chosen(tool)]


def run_behind(model: str, adapter: str = "") -> Run | None:
    """The run that made an adapter (by its name or a folder of the run) or a whole model; None for a base, and for
    what comes from elsewhere."""
    for each in (adapter, model):
        path = Path(each).resolve() if os.path.isdir(each) else Path(each)  # noqa: PTH112  never raises
        inside = path.is_absolute() and path.is_relative_to(paths().runs)
        if inside or (each and each == adapter):
            try:
                return find_run(path.relative_to(paths().runs).parts[0] if inside else each)
            except (StudioError, IndexError):
                return None
    return None


def toolless(model: str, adapter: str = "") -> Run | None:
    """The run behind a model, where it was trained without tools: asked with them, it does not answer as it learned."""
    run = run_behind(model, adapter)
    return run if run is not None and run.learned_tools is False else None


def asked_with_tools(model: str, adapter: str = "") -> bool:
    """Whether a model is asked with tools where nobody said: as the run behind it was trained, or else as the published
    models of its family were."""
    run = run_behind(model, adapter)
    if run is not None and run.learned_tools is not None:
        return run.learned_tools
    try:
        return family_of(find_model(model).path).knows_tools
    except StudioError:
        return True
