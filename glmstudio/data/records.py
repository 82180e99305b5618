"""Training data as people bring it: every record of a file or folder as messages, or what is wrong with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from glmstudio.data.faults import ExaminedRecord
from glmstudio.data.formats import format_of
from glmstudio.data.mixture import read_examined
from glmstudio.data.notes import Note, NoteCounter
from glmstudio.data.problems import Problem, ProblemTally
from glmstudio.data.protocol.turns import record_messages
from glmstudio.data.readers.sources import source_files, total_size
from glmstudio.data.readers.values import read_values
from glmstudio.data.seen import SeenTable
from glmstudio.data.watch import ProgressWatch, Tell
from glmstudio.errors import StudioError
from glmstudio.families.message import Message

__all__ = ["DataCheck", "Problem", "Record", "check_file", "read_examined", "read_records", "record_messages"]

_LINES = 1 << 40  # more than a file has


@dataclass(frozen=True)
class Record:
    """One conversation that can be written as tokens and has something to learn, and where it stands."""

    line: int
    messages: tuple[Message, ...]
    file: str = ""


@dataclass(frozen=True)
class DataCheck:
    """What a source holds: how many usable records, what is wrong with the others, in which format all of them are
    ("mixed" where there are several), and what there is to note about them that is no problem."""

    records: int
    tally: ProblemTally
    form: str = ""
    notes: tuple[Note, ...] = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Those that the tally keeps."""
        return tuple(self.tally.kept)


def check_file(path: str | Path, *, tell: Tell | None = None) -> DataCheck:
    """Examine every record of a file or folder, and count. Raises StudioError where it cannot be read.

    `tell(share, records)` hears how far it is.
    """
    records, read, tally = 0, 0, ProblemTally()
    seen, watch, forms = DuplicateFinder(), ProgressWatch(tell, total=total_size(path)), set[str]()
    noted = NoteCounter()
    for file, line, examined in read_examined(path, watch.moved):
        watch.records, read = read, read + 1
        watch.look(Path(path))
        forms |= {examined.form} if examined.mended is not None else set()
        noted.add(str(file), line, examined.notes)
        problem = problem_of(file, line, examined)
        if problem is None and examined.messages is not None and examined.form != "text":
            problem = seen.again(str(file), line, message_hash(examined.messages))
        if problem is None:
            records += 1
        else:
            tally.add(problem)
    return DataCheck(records, tally, one_form(forms), noted.notes)


def one_form(forms: set[str]) -> str:
    """The format of a source whose records came in these."""
    return next(iter(forms)) if len(forms) == 1 else "mixed" if forms else ""


def read_records(path: str | Path) -> Iterator[Record | Problem]:
    """Every record of a file or folder in order, as it stands, or the problem in its place.

    A record that can be trained on comes even where `check_file` finds fault with it. Raises StudioError where there
    is no such file or it is of no kind that is known.
    """
    for file, line, examined in read_examined(path):
        if examined.messages is not None:
            yield Record(line, examined.messages, str(file))
        elif (problem := problem_of(file, line, examined)) is not None:
            yield problem


def form_of(path: str | Path) -> str:
    """The format of a source, "mixed" where its records are in several; "" where there is none that can be read. Stops
    at the second one. Raises StudioError where the source cannot be read."""
    found = ""
    for file in source_files(path):
        for _, value in read_values(file):
            if isinstance(value, StudioError):
                continue
            form = format_of(value)
            if found not in ("", form):
                return "mixed"
            found = form
    return found


def problem_of(file: Path, line: int, examined: ExaminedRecord) -> Problem | None:
    """The one problem to tell about a record; None where it is faultless."""
    worst = examined.worst
    return None if worst is None else Problem(str(file), line, worst.reason, worst.fix)


def message_hash(messages: Sequence[Message]) -> int:
    """The same for conversations that teach the same, and in practice for no others: 64 bits."""
    said = [[*message.to_json(), message.trained] for message in messages]
    return int.from_bytes(hashlib.blake2b(json.dumps(said).encode(), digest_size=8).digest(), "little")


class DuplicateFinder:
    """The records that came before, to know one that comes again."""

    def __init__(self) -> None:
        self._seen, self._files = SeenTable(), list[str]()

    def again(self, file: str, line: int, mark: int) -> Problem | None:
        """The problem of a record that was there before; a new one is remembered."""
        if not self._files or self._files[-1] != file:
            self._files.append(file)
        first = self._seen.first(mark, (len(self._files) - 1) * _LINES + min(line, _LINES - 1))
        if first is None:
            return None
        before, line_before = self._files[first // _LINES], first % _LINES
        if before == file:
            return Problem(file, line, StudioError("data.duplicate", line=line_before), "duplicate")
        reason = StudioError("data.duplicate_elsewhere", line=line_before, file=Path(before).name)
        return Problem(file, line, reason, "duplicate")
