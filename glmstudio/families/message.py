"""One turn of a conversation, in words that belong to no family: a family says how it is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

INTERPRETER = "interpreter"  # the name of the tool that runs code
TEXT = "text"  # the role of running text, which is no turn: it is learned whole, and stands alone
GOES_ON = "goes on"  # its metadata where more of its document follows


@dataclass(frozen=True)
class Message:
    """One turn, or running text. `metadata` is the tool's name in an assistant's call; `trained` counts only in
    training.

    `arguments` are those of a call that the family is to write; a call without them is `content`, as it stands.
    `tools` is the JSON text of the tools that a system message tells of; then `content` is what the conversation's
    own system texts say before, each with a line break behind it. `official`: it tells of the code interpreter or
    calls it in a record of the official format, where the original fine-tuning script writes that as any other tool.
    """

    role: str
    content: str
    metadata: str = ""
    trained: bool = False
    arguments: dict[str, Any] | None = field(default=None, hash=False)
    tools: str = ""
    together: bool = False  # a call in the same breath as the call before, whose result it does not know
    official: bool = False

    def to_json(self) -> list[Any]:
        """As a list that `from_json` reads; whether it is trained is left out."""
        said: list[Any] = [self.role, self.content, self.metadata]
        more = [self.arguments, self.tools, self.together, *([True] if self.official else [])]
        return said if more == [None, "", False] else [*said, *more]

    @classmethod
    def from_json(cls, value: Sequence[Any]) -> Message:
        """The message of a list."""
        role, content, metadata, *more = value
        arguments, tools, together, *official = more or (None, "", False)
        return cls(
            role, content, metadata, arguments=arguments, tools=tools, together=together, official=bool(official)
        )


@dataclass(frozen=True)
class Frame:
    """A turn as a family writes it: the role's token, `metadata` and a line break, `content`."""

    role: str
    metadata: str
    content: str


def tools_message(tools: Any, system: Sequence[str] = (), *, official: bool = False) -> Message:
    """The system message that tells the model which tools there are, behind the conversation's own system texts."""
    before = "".join(f"{text}\n" for text in system)
    return Message("system", before, tools=json.dumps(tools, ensure_ascii=False), official=official)


def listed_tool(tool: Any) -> dict[str, Any] | None:
    """A tool as the model reads it, whatever form somebody gave it in: name, description and parameters, in this order
    and nothing else. None where it has no name. Training data and requests to the server both pass through here."""
    if isinstance(tool, dict) and tool.get("type") == "code_interpreter":
        return {"name": INTERPRETER, "description": "", "parameters": {}}
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return None
    listed = {"name": function["name"], "description": function.get("description") or ""}
    return listed | {"parameters": function.get("parameters") or {"type": "object", "properties": {}}}


def is_text(messages: Sequence[Message]) -> bool:
    """Whether all of it is whole characters: JSON can escape half of one, which no tokenizer takes."""
    try:
        for message in messages:
            (message.metadata + message.content + message.tools).encode()
            if message.arguments is not None:
                json.dumps(message.arguments, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
