"""Turns as ChatGLM3 writes them: the text that tests of its words compare."""

from __future__ import annotations

from collections.abc import Iterable

from glmstudio.families.chatglm3 import CHATGLM3
from glmstudio.families.family import Family
from glmstudio.families.message import Message


def written(messages: Iterable[Message], family: Family = CHATGLM3) -> list[Message]:
    """Messages whose calls and tools are text in their content."""
    listed = list(messages)
    return [
        Message(frame.role, frame.content, frame.metadata, trained=listed[place].trained)
        for place in family.order(listed)
        for frame in family.frames(listed[place])
    ]
