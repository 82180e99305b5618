"""Conversations on disk: one JSON file each in `workspace/chats/`, written whole after every step of an answer."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from glmstudio.chat.conversation import MOST_TURNS, Answer, Call, ChatSettings, Conversation, from_json
from glmstudio.errors import StudioError
from glmstudio.files import read_json, write_json
from glmstudio.paths import paths

MOST_LISTED = 200
LARGEST_IMPORT = 20_000_000  # bytes
_LONGEST_SEARCHED = 50_000  # characters of a conversation
_NAME = re.compile(r"[0-9a-z-]{1,64}")
_heads: dict[str, tuple[int, Heading]] = {}


@dataclass(frozen=True)
class Heading:
    """A line of the list of conversations."""

    id: str
    title: str
    changed: float
    turns: int
    pinned: bool = False
    text: str = field(default="", repr=False, compare=False)  # what a search looks through, in small letters


def headings(find: str = "") -> list[Heading]:
    """The conversations that hold each word of `find`, the pinned ones first, then the one changed last; files that
    are none are left out."""
    words = find.lower().split()
    found = []
    for name, path in _files():
        try:
            state = os.stat(path).st_mtime_ns  # noqa: PTH116  each second, for hundreds
            known = _heads.get(name)
            if known is None or known[0] != state:
                dialogue = read(name)
                known = (state, _heading(dialogue))
                _heads[name] = known
        except (OSError, StudioError):
            continue
        if all(word in known[1].text for word in words):
            found.append(known[1])
    return sorted(found, key=lambda each: (not each.pinned, -each.changed))[:MOST_LISTED]


def _heading(dialogue: Conversation) -> Heading:
    said = [dialogue.title]
    for turn in dialogue.turns.values():
        said += [turn.question, *(part for each in turn.answers for part in each.parts if isinstance(part, str))]
    text = "\n".join(said)[:_LONGEST_SEARCHED].lower()
    return Heading(dialogue.id, dialogue.title, dialogue.changed, len(dialogue.branch()), dialogue.pinned, text)


def read(name: str) -> Conversation:
    """The conversation of that name. Raises StudioError where there is none."""
    if not _NAME.fullmatch(name):
        raise StudioError("chat.no_dialogue")
    dialogue = from_json(read_json(paths().chats / f"{name}.json"))
    dialogue.id = name  # a copied file keeps its own name, not that of the one it was copied from
    return dialogue


def write(dialogue: Conversation) -> None:
    """Keep the conversation. Raises OSError where the disk refuses."""
    write_json(paths().chats / f"{dialogue.id}.json", dialogue.to_json())


def delete(name: str) -> None:
    """Forget a conversation for good."""
    if _NAME.fullmatch(name):
        (paths().chats / f"{name}.json").unlink(missing_ok=True)


def take_in(text: str) -> Conversation:
    """A conversation from the text of a file: an export of this studio, or OpenAI's `messages`. Raises StudioError."""
    if len(text) > LARGEST_IMPORT:
        raise StudioError("chat.no_dialogue")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StudioError("chat.no_dialogue") from error
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        dialogue = _from_messages(value["messages"])
    else:
        dialogue = from_json(value)
        dialogue.id = Conversation().id
    write(dialogue)
    return dialogue


def markdown(dialogue: Conversation) -> str:
    """The branch that is looked at, to be read or printed."""
    lines = [f"# {dialogue.title}", ""]
    if dialogue.settings.system.strip():
        lines += ["> " + dialogue.settings.system.replace("\n", "\n> "), ""]
    for turn in dialogue.branch():
        lines += [f"## {turn.question}", ""]
        for answer in turn.answers:
            lines += [f"**{answer.model}** {answer.loaded}".rstrip(), ""] if answer.model else []
            for part in answer.parts:
                lines += [_called(part) if isinstance(part, Call) else part.strip(), ""]
    return "\n".join(lines)


def _called(call: Call) -> str:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return f"```text\n{call.name} {arguments}\n→ {(call.content or '').replace('```', '` ` `')}\n```"


def _from_messages(messages: list[Any]) -> Conversation:
    """A conversation of OpenAI's messages; each user message begins a turn."""
    if len(messages) > 2 * MOST_TURNS:
        raise StudioError("chat.no_dialogue")
    dialogue = Conversation(settings=ChatSettings(system=_said(messages, ("system", "developer"))))
    for message in messages:
        if not isinstance(message, dict):
            raise StudioError("chat.no_dialogue")
        if message.get("role") == "user":
            dialogue.ask(_text(message), dialogue.tip)
        elif message.get("role") in ("assistant", "tool") and dialogue.tip is not None:
            turn = dialogue.turns[dialogue.tip]
            turn.answers = turn.answers or [Answer(model="", reason="stop")]
            _add(turn.answers[0], message)
    if not dialogue.turns:
        raise StudioError("chat.no_dialogue")
    return dialogue


def _add(answer: Answer, message: dict[str, Any]) -> None:
    answer.messages.append(message)
    if message["role"] == "tool":
        for part in answer.parts:
            if isinstance(part, Call) and part.id == str(message.get("tool_call_id")):
                part.content, part.state = _text(message), "done"
        return
    if text := _text(message):
        answer.parts.append(text)
    calls = message.get("tool_calls") or []
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise StudioError("chat.no_dialogue")
        arguments = function.get("arguments")
        answer.parts.append(Call(str(call.get("id")), str(function.get("name")), _arguments(arguments)))


def _arguments(written: Any) -> dict[str, Any]:
    try:
        value = json.loads(written)
    except (TypeError, ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"": str(written)}


def _said(messages: list[Any], roles: tuple[str, ...]) -> str:
    return "\n".join(_text(each) for each in messages if isinstance(each, dict) and each.get("role") in roles)


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else ""


def _files() -> Iterator[tuple[str, str]]:
    """Name and path of each conversation's file."""
    folder = paths().chats
    try:
        files = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return
    for file in files:
        name, dot, kind = file.rpartition(".")
        if dot and kind == "json" and _NAME.fullmatch(name):
            yield name, f"{folder}/{file}"
