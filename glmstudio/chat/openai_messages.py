"""Between OpenAI's chat messages and a model's turns, both ways. Metadata is kept, so second calls work."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from glmstudio.families.chatglm3 import CHATGLM3
from glmstudio.families.family import Family
from glmstudio.families.message import INTERPRETER, Message, listed_tool, tools_message
from glmstudio.families.python_calls import CallError, read_arguments
from glmstudio.files import whole_text

MOST_CALLS = 128
_TOOL_NAME = re.compile(r"[A-Za-z_][\w.:/-]{0,63}", re.ASCII)  # as far as a name alone tells a tool from a sentence
_NAME = re.compile(r"[^\s\x00-\x1f]{1,64}")


class ProtocolError(ValueError):
    """A request that cannot be understood; the message is for the client's programmer, `param` names the field."""

    def __init__(self, message: str, param: str | None = None, *, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.param, self.code, self.status = param, code, status


def to_turns(messages: Any, tools: Any = None) -> list[Message]:
    """OpenAI messages (and tools) as turns. Raises ProtocolError."""
    if not isinstance(messages, list) or not messages:
        raise ProtocolError("messages must be a non-empty list.", "messages")
    turns: list[Message] = []
    calls: dict[
        str, list[Message]
    ] = {}  # of the assistant's message before: each call's turns, to which its result goes
    for number, message in enumerate(messages):
        if isinstance(message, dict) and message.get("role") in ("tool", "observation", "function"):
            _result(message, number, calls, turns)
            continue
        turns += _closed(calls)
        turns += _turn(message, number, calls)
    turns += _closed(calls)
    listed = [_listed(tool, number) for number, tool in enumerate(tools or ())]
    if not listed:
        return turns
    # The tools stand first; what the user wants of the system is told beside them.
    system = [turn.content for turn in turns if turn.role == "system"]
    rest = [turn for turn in turns if turn.role != "system"]
    return [tools_message(listed, system), *rest]


@dataclass(frozen=True)
class Begun:
    """The model begins to call this tool."""

    index: int
    id: str
    name: str


@dataclass(frozen=True)
class Filled:
    """The call is whole: its arguments as JSON, or what was written where they cannot be read."""

    index: int
    arguments: str


Piece = str | Begun | Filled


@dataclass
class AnswerParser:
    """One answer while it arrives: text that may be shown at once, and calls that must be whole first.

    The model writes segments; each begins with `metadata` and a newline. Empty metadata means text, the name of a tool
    that the request offered (`tools`; None where they are not known: any name) means a call of it, if it offered any
    (`may_call`). Anything else is the first line of a text, as after other trainers' templates.
    """

    family: Family = CHATGLM3
    may_call: bool = True
    tools: Collection[str] | None = None
    text: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    _segment: str = ""
    _name: str | None = None
    _given: int = 0

    def push(self, piece: str) -> list[Piece]:
        """Take the next piece of the current segment; returns what is known by it."""
        self._segment += piece
        known: list[Piece] = []
        if self._name is None:
            name, newline, rest = self._segment.partition("\n")
            if not newline:
                return []
            self._name = ""
            if self.may_call and self._is_tool(name.strip()):
                self._name = name.strip()
            if self._name or (self.may_call and not name.strip()):
                self._segment = rest
            if self._name:
                known.append(self._begin(self._name))
        if self._name:
            return known
        # The space in front of an answer belongs to the format, not to the answer.
        shown = self._segment.lstrip() if not self._given else self._segment[self._given :]
        if not shown:  # half a character, say
            return known
        self._given = len(self._segment)
        self.text += shown
        return [*known, shown]

    def end_segment(self) -> list[Piece]:
        """The current segment is over; returns what was still held back."""
        held: list[Piece] = []
        if self._name is None and self._segment.strip():
            # No newline came: an answer without its first line is still an answer.
            held = [self._segment.strip()]
            self.text += self._segment.strip()
        elif self._name:
            arguments = _arguments(self.family, self._name, self._segment)
            self.calls[-1]["function"]["arguments"] = arguments
            held = [Filled(len(self.calls) - 1, arguments)]
        self._segment, self._name, self._given = "", None, 0
        return held

    def _is_tool(self, line: str) -> bool:
        return bool(_TOOL_NAME.fullmatch(line)) if self.tools is None else line in self.tools

    def _begin(self, name: str) -> Begun:
        made = f"call_{uuid.uuid4().hex[:16]}"
        self.calls.append({"id": made, "type": "function", "function": {"name": name, "arguments": ""}})
        return Begun(len(self.calls) - 1, made, name)


def assistant_message(text: str, calls: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The OpenAI message of a finished answer."""
    message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else "")}
    if calls:
        message["tool_calls"] = list(calls)
    return message


def _arguments(family: Family, name: str, content: str) -> str:
    """A call's arguments as JSON. What cannot be parsed is handed on as it is, as other servers do."""
    try:
        arguments = family.read_call(name, content)
    except CallError:
        return content.strip()
    try:
        # A model that escapes an emoji writes it as two halves.
        return whole_text(json.dumps(arguments, ensure_ascii=False))
    except (TypeError, ValueError):
        return content.strip()


def _turn(message: Any, number: int, calls: dict[str, list[Message]]) -> list[Message]:
    if not isinstance(message, dict):
        raise ProtocolError(f"messages[{number}] must be an object.", f"messages[{number}]")
    role, text = message.get("role"), _text(message.get("content"), number)
    if role in ("system", "developer"):
        return [Message("system", text)]
    if role == "user":
        return [Message("user", text)]
    if role != "assistant":
        raise ProtocolError(
            f"messages[{number}].role must be system, user, assistant or tool.", f"messages[{number}].role"
        )
    asked = message.get("tool_calls") or []
    if message.get("function_call"):  # OpenAI's older form, of which a message has one
        asked = [{"function": message["function_call"]}]
    if not isinstance(asked, list):
        raise ProtocolError(f"messages[{number}].tool_calls must be a list.", f"messages[{number}].tool_calls")
    if len(asked) > MOST_CALLS:
        raise ProtocolError(f"A message may call at most {MOST_CALLS} tools.", f"messages[{number}].tool_calls")
    for place, call in enumerate(asked):
        made = replace(_past_call(call, number), together=place > 0)
        name = call.get("id")
        calls[name if isinstance(name, str) and name not in calls else f"{number}.{place}"] = [made]
    return [Message("assistant", text)] if text or not asked else []


def _result(message: dict[str, Any], number: int, calls: dict[str, list[Message]], turns: list[Message]) -> None:
    """Put a tool's result behind the call that it names; in a model's own words, behind what was said last."""
    seen = Message("observation", _text(message.get("content"), number))
    if message.get("role") != "tool":
        waiting = next((name for name, parts in calls.items() if len(parts) == 1), None)
        (turns if waiting is None else calls[waiting]).append(seen)
        return
    name = message.get("tool_call_id")
    if not isinstance(name, str) or name not in calls or len(calls[name]) > 1:
        raise ProtocolError(
            f"messages[{number}].tool_call_id names no call of the message before that waits for a result.",
            f"messages[{number}].tool_call_id",
        )
    calls[name].append(seen)


def _closed(calls: dict[str, list[Message]]) -> list[Message]:
    """The calls with their results, in the order of the calls."""
    turns = [turn for parts in calls.values() for turn in parts]
    calls.clear()
    return turns


def _past_call(call: Any, number: int) -> Message:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ProtocolError(
            f"messages[{number}].tool_calls needs function.name and function.arguments.",
            f"messages[{number}].tool_calls",
        )
    written, name = function.get("arguments"), function["name"].split("\n")[0]
    arguments = read_arguments(written)
    bare = name == INTERPRETER and arguments is not None and isinstance(arguments.get("code"), str)
    if arguments is None or not (bare or all(map(str.isidentifier, arguments))):
        return Message("assistant", str(written), metadata=name)
    return Message("assistant", "", metadata=name, arguments=arguments)


def _text(content: Any, number: int) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [None]
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise ProtocolError(f"messages[{number}].content must be text.", f"messages[{number}].content")
    return "".join(str(text) for text in texts)


def _listed(tool: Any, number: int) -> dict[str, Any]:
    listed = listed_tool(tool)
    if listed is None:
        raise ProtocolError("Each tool needs a function with a name.", f"tools[{number}]")
    if not _NAME.fullmatch(listed["name"]):
        raise ProtocolError("A tool's name is 1 to 64 letters, digits or signs, without spaces.", f"tools[{number}]")
    return listed


def tool_names(tools: Any) -> list[str]:
    """The names under which a request's tools are called. Raises ProtocolError."""
    return [_listed(tool, number)["name"] for number, tool in enumerate(tools or ())]
