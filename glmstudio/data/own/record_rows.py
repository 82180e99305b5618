"""The rows of an own dataset, to be edited: questions and answers as texts, anything else as its JSON.

They are written as JSONL, one record a line. A record that nobody touches keeps its text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from glmstudio.data.formats import conversations, facts, format_of, plain
from glmstudio.data.formats.plain import normal_name, pair_of
from glmstudio.data.own.own_files import changing, find_own, free_path, replaced
from glmstudio.data.readers.sources import RECORDS, is_broken, open_text
from glmstudio.data.readers.values import read_values
from glmstudio.errors import StudioError
from glmstudio.files import LARGEST, whole_text, write_text

LONGEST_TEXT = 1 << 20
_BESIDES = ("history", "system")  # what is told besides a question and its answer

Where = tuple[Any, ...]  # the keys that lead to a text


@dataclass(frozen=True)
class RecordRow:
    """A record: its question and answer where it is no more than these, else its JSON."""

    question: str = ""
    answer: str = ""
    json: str | None = None


@dataclass(frozen=True)
class RecordRows:
    """All records of a file as lines of JSON. `mark` is another one once the file was changed."""

    file: Path
    mark: str
    lines: tuple[str, ...]

    def row(self, number: int) -> RecordRow:
        """The record with this number, from 0."""
        record = _parsed(self.lines[number])
        places = _places(record)
        if places is None:
            return RecordRow(json=self.lines[number])
        return RecordRow(_at(record, places[0]), _at(record, places[1]))


@dataclass(frozen=True)
class RowEdit:
    """What changes: by a row's number its new texts ("question", "answer", "json"), the numbers of rows to delete, and
    new rows."""

    changed: Mapping[int, Mapping[str, str]]
    deleted: frozenset[int] = frozenset()
    added: Sequence[tuple[str, str]] = ()


def read_rows(file: Path) -> RecordRows:
    """The rows of an own file. Raises StudioError where it cannot be edited here, and says why."""
    own = find_own(file)
    if own is None or file not in own.files:
        raise StudioError("data.not_own", file=file.name)
    if file.suffix.lower() not in RECORDS:
        raise StudioError("data.rows_text", file=file.name)
    try:
        about = file.stat()
    except OSError as error:
        raise StudioError("data.file_missing", file=file.name) from error
    if about.st_size > LARGEST // 2:
        raise StudioError("data.rows_large", file=file.name, most=LARGEST >> 21)
    return _read(file, f"{about.st_mtime_ns}-{about.st_size}-{about.st_ino}")


def save_rows(file: Path, mark: str, edit: RowEdit) -> Path:
    """Write the rows with what was changed, whole or not at all. Returns the file, which now is a .jsonl.

    Raises StudioError where the file was changed by others since `mark`, where JSON is wrong, and where no row is left.
    """
    with changing():
        rows = read_rows(file)
        if rows.mark != mark:
            raise StudioError("data.rows_changed", file=file.name)
        lines = _edited(rows, edit)
        if tuple(lines) == rows.lines:
            return file
        if not lines:
            raise StudioError("data.rows_none", file=file.name)
        target = file if file.suffix == ".jsonl" else free_path(file.with_suffix(".jsonl"))
        write_text(target, "".join(f"{line}\n" for line in lines))
        replaced(file, target, edited=True)
        if target != file:
            file.unlink()
        return target


def _edited(rows: RecordRows, edit: RowEdit) -> list[str]:
    lines = list(rows.lines)
    for number, texts in edit.changed.items():
        if 0 <= number < len(lines) and number not in edit.deleted:
            lines[number] = _with(lines[number], number, texts)
    pattern = next((record for line in lines if _places(record := _parsed(line))), {"question": "", "answer": ""})
    lines = [line for number, line in enumerate(lines) if number not in edit.deleted]
    for number, (question, answer) in enumerate(edit.added, len(lines)):
        if not question.strip() or not answer.strip():
            raise StudioError("data.row_half", row=number + 1)
        lines.append(_new(pattern, question, answer))
    return lines


@lru_cache(2)
def _read(file: Path, mark: str) -> RecordRows:
    return RecordRows(file, mark, tuple(_json_lines(file) if file.suffix == ".jsonl" else _value_lines(file)))


def _json_lines(file: Path) -> list[str]:
    with open_text(file) as text:
        lines = [line.rstrip("\r\n") for line in text if line.strip()]
    if (bad := next((number for number, line in enumerate(lines, 1) if is_broken(line)), None)) is not None:
        raise StudioError("data.rows_broken", file=file.name, line=bad)
    return lines


def _value_lines(file: Path) -> list[str]:
    lines = []
    for line, value in read_values(file):
        if isinstance(value, StudioError):  # it would be lost
            raise StudioError("data.rows_broken", file=file.name, line=line)
        lines.append(_dumped(value))
    return lines


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _places(record: Any) -> tuple[Where, Where] | None:
    """Where the question and the answer stand in a record that is no more than these."""
    if not isinstance(record, dict):
        return None
    form = format_of(record)
    if form in ("openai", "chatglm3"):
        places = _turn_places(record, "messages" if form == "openai" else "conversations")
    else:
        places = _named_places(record, form)
    if places is None or not all(isinstance(_at(record, each), str) for each in places):
        return None
    return places if _is_all_that_is_read(record, places) else None


def _is_all_that_is_read(record: dict[str, Any], places: tuple[Where, Where]) -> bool:
    """Whether these texts are what the record is read as; so may be one of them that is still empty."""
    texts = [_at(record, each).strip() for each in places]
    if not all(texts):
        return True
    found = list(conversations(record))
    if len(found) != 1 or isinstance(found[0], StudioError):
        return False
    turns = found[0].record.get("conversations") if isinstance(found[0].record, dict) else None
    return isinstance(turns, list) and [str(turn.get("content")).strip() for turn in turns] == texts


def _turn_places(record: dict[str, Any], name: str) -> tuple[Where, Where] | None:
    """Of a conversation of one question and its answer, without tools and all else."""
    turns = record.get(name)
    if set(record) != {name} or not isinstance(turns, list) or len(turns) != 2:
        return None
    if not all(isinstance(turn, dict) and set(turn) == {"role", "content"} for turn in turns):
        return None
    if [turn["role"] for turn in turns] != ["user", "assistant"]:
        return None
    return (name, 0, "content"), (name, 1, "content")


def _named_places(record: dict[str, Any], form: str) -> tuple[Where, Where] | None:
    """Of an object with a question and its answer, and nothing else that is read."""
    named = {plain.ALPACA.get(normal_name(name), normal_name(name)): name for name in record}
    more = [*_BESIDES, "input"] if form == "alpaca" else _BESIDES
    if any(record[named[name]] for name in more if name in named):
        return None
    if form == "alpaca":
        return ((named["instruction"],), (named["output"],)) if "output" in named else None
    if form == "facts" and any(value for name, value in record.items() if facts.several_of(name)):
        return None
    names = pair_of(record, facts.PAIRS if form == "facts" else plain.PAIRS) if form in ("facts", "pairs") else None
    return ((names[0],), (names[1],)) if names else None


def _at(record: Any, where: Where) -> Any:
    for key in where:
        record = record[key]
    return record


def _put(record: Any, where: Where, text: str) -> None:
    for key in where[:-1]:
        record = record[key]
    record[where[-1]] = text


def _with(line: str, number: int, texts: Mapping[str, str]) -> str:
    """The record with new texts."""
    if "json" in texts:
        text = _cell(texts["json"])
        if not isinstance(_parsed(text), dict):
            raise StudioError("data.row_json", row=number + 1)
        return _dumped(_parsed(text))
    record = _parsed(line)
    for where, side in zip(_places(record) or (), ("question", "answer"), strict=False):
        if side in texts:
            _put(record, where, _cell(texts[side]))
    return _dumped(record)


def _new(pattern: dict[str, Any], question: str, answer: str) -> str:
    """A record in the form of those that are there."""
    record = deepcopy(pattern)
    places = _places(record) or (("question",), ("answer",))
    if len(places[0]) == 1:  # the other columns belong to the other record
        record = {places[0][0]: "", places[1][0]: ""}
    for where, text in zip(places, (question, answer), strict=True):
        _put(record, where, _cell(text))
    return _dumped(record)


def _dumped(record: Any) -> str:
    return whole_text(json.dumps(record, ensure_ascii=False))


def _cell(text: str) -> str:
    return whole_text(text[:LONGEST_TEXT]).replace("\r\n", "\n")
