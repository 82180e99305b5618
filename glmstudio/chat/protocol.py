"""Between OpenAI's chat messages and ChatGLM3's turns, both ways. Metadata is kept, so second calls work."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from glmstudio.data.calls import CallError, parse_call, render_call
from glmstudio.data.prompt import TOOL_PROMPT, Message, tools_message


class ProtocolError(ValueError):
    """A request that cannot be understood; the message is for the client's programmer."""


def to_turns(messages: Any, tools: Any = None) -> list[Message]:
    """OpenAI messages (and tools) as ChatGLM3's turns. Raises ProtocolError."""
    if not isinstance(messages, list) or not messages:
        raise ProtocolError("messages must be a non-empty list.")
    turns: list[Message] = []
    for number, message in enumerate(messages):
        turns += _turn(message, number)
    listed = [_flat(tool) for tool in tools or ()]
    if not listed:
        return turns
    # ChatGLM3 knows one system message, the first; the tools stand in it, after what the user wants there.
    system = [turn.content for turn in turns if turn.role == "system"]
    rest = [turn for turn in turns if turn.role != "system"]
    return [tools_message(listed, "\n".join([*system, TOOL_PROMPT])), *rest]


@dataclass
class Answer:
    """One answer while it arrives: text that may be shown at once, and calls that must be whole first.

    The model writes segments; each begins with `metadata` and a newline. Empty metadata means text, a name means a
    call of that tool, if the request offered any (`may_call`); else it is text too.
    """

    may_call: bool = True
    text: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    _segment: str = ""
    _name: str | None = None
    _given: int = 0

    def push(self, piece: str) -> str:
        """Take the next piece of the current segment; returns the text that can be shown now."""
        self._segment += piece
        if self._name is None:
            name, newline, rest = self._segment.partition("\n")
            if not newline:
                return ""
            if self.may_call:
                self._name, self._segment = name.strip(), rest
            else:
                self._name = ""
        if self._name:
            return ""
        # The space in front of an answer belongs to the format, not to the answer.
        shown = self._segment.lstrip() if not self._given else self._segment[self._given :]
        self._given = len(self._segment) if shown else 0
        self.text += shown
        return shown

    def end_segment(self) -> str:
        """The current segment is over; returns text that was still held back."""
        held = ""
        if self._name is None and self._segment.strip():
            # No newline came: an answer without its first line is still an answer.
            held = self._segment.strip()
            self.text += held
        elif self._name:
            self.calls.append(_call(self._name, self._segment))
        self._segment, self._name, self._given = "", None, 0
        return held


def assistant_message(text: str, calls: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The OpenAI message of a finished answer."""
    message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else "")}
    if calls:
        message["tool_calls"] = list(calls)
    return message


def _call(name: str, content: str) -> dict[str, Any]:
    """An OpenAI tool call. Arguments that cannot be parsed are handed on as they are, as other servers do."""
    try:
        arguments = _whole_characters(json.dumps(parse_call(content), ensure_ascii=False))
    except (CallError, TypeError, ValueError):
        arguments = content.strip()
    return {
        "id": f"call_{uuid.uuid4().hex[:16]}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def _whole_characters(text: str) -> str:
    """Text that UTF-8 can hold: a model that escapes an emoji writes it as two halves."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _turn(message: Any, number: int) -> list[Message]:
    if not isinstance(message, dict):
        raise ProtocolError(f"messages[{number}] must be an object.")
    role, text = message.get("role"), _text(message.get("content"), number)
    if role in ("system", "developer"):
        return [Message("system", text)]
    if role == "user":
        return [Message("user", text)]
    if role in ("tool", "observation", "function"):
        return [Message("observation", text)]
    if role == "assistant":
        calls = message.get("tool_calls") or []
        if not isinstance(calls, list):
            raise ProtocolError(f"messages[{number}].tool_calls must be a list.")
        said = [Message("assistant", text)] if text or not calls else []
        return said + [_past_call(call, number) for call in calls]
    raise ProtocolError(f"messages[{number}].role must be system, user, assistant or tool.")


def _past_call(call: Any, number: int) -> Message:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ProtocolError(f"messages[{number}].tool_calls needs function.name and function.arguments.")
    written = function.get("arguments") or "{}"
    try:
        arguments = json.loads(written)
    except (TypeError, ValueError, RecursionError):
        arguments = None
    name = function["name"].split("\n")[0]
    if not isinstance(arguments, dict) or not all(key.isidentifier() for key in arguments):
        return Message("assistant", str(written), metadata=name)
    return Message("assistant", render_call(arguments), metadata=name)


def _text(content: Any, number: int) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [None]
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise ProtocolError(f"messages[{number}].content must be text.")
    return "".join(str(text) for text in texts)


def _flat(tool: Any) -> dict[str, Any]:
    """A tool as ChatGLM3 lists it: OpenAI's wrapping is not part of what the model was trained on."""
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ProtocolError("Each tool needs a function with a name.")
    listed = {"name": function["name"], "description": function.get("description") or ""}
    return listed | {"parameters": function.get("parameters") or {"type": "object", "properties": {}}}
