"""Conversations as lists of turns, whoever wrote them: OpenAI's `messages`, ShareGPT's `from` and `value`, GLM-4's
tools in the system message, and official records with something of these in them. All are read by the same rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from glmstudio.data.formats.absent import is_absent
from glmstudio.data.formats.turn_calls import Call, call_list, openai_calls, result_list
from glmstudio.data.formats.wording import (
    Fault,
    ParsedConversation,
    call,
    content_of,
    conversation,
    official,
    tools_given,
    tools_of,
)
from glmstudio.data.formats.written_calls import has_trace, written_calls
from glmstudio.data.protocol.turns import PLACE, TOGETHER
from glmstudio.data.protocol.turns import ROLES as OFFICIAL
from glmstudio.errors import StudioError
from glmstudio.files import short

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "function_call": "call",
    "tool_call": "call",
    "tool": "result",
    "function": "result",
    "observation": "result",
    "tool_response": "result",
    "function_response": "result",
}
Turn = dict[Any, Any]
_UNREADABLE = "?"  # no arguments


def from_messages(record: dict[str, Any]) -> ParsedConversation:
    """A record of `messages`. Raises StudioError."""
    messages = record["messages"]
    if not isinstance(messages, list) or not messages:
        raise StudioError("data.openai_messages")
    return _from_turns(record, messages)


def from_sharegpt(record: dict[str, Any]) -> ParsedConversation:
    """A record of `conversations` whose turns are `from` somebody. Raises StudioError."""
    return _from_turns(record, record["conversations"])


def from_official(record: dict[str, Any]) -> ParsedConversation:
    """A record in the official format; what others write into it is read as in theirs. Raises StudioError."""
    record = _with_listed_tools(record)
    turns = record.get("conversations")
    if isinstance(turns, list):
        turns = [_with_parameters(turn) for turn in turns]
        record = record | {"conversations": turns}
    if not isinstance(turns, list) or not _has_more(turns):
        return official(record)
    reader = TurnReader(_names(record.get("tools")) | _names(_system_tools(turns)))
    reader.read(turns)
    if "tools" not in record and (tools := _system_tools(turns)):
        record = record | {"tools": tools}
    return reader.told(official(record | {"conversations": reader.turns}))


def _from_turns(record: dict[str, Any], turns: list[Any]) -> ParsedConversation:
    given = tools_of(record.get("tools"))
    if given is None:
        given = tools_of(record.get("functions"))
    own = tools_of(_system_tools(turns))
    tools = own if not given else given + own if isinstance(given, list) else given
    reader = TurnReader(_names(tools))
    if record.get("system"):
        reader.turns.append({"role": "system", "content": record["system"]})
    reader.read(turns)
    return reader.told(conversation(reader.turns, tools))


class TurnReader:
    """Turns of anybody's as official ones: each call next to its result. `offered` are the names of the tools."""

    def __init__(self, offered: frozenset[str] = frozenset()) -> None:
        self.turns: list[Turn] = []
        self._faults: list[Fault] = []
        self._offered = offered
        self._waiting: list[tuple[Any, int, Turn]] = []  # calls without a result: their ids, their turns' numbers
        self._answered = False  # whether one of the last calls has its result
        self._calls_read = False

    def told(self, parsed: ParsedConversation) -> ParsedConversation:
        """The conversation, with what the reading of its turns found."""
        return replace(parsed, faults=tuple(self._faults), calls_read=self._calls_read)

    def read(self, turns: Sequence[Any]) -> None:
        """All turns. Raises StudioError for one that cannot be read."""
        roles = [_role(turn, number) for number, turn in enumerate(turns, 1)]
        for number, (turn, role, after) in enumerate(zip(turns, roles, [*roles[1:], ""], strict=True), 1):
            if role == "result":
                self._result(turn, number, last=after != "result")
                continue
            calls, content = self._calls(turn, role, number, followed=after == "result")
            if self._waiting and (not calls or self._answered):
                raise StudioError("data.call_no_result", number=self._waiting[0][1])
            self._answered = False
            self._said(turn, role, number, content)
            self._called(turn, number, calls)
        for _, _, left in self._waiting:
            left["observation"] = ""  # never learned; its role is what ends the call

    def _calls(self, turn: Turn, role: str, number: int, *, followed: bool) -> tuple[list[Call], Any]:
        """Id, name and arguments of each call that a turn makes, and what it says besides."""
        if role == "call":
            return [(None, *each) for each in call_list(_content(turn), number)], None
        content = content_of(_content(turn), role, number)
        if role != "assistant":
            return [], content
        if calls := openai_calls(turn, number):
            return calls, content
        if isinstance(name := turn.get("metadata"), str) and name.strip():
            made = written_calls(f"{name.strip()}\n{content}")
            return [(None, name.strip(), made.calls[0][1] if made else _UNREADABLE)], None
        return self._by_hand(content, number, followed=followed) if isinstance(content, str) else ([], content)

    def _by_hand(self, content: str, number: int, *, followed: bool) -> tuple[list[Call], Any]:
        found = written_calls(content)
        if found is None or not (found.sure or followed or all(name in self._offered for name, _ in found.calls)):
            if has_trace(content):
                self._faults.append(Fault(StudioError("data.call_by_hand", number=number)))
            return [], content
        self._calls_read = True
        return [(None, *each) for each in found.calls], found.thought

    def _said(self, turn: Turn, role: str, number: int, content: Any) -> None:
        if role == "official":
            self.turns.append(turn | {PLACE: number})
        elif role != "call" and not (_is_silent(turn, role) and content in (None, "")):
            self.turns.append({"role": role, "content": content, PLACE: number} | _loss(turn, number))

    def _called(self, turn: Turn, number: int, calls: list[Call]) -> None:
        if calls and self.turns and self.turns[-1].get(PLACE) == number and self.turns[-1].get("content") in (None, ""):
            self.turns.pop()
        for known, name, arguments in calls:
            made, faults = call(name, arguments, number)
            beside = {TOGETHER: True} if self._waiting else {}
            self.turns.append(made | beside | _loss(turn, number))
            self._faults += faults
            self._waiting.append((known, number, self.turns[-1]))

    def _result(self, turn: Turn, number: int, *, last: bool) -> None:
        """Put a result to the call that it names, or to the next one; a list of them to as many calls."""
        if _is_official_call(turn):
            self.turns.append(turn | {PLACE: number})
            return
        named = turn.get("tool_call_id")
        place = next((at for at, (known, _, _) in enumerate(self._waiting) if named is None or known == named), None)
        if place is None:
            raise StudioError("data.result_no_call", number=number)
        said = content_of(_content(turn), "result", number)
        each = result_list(said, len(self._waiting)) if last and named is None and not self._answered else None
        if each is not None:
            for (_, _, asked), result in zip(self._waiting, each, strict=True):
                asked["observation"] = result
            self._waiting.clear()
            return
        _, _, asked = self._waiting.pop(place)
        asked["observation"] = "" if said is None else said
        self._answered = True


def _role(turn: Any, number: int) -> str:
    if not isinstance(turn, dict):
        raise StudioError("data.turn_not_object", number=number)
    given = turn.get("role", turn.get("from"))
    role = _known(given)
    if role is None:
        raise StudioError("data.turn_role", number=number, role=short(given), roles=", ".join(ROLES))
    return "official" if role == "result" and _is_official_call(turn) else role


def _known(given: Any) -> str | None:
    """What a role means, in whatever case it is written."""
    return ROLES.get(given.strip().lower()) if isinstance(given, str) else None


def _is_official_call(turn: Turn) -> bool:
    """Whether it is the official turn that holds a call with its result."""
    if turn.get("role") != "tool":
        return False
    return "parameters" in turn or "observation" in turn or ("name" in turn and "content" not in turn)


def _with_parameters(turn: Any) -> Any:
    """An official call as it is; one without arguments has none."""
    if isinstance(turn, dict) and _is_official_call(turn) and "parameters" not in turn and "name" in turn:
        return turn | {"parameters": {}}
    return turn


def _content(turn: Turn) -> Any:
    return turn.get("content", turn.get("value"))


def _is_silent(turn: Turn, role: str) -> bool:
    """Whether a turn may say nothing, because its tools are elsewhere."""
    return role == "system" and bool(turn.get("tools"))


def _loss(turn: Turn, number: int) -> Turn:
    weight = turn.get("weight", 1)
    if weight not in (0, 1):
        raise StudioError("data.openai_weight", number=number)
    return {"loss": False} if not weight else {"loss": turn["loss"]} if "loss" in turn else {}


def _system_tools(turns: Sequence[Any]) -> list[Any]:
    """The tools that stand in system messages, as GLM-4's records have them."""
    own: list[Any] = []
    for turn in turns:
        if isinstance(turn, dict) and _known(turn.get("role", turn.get("from"))) == "system":
            given = tools_given(turn.get("tools"))
            own += given if isinstance(given, list) else [] if given is None else [given]
    return own


def _names(tools: Any) -> frozenset[str]:
    if not isinstance(tools, list):
        return frozenset()
    inner = [tool.get("function", tool) if isinstance(tool, dict) else None for tool in tools]
    names = [each.get("name") for each in inner if isinstance(each, dict)]
    return frozenset(name for name in names if isinstance(name, str))


def _with_listed_tools(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its tools as a list where they stand there as the text of one."""
    if not isinstance(given := record.get("tools"), str):
        return record
    try:
        tools = tools_given(given)
    except StudioError:
        return record
    if is_absent(tools) or tools == []:
        return {name: value for name, value in record.items() if name != "tools"}
    return record | {"tools": tools}


def _has_more(turns: list[Any]) -> bool:
    """Whether official turns hold what only other formats have, and all of it is known."""
    if not all(isinstance(turn, dict) and isinstance(turn.get("role"), str) for turn in turns):
        return False
    return all(_known(turn["role"]) for turn in turns) and any(map(_is_foreign, turns))


def _is_foreign(turn: Turn) -> bool:
    content, role = turn.get("content"), turn["role"]
    if (
        role not in OFFICIAL
        or isinstance(content, list)
        or "weight" in turn
        or (role == "tool" and not _is_official_call(turn))
    ):
        return True
    if role == "assistant":
        if turn.get("metadata") or turn.get("tool_calls") or turn.get("function_call"):
            return True
        return isinstance(content, str) and (written_calls(content) is not None or has_trace(content))
    return _is_silent(turn, role)
