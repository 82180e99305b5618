"""Which tools a model is told of."""

from __future__ import annotations

from glmstudio.models import find_model
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
