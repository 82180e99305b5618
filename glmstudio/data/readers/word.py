"""The text of a Word document (`.docx`), read as a stream: nothing of it is held but the paragraph at hand.

A table's row is one line, its cells divided by tabs. What was deleted, comments, headers and footers are left out.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from xml.parsers import expat

from glmstudio.data.readers.passages import stretches
from glmstudio.data.readers.sources import Moved
from glmstudio.errors import StudioError

_LARGEST = 1 << 29  # bytes of the text's part when it is unpacked: a small file can pretend to any size
_LARGEST_RELATIONS = 1 << 20
_CHUNK = 1 << 16
_DEEPEST = 1000  # elements within each other
_COMPOUND = b"\xd0\xcf\x11\xe0"  # what Word wrote before, and what holds a document with a password
_MAIN = re.compile(rb"<Relationship\b[^>]*/officeDocument\"[^>]*>")
_TARGET = re.compile(rb"\bTarget=\"/?([^\"]+)\"")
_SIGNS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}

Placed = tuple[int, Any]


def word_values(file: Path, moved: Moved | None = None) -> Iterator[Placed]:
    """Paragraph number and text of its stretches, as `Document`s; a StudioError for what cannot be read."""
    try:
        with file.open("rb") as raw:
            if raw.read(len(_COMPOUND)) == _COMPOUND:
                raise StudioError("data.document_locked")
            with zipfile.ZipFile(raw) as parts, parts.open(_main_part(parts)) as part:
                yield from stretches(_lines(part))
    except StudioError as problem:
        yield 1, problem
    except OSError as error:
        raise StudioError("data.file_unreadable", file=str(file), reason=error.strerror or str(error)) from error
    except (MemoryError, OverflowError):
        yield 1, StudioError("data.document_large")
    except Exception:  # noqa: BLE001  an archive from outside can break its reader anywhere
        yield 1, StudioError("data.document_broken")
    if moved is not None:
        moved(file.stat().st_size)


def _main_part(parts: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The part that holds the text. Raises StudioError for one that has a password or is too large."""
    with parts.open("_rels/.rels") as relations:
        found = _MAIN.search(relations.read(_LARGEST_RELATIONS))
    target = _TARGET.search(found[0]) if found else None
    part = parts.getinfo(target[1].decode() if target else "word/document.xml")
    if part.flag_bits & 1:
        raise StudioError("data.document_locked")
    if part.file_size > _LARGEST:
        raise StudioError("data.document_large")
    return part


def _lines(part: IO[bytes]) -> Iterator[tuple[int, str]]:
    """The paragraphs with their numbers, an empty line after each."""
    reader, number, read = _Reader(), 0, 0
    while chunk := part.read(_CHUNK):
        read += len(chunk)
        if read > _LARGEST:
            raise StudioError("data.document_large")
        for paragraph in reader.feed(chunk):
            number += 1
            yield number, f"{paragraph}\n"
            yield number, "\n"
    reader.feed(b"", last=True)


class _Reader:
    """What XML says, as paragraphs."""

    def __init__(self) -> None:
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._depth = self._rows = self._skipped = 0
        self._in_text = False
        self._said: list[str] = []
        self._ready: list[str] = []

    def feed(self, chunk: bytes, *, last: bool = False) -> list[str]:
        """The paragraphs that ended in this chunk."""
        self._parser.Parse(chunk, last)
        ready, self._ready = self._ready, []
        return ready

    def _start(self, element: str, _: dict[str, str]) -> None:
        name = element.rpartition(" ")[2]
        self._depth += 1
        if self._depth > _DEEPEST:
            raise StudioError("data.document_large")
        self._skipped += name == "Fallback"  # the same text once more, for older programs
        self._rows += name == "tr"
        self._in_text = name == "t"
        if name in _SIGNS and not self._skipped:
            self._said.append(_SIGNS[name])

    def _end(self, element: str) -> None:
        name = element.rpartition(" ")[2]
        self._depth -= 1
        self._skipped -= name == "Fallback"
        self._rows -= name == "tr"
        self._in_text = False
        if name == "tc":
            self._said.append("\t")
        elif name == "p" and self._rows:
            self._said.append(" ")
        elif name in ("p", "tr") and not self._rows:
            self._finish()

    def _text(self, text: str) -> None:
        if self._in_text and not self._skipped:
            self._said.append(text)

    def _finish(self) -> None:
        text = re.sub(r" *\t *", "\t", "".join(self._said)).strip()
        self._said = []
        if text:
            self._ready.append(text)

    def _refuse(self, *_: Any) -> None:
        """A document has no need of definitions, which can grow without end."""
        raise StudioError("data.document_broken")
