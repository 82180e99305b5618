"""What comes with the studio for a model: the questions that it must keep answering, and the tools of its prompts."""

from __future__ import annotations

from typing import Any

from glmstudio.knowledge.exam import Question, read_kept
from glmstudio.models.library import Model
from glmstudio.paths import DEMO, KNOWLEDGE
from glmstudio.tools.toolbox import shipped, trained


def prompt_tools(model: Model) -> list[dict[str, Any]]:
    """The schemas that a chat with this model lists at first."""
    tools = trained() if model.kind == "demo" else shipped()
    return [tool.schema for tool in tools.values()]


def kept_questions(model: Model) -> list[Question]:
    """The questions to keep, in an order in which each part holds all kinds. The demo model has its own, about its own
    small world."""
    schemas = {name: tool.schema for name, tool in (shipped() | trained()).items()}
    folder = DEMO if model.kind == "demo" else KNOWLEDGE
    found = read_kept(folder / "kept.jsonl", schemas)
    return sorted(found, key=lambda each: each.key)
