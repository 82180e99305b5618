"""Tokenise a dataset once: its records' ids, what of them is learned, and the problems, as files to be mapped."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

from glmstudio.data.mixture import PLAIN, REHEARSAL, Mixture, read_examined
from glmstudio.data.notes import NoteCounter
from glmstudio.data.prepared import VERSION
from glmstudio.data.protocol.prompt import spelled
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.data.readers.cutting import Cutter
from glmstudio.data.readers.sources import on_disk, sheet_name
from glmstudio.data.records import DuplicateFinder, Problem, message_hash, one_form, problem_of
from glmstudio.data.table import EXTRA, GENERAL, MAY_REPEAT, MENDED, PROSE, REPEATED, ROW, TOOLS
from glmstudio.data.watch import ProgressWatch
from glmstudio.families.message import Message
from glmstudio.files import digest, write_json


def build(
    folder: Path,
    source: Path,
    files: Sequence[Path],
    cutter: Cutter,
    watch: ProgressWatch,
    mixture: Mixture = PLAIN,
) -> None:
    """Write a prepared dataset into `folder`, texts in pieces; `about.json` comes last. Raises StudioError."""
    names = [_name(source, file) for file in files]
    index = {file: number for number, file in enumerate(files)}
    if mixture.rehearsal:
        index.setdefault(Path(mixture.file), len(names))
        names.append(mixture.file)
    about: dict[str, Any] = {"version": VERSION, "files": names, "sha256": _digest(source, files, mixture)}
    forms, noted = set[str](), NoteCounter()
    with ExitStack() as stack:
        writer = _Writer(stack, folder, cutter.tokenizer, names)
        for file, line, examined in read_examined(source, watch.moved, mixture, cutter):
            watch.look(source)
            forms |= {examined.form} if examined.mended is not None else set()
            if not examined.extra:
                noted.add(names[index[file]], line, examined.notes)
            problem = problem_of(file, line, examined)
            messages = examined.mended
            if messages is not None:
                flags = (MENDED if problem is not None else 0) | (TOOLS if examined.tools else 0)
                flags |= (GENERAL if examined.form == REHEARSAL else 0) | (EXTRA if examined.extra else 0)
                flags |= PROSE if examined.form == "text" else 0
                again = writer.row(index[file], line, messages, flags)
                problem = problem or again
            if problem is not None:
                writer.problem(index[file], problem, usable=messages is not None)
            writer.number += 1
            watch.records = writer.number
        about["form"] = one_form(forms - {REHEARSAL})
        about["notes"] = [note.to_json() for note in noted.notes]
        about |= {"records": writer.number, "unusable": writer.unusable, "problems": writer.problems}
    if watch.tell is not None:
        watch.tell(1.0, watch.records)
    write_json(folder / "about.json", about)


def source_digest(source: Path, files: Sequence[Path]) -> str:
    """The sha256 of a file's bytes; for a folder, of its files' names and sums."""
    if len(files) == 1 and files[0] == source:
        whole, sheet = digest(on_disk(source)), sheet_name(source)
        return hashlib.sha256(f"{whole} {sheet}".encode()).hexdigest() if sheet else whole
    listed = "".join(f"{digest(file)}  {_name(source, file)}\n" for file in files)
    return hashlib.sha256(listed.encode("utf-8", "surrogateescape")).hexdigest()


def _digest(source: Path, files: Sequence[Path], mixture: Mixture) -> str:
    read = source_digest(source, files)
    return hashlib.sha256(f"{read} {mixture.mark}".encode()).hexdigest() if mixture.mark else read


class _Writer:
    """The files of a prepared dataset while they grow."""

    def __init__(self, stack: ExitStack, folder: Path, tokenizer: Tokenizer, names: Sequence[str]) -> None:
        def file(name: str) -> IO[bytes]:
            return stack.enter_context((folder / name).open("wb", 1 << 20))

        self._ids, self._learned, self._ends, self._rows = map(file, ("ids", "learned", "ends", "rows"))
        self._problems = file("problems.jsonl")
        self._tokenizer, self._names = tokenizer, names
        self._offset = self._end_offset = 0
        self._seen = DuplicateFinder()
        self.number = self.unusable = self.problems = 0

    def row(self, file: int, line: int, messages: Sequence[Message], flags: int) -> Problem | None:
        """Write one record. A faultless one that was there before is told as a problem."""
        mark = message_hash(messages)
        again = None if flags & (MENDED | MAY_REPEAT) else self._seen.again(self._names[file], line, mark)
        ids, learned, stops = spelled(self._tokenizer, messages)
        counted = list(accumulate(learned))
        ends = [(stop + 1, counted[stop]) for stop in _answers(messages, stops)]
        flags |= REPEATED if again else 0
        self._rows.write(
            ROW.pack(
                self._offset, len(ids), counted[-1], self._end_offset, len(ends), file, line, self.number, mark, flags
            )
        )
        self._ids.write(array("i", ids).tobytes())
        self._learned.write(bytes(learned))
        self._ends.write(array("i", [value for end in ends for value in end]).tobytes())
        self._offset += len(ids)
        self._end_offset += len(ends)
        return again

    def problem(self, file: int, problem: Problem, *, usable: bool) -> None:
        """Write what is wrong with the record."""
        self.problems += 1
        self.unusable += not usable
        table = {"number": self.number, "file": file, "line": problem.line, "reason": problem.reason.to_json()}
        line = json.dumps(table | {"fix": problem.fix}) + "\n"
        self._problems.write(line.encode())


def _answers(messages: Sequence[Message], stops: Sequence[int]) -> list[int]:
    """Where the answers end that a conversation may end with."""
    after = [message.role for message in messages[1:]] + ["user"]
    return [
        stop
        for message, follows, stop in zip(messages, after, stops, strict=True)
        if message.role == "assistant" and not message.metadata and follows == "user"
    ]


def _name(source: Path, file: Path) -> str:
    return "" if file == source else file.relative_to(source).as_posix()
