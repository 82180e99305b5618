"""Training data as people bring it: the official multi-turn records, in `.json` or `.jsonl`.

A record is `{"tools": ..., "conversations": [{"role", "content", "loss"?}, ...]}`; the role `tool` holds a call and
its result: `{"role": "tool", "name", "parameters", "observation"}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmstudio.data.calls import render_call
from glmstudio.data.prompt import Message, is_text, tools_message
from glmstudio.errors import StudioError

ROLES = ("system", "user", "assistant", "observation", "tool")
_SPACE = " \t\r\n"


@dataclass(frozen=True)
class Problem:
    """Why one record cannot be used: the file, its line (counted from 1), and the reason."""

    file: str
    line: int
    reason: StudioError

    def text(self, lang: str = "en") -> str:
        """The reason as a sentence."""
        return self.reason.what(lang)

    def to_json(self, lang: str = "en") -> dict[str, Any]:
        """As `data check --json` prints it."""
        return {"file": self.file, "line": self.line, "reason": self.text(lang)}


@dataclass(frozen=True)
class Record:
    """One conversation that can be trained on, and where it stands."""

    line: int
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Check:
    """What a file holds: how many usable records, and what is wrong with the others."""

    records: int
    problems: tuple[Problem, ...]


def check_file(path: str | Path) -> Check:
    """Read a whole file and count. Raises StudioError where the file itself cannot be read."""
    records, problems = 0, []
    for item in read_records(path):
        if isinstance(item, Record):
            records += 1
        else:
            problems.append(item)
    return Check(records, tuple(problems))


def read_records(path: str | Path) -> Iterator[Record | Problem]:
    """Every record of a file in order, or the problem in its place.

    Raises StudioError where there is no such file or its name does not end in `.json` or `.jsonl`.
    """
    file = Path(path)
    for line, value in read_values(file):
        if isinstance(value, StudioError):
            yield Problem(str(file), line, value)
            continue
        try:
            yield Record(line, record_messages(value))
        except StudioError as reason:
            yield Problem(str(file), line, reason)


def record_messages(record: Any) -> tuple[Message, ...]:
    """The messages of one record. Raises StudioError that says what is wrong with it."""
    if not isinstance(record, dict):
        raise StudioError("data.record_not_object")
    turns = record.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise StudioError("data.record_no_conversations")
    messages = [tools_message(record["tools"])] if "tools" in record else []
    for number, turn in enumerate(turns, 1):
        messages += _turn_messages(turn, number)
    if not any(message.trained for message in messages):
        raise StudioError("data.record_nothing_trained")
    if not is_text(messages):
        raise StudioError("data.record_half_character")
    return tuple(messages)


def _turn_messages(turn: Any, number: int) -> list[Message]:
    if not isinstance(turn, dict):
        raise StudioError("data.turn_not_object", number=number)
    role, loss = turn.get("role"), turn.get("loss", True)
    if role not in ROLES:
        raise StudioError("data.turn_role", number=number, role=str(role), roles=", ".join(ROLES))
    if not isinstance(loss, bool):
        raise StudioError("data.turn_loss", number=number)
    if role == "tool":
        return _tool_messages(turn, number, loss)
    content = turn.get("content")
    if not isinstance(content, str):
        raise StudioError("data.turn_content", number=number)
    return [Message(role, content, trained=loss and role == "assistant")]


def _tool_messages(turn: dict[str, Any], number: int, loss: bool) -> list[Message]:
    name, arguments = turn.get("name"), turn.get("parameters")
    if not isinstance(name, str) or not name or "\n" in name:
        raise StudioError("data.tool_name", number=number)
    if not isinstance(arguments, dict):
        raise StudioError("data.tool_parameters", number=number, name=name)
    for key in arguments:
        if not key.isidentifier():
            raise StudioError("data.tool_argument", number=number, name=name, argument=key)
    seen = turn.get("observation")
    text = seen if isinstance(seen, str) else json.dumps(seen, ensure_ascii=False)
    call = Message("assistant", render_call(arguments), metadata=name, trained=loss)
    return [call, Message("observation", text)]


def read_values(file: Path) -> Iterator[tuple[int, Any]]:
    """Line number and JSON value of every entry of a `.jsonl` file or a `.json` array; StudioError where it is none."""
    if file.suffix.lower() not in (".json", ".jsonl"):
        raise StudioError("data.file_kind", file=str(file))
    try:
        if file.suffix.lower() == ".jsonl":
            yield from _lines(file)
        else:
            yield from _array(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise StudioError("data.file_missing", file=str(file)) from error
    except UnicodeDecodeError as error:
        raise StudioError("data.file_encoding", file=str(file)) from error
    except OSError as error:
        raise StudioError("data.file_unreadable", file=str(file), reason=error.strerror or str(error)) from error


def _lines(file: Path) -> Iterator[tuple[int, Any]]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    yield number, json.loads(line.rstrip())
                except (ValueError, RecursionError) as error:
                    yield number, _not_json(error)


def _array(text: str) -> Iterator[tuple[int, Any]]:
    """The elements of a JSON array with the line each starts on; stops at the first place that is not JSON."""
    decoder = json.JSONDecoder()
    place, line, counted = _skip(text, 0), 1, 0
    if text[place : place + 1] != "[":
        yield 1, StudioError("data.file_not_array")
        return
    place = _skip(text, place + 1)
    while text[place : place + 1] != "]":
        line, counted = line + text.count("\n", counted, place), place
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            yield line, _not_json(error)
            return
        yield line, value
        place = _skip(text, place)
        if text[place : place + 1] == ",":
            place = _skip(text, place + 1)
        elif text[place : place + 1] != "]":
            yield line + text.count("\n", counted, place), StudioError("data.file_unfinished")
            return


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in _SPACE:
        place += 1
    return place


def _not_json(error: Exception) -> StudioError:
    return StudioError("data.not_json", column=error.colno if isinstance(error, json.JSONDecodeError) else 1)
