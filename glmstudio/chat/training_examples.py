"""A conversation as a training example: its messages, edited by a person, appended to a dataset of the studio."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmstudio.chat.conversation import Conversation
from glmstudio.data.formats import conversations
from glmstudio.data.own.own_files import CHAT, changing, note, replaced
from glmstudio.data.protocol.turns import record_messages
from glmstudio.errors import StudioError
from glmstudio.paths import paths

DEFAULT = "chat"
_NAME = re.compile(r"\w[\w.-]{0,63}")


@dataclass(frozen=True)
class Line:
    """One text of the example that may be edited. `tool` names the tool of a call, whose text is its arguments."""

    role: str
    text: str
    tool: str = ""


def record(dialogue: Conversation, last: str, side: int, edited: Mapping[int, str] | None = None) -> dict[str, Any]:
    """The conversation up to turn `last` as a record in OpenAI's form, with the tools that the model was offered.

    `edited` replaces texts of `lines` by their number. Raises StudioError where an argument is not JSON, or where the
    result could not be trained on.
    """
    answers = dialogue.turns[last].answers
    tools = answers[min(side, len(answers) - 1)].tools if answers else []
    messages = [dict(message) for message in dialogue.messages(last, side)]
    places = _places(messages)  # as they were shown: a text that is emptied moves no other one
    for number, text in (edited or {}).items():
        if 0 <= number < len(places):
            _put(messages, places[number], text)
    made: dict[str, Any] = {"messages": messages}
    if tools:
        made["tools"] = [{"type": "function", "function": tool} for tool in tools]
    _check(made)
    return made


def lines(dialogue: Conversation, last: str, side: int) -> list[Line]:
    """The texts of the example in order."""
    messages = dialogue.messages(last, side)
    return [_line(messages, place) for place in _places(messages)]


def keep(made: dict[str, Any], name: str) -> Path:
    """Append the record to the dataset `name`; returns its file. Raises StudioError for a name that is none."""
    name = name.strip().removesuffix(".jsonl") or DEFAULT
    if not _NAME.fullmatch(name):
        raise StudioError("chat.data_name", name=name[:80])
    folder = paths().data
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.jsonl"
    if file.is_symlink():
        raise StudioError("chat.data_name", name=name)
    with changing():
        fresh = not file.exists()
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(made, ensure_ascii=False) + "\n")
        if fresh:
            note(file, CHAT)
        else:
            replaced(file, file, edited=True)
    return file


def data_sets() -> list[str]:
    """The names of the datasets that were made here."""
    folder = paths().data
    return sorted(file.stem for file in folder.glob("*.jsonl")) if folder.is_dir() else []


Place = tuple[int, int | None]  # the message, and the call in it


def _places(messages: list[dict[str, Any]]) -> list[Place]:
    found: list[Place] = []
    for number, message in enumerate(messages):
        if message.get("content"):
            found.append((number, None))
        found += [(number, index) for index in range(len(message.get("tool_calls") or ()))]
    return found


def _line(messages: list[dict[str, Any]], place: Place) -> Line:
    number, index = place
    message = messages[number]
    if index is None:
        return Line(message["role"], str(message["content"]))
    function = message["tool_calls"][index]["function"]
    return Line("assistant", str(function["arguments"]), tool=str(function["name"]))


def _put(messages: list[dict[str, Any]], place: Place, text: str) -> None:
    number, index = place
    if index is None:
        messages[number]["content"] = text
        return
    calls = [json.loads(json.dumps(call)) for call in messages[number]["tool_calls"]]
    calls[index]["function"]["arguments"] = text
    messages[number]["tool_calls"] = calls


def _check(made: dict[str, Any]) -> None:
    for found in conversations(made):
        if isinstance(found, StudioError):
            raise found
        record_messages(found.record, found.system)
