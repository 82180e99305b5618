"""The questions of somebody's file: a text with one on each line, or records and tables with a column of questions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmstudio.data.formats import ParsedConversation, conversations
from glmstudio.data.formats import facts as facts_format
from glmstudio.data.formats import plain as plain_format
from glmstudio.data.formats.plain import in_alpaca_words, normal_name
from glmstudio.data.protocol.turns import record_messages
from glmstudio.data.readers.sources import RECORDS, is_broken, open_text
from glmstudio.data.readers.values import read_values
from glmstudio.errors import StudioError
from glmstudio.families.message import Message
from glmstudio.files import whole_text

KINDS = (*RECORDS, ".txt")
_PAIRS = dict.fromkeys([*facts_format.PAIRS, *plain_format.COLUMN_PAIRS])
_COLUMNS = list(dict.fromkeys(question for question, _ in _PAIRS))
_SHOWN = ("question", "prompt", "query", "instruction", "问题", "提问", "指令")


@dataclass(frozen=True)
class FileQuestion:
    """A question, its line in the file, what is said before it, and the answer that the file has ("" for none)."""

    line: int
    question: str
    before: tuple[Message, ...] = ()
    expected: str = ""


def read_questions(file: Path) -> list[FileQuestion]:
    """Every question of a file, in its order; empty ones are left out. Raises StudioError for a file without any, and
    for one with a record that cannot be read."""
    if file.suffix.lower() not in KINDS or file.is_dir():
        raise StudioError("answers.file_kind", file=str(file), kinds=", ".join(KINDS))
    found = [each for each in _read(file) if each.question.strip()]
    if not found:
        raise StudioError("answers.no_questions", file=str(file), columns=", ".join(_SHOWN))
    return found


def _read(file: Path) -> Iterator[FileQuestion]:
    if file.suffix.lower() == ".txt":
        yield from _lines(file)
        return
    for line, value in read_values(file, known=_has_question):
        wrong = value if isinstance(value, StudioError) else None
        asked = None if wrong else _asked(line, value)
        if wrong is not None and wrong.key == "data.csv_columns":
            raise StudioError("answers.no_questions", file=str(file), columns=", ".join(_SHOWN))
        if asked is None:
            raise StudioError("answers.bad_line", file=str(file), line=line, reason=wrong or _nothing())
        yield asked


def _lines(file: Path) -> Iterator[FileQuestion]:
    with open_text(file) as text:
        for number, line in enumerate(text, 1):
            if "\0" in line or is_broken(line):
                reason = StudioError("data.not_text" if "\0" in line else "data.line_encoding")
                raise StudioError("answers.bad_line", file=str(file), line=number, reason=reason)
            yield FileQuestion(number, line.strip())


def _asked(line: int, value: Any) -> FileQuestion | None:
    """The question of a record; None where it has none."""
    if isinstance(value, str):
        return FileQuestion(line, whole_text(value).strip())
    if not isinstance(value, dict):
        return None
    if any(name in value for name in ("messages", "conversations", "Instances")) or value.get("history"):
        return _last_turn(line, value)
    named = {normal_name(name): each for name, each in value.items()}
    column = next((name for name in _COLUMNS if name in named), None)
    if column is None:
        return None
    question = _text(named[column])
    more = _text((in_alpaca_words(value) or {}).get("input"))
    due = next((_text(named[answer]) for asked, answer in _PAIRS if asked == column and answer in named), "")
    return FileQuestion(line, f"{question}\n{more}" if question and more else question or more, expected=due)


def _last_turn(line: int, value: Any) -> FileQuestion | None:
    """The last question of a conversation, with what was said before it."""
    found = next((each for each in conversations(value) if isinstance(each, ParsedConversation)), None)
    try:
        messages = record_messages(found.record, found.system) if found else ()
    except StudioError:
        return None
    at = max((at for at, each in enumerate(messages) if each.role == "user"), default=None)
    if at is None:
        return None
    due = next((each.content for each in messages[at + 1 :] if each.role == "assistant" and not each.metadata), "")
    return FileQuestion(line, messages[at].content.strip(), tuple(messages[:at]), due)


def _has_question(names: Iterable[str]) -> bool:
    return any(normal_name(name) in _COLUMNS for name in names)


def _nothing() -> StudioError:
    return StudioError("answers.no_question", columns=", ".join(_SHOWN))


def _text(value: Any) -> str:
    return "" if value is None or isinstance(value, (bool, dict, list)) else whole_text(str(value)).strip()
