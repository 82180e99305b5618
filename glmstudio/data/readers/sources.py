"""The files of a dataset as text: which ones they are, their encoding, and how much of them was read."""

from __future__ import annotations

import errno
import importlib.util
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glmstudio.data.readers.encodings import BROKEN, encoding_of
from glmstudio.errors import StudioError

RECORDS = (".json", ".jsonl", ".csv", ".xlsx")
TEXTS = (".txt", ".md", ".docx", ".pdf")  # learned as they stand
PDF_READER = "pypdfium2"  # optional: requirements-documents.txt
KINDS = (*RECORDS, *TEXTS)
MOST = 10_000  # files and folders in a folder of data: whoever types a path passes through those above it
_HEAD = 1 << 20
_CHUNK = 1 << 18
_SHEET = re.compile(r"(.+\.xlsx)#([^#/\\]+)", re.IGNORECASE)

Moved = Callable[[int], None]


def source_files(path: str | Path) -> list[Path]:
    """The data files of a source: the file itself, or those of a folder, by name.

    Hidden files, and links that lead out of the folder, are no part of it; nor are texts beside records, which are
    mostly about them (a README). Raises StudioError where there is none, and for a folder that holds far more than
    data, as a whole disk does.
    """
    source = Path(path)
    try:
        if not source.is_dir() or kind_of(source) in KINDS:
            _check_file(source)
            return _readable([source])
        found = sorted(_walk(source))
    except FileNotFoundError as error:
        raise StudioError("data.file_missing", file=str(source)) from error
    except (OSError, ValueError) as error:
        raise _unreadable(source, error) from error
    if not found:
        raise StudioError("data.folder_empty", folder=str(source), kinds=", ".join(KINDS))
    return [file for file in found if not is_text_file(file)] or _readable(found)


def on_disk(file: Path) -> Path:
    """The file itself, where a sheet of it is named: `answers.xlsx#Sheet2`."""
    return file if (named := _named_sheet(file)) is None else named[0]


def sheet_name(file: Path) -> str:
    """The sheet that is named; "" for the first one."""
    return "" if (named := _named_sheet(file)) is None else named[1]


def kind_of(file: Path) -> str:
    """How a data file's name ends, which says what it is."""
    return on_disk(file).suffix.lower()


def is_text_file(file: Path) -> bool:
    """Whether a data file holds running text instead of records."""
    return kind_of(file) in TEXTS


def total_size(path: str | Path) -> int:
    """The bytes of a source's files. Raises StudioError where it cannot be read."""
    return sum(on_disk(file).stat().st_size for file in source_files(path))


@contextmanager
def open_text(file: Path, *, newline: str | None = None, moved: Moved | None = None) -> Iterator[io.TextIOWrapper]:
    """A data file as text, in the encoding that it has. `moved` hears of every number of bytes read.

    A byte that is no character becomes a sign that `is_broken` finds. Raises StudioError where the file cannot be read.
    """
    try:
        with file.open("rb") as raw:
            encoding = encoding_of(raw.read(_HEAD))
            raw.seek(0)
            counted = io.BufferedReader(_Counted(raw, moved), _CHUNK)
            errors = (
                "strict" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
            )  # half of two bytes has no sign
            with io.TextIOWrapper(counted, encoding=encoding, errors=errors, newline=newline) as text:
                yield text
    except FileNotFoundError as error:
        raise StudioError("data.file_missing", file=str(file)) from error
    except UnicodeError as error:
        raise StudioError("data.file_encoding", file=str(file)) from error
    except OSError as error:
        raise _unreadable(file, error) from error


def is_broken(text: str) -> bool:
    """Whether bytes that are no characters stood here."""
    return not text.isascii() and BROKEN.search(text) is not None


class _Counted(io.RawIOBase):
    """A file that tells how much was read from it."""

    def __init__(self, raw: Any, moved: Moved | None) -> None:
        self._raw, self._moved = raw, moved

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count: int = self._raw.readinto(buffer)
        if self._moved is not None:
            self._moved(count)
        return count


def _readable(files: list[Path]) -> list[Path]:
    """The same files. Raises StudioError where what reads them is not installed."""
    one = next((file for file in files if kind_of(file) == ".pdf"), None)
    if one is not None and importlib.util.find_spec(PDF_READER) is None:
        raise StudioError("data.no_pdf_reader", file=str(one))
    return files


def _named_sheet(file: Path) -> tuple[Path, str] | None:
    found = _SHEET.fullmatch(file.name)
    return None if found is None or os.path.lexists(file) else (file.with_name(found[1]), found[2])


def _check_file(file: Path) -> None:
    if kind_of(file) not in KINDS:
        raise StudioError("data.file_kind", file=str(file), kinds=", ".join(KINDS))
    file = on_disk(file)
    if file.exists() and not file.is_file() and not file.is_dir():  # a pipe would be waited for
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    with file.open("rb"):  # says why it cannot be read before anything is built on it
        pass


def _walk(folder: Path) -> Iterator[Path]:
    """The data files below a folder that are not hidden and lie in it, wherever a link seems to put them."""
    home, seen = folder.resolve(), 0
    for place, names, files in os.walk(folder):
        names[:] = [name for name in names if not name.startswith(".")]
        seen += len(names) + len(files)
        if seen > MOST:
            raise StudioError("data.folder_large", folder=str(folder), most=MOST)
        for name in files:
            file = Path(place, name)
            if name.startswith(".") or file.suffix.lower() not in KINDS:
                continue
            if file.is_file() and home in file.resolve().parents:
                yield file


def _unreadable(file: Path, error: Exception) -> StudioError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return StudioError("data.file_unreadable", file=str(file), reason=reason)
