"""The text of a PDF. A process of its own reads it (`python -m glmstudio.data.readers.pdf FILE`), because it comes from
outside: what breaks there, or takes too much memory or time, breaks nothing else.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from glmstudio.data.readers.passages import passages
from glmstudio.data.readers.sources import Moved
from glmstudio.data.readers.wrapping import paragraphs
from glmstudio.errors import StudioError
from glmstudio.paths import ROOT, child_environment
from glmstudio.system.portable.limits import bound

_MEMORY = 2 << 30  # bytes of address space
_SECONDS = 600  # of computing
_PASSWORD = 4  # PDFium's number for it
_LIGATURES = str.maketrans(
    {"\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl", "\0": "", "\x02": "\ufffe"}
)

Placed = tuple[int, Any]


def pdf_values(file: Path, moved: Moved | None = None) -> Iterator[Placed]:
    """Line and text of its stretches, as `Document`s; a StudioError for what cannot be read."""
    with tempfile.TemporaryFile() as told, _reading(file, told) as child:
        yield from passages(child.stdout or io.StringIO())
        if child.wait():
            told.seek(0)
            yield 1, _problem(told.read())
    if moved is not None:
        moved(file.stat().st_size)


@contextlib.contextmanager
def _reading(file: Path, told: IO[bytes]) -> Iterator[subprocess.Popen[str]]:
    """The child; it ends where nobody listens any more."""
    command = [sys.executable, "-m", "glmstudio.data.readers.pdf", str(file.absolute())]
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=told,
        encoding="utf-8",
        errors="replace",
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def _problem(told: bytes) -> StudioError:
    """What the child said last; where it said nothing of use, it broke."""
    try:
        return StudioError.from_json(json.loads(told.splitlines()[-1]))
    except (ValueError, IndexError, KeyError, TypeError):
        return StudioError("data.document_broken")


def main(file: Path) -> int:
    """The child: write the text, paragraph for paragraph; where that fails, why."""
    bound(_MEMORY, _SECONDS)  # no more than a book needs
    out = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", errors="replace")
    said = False
    try:
        for paragraph in paragraphs(_pages(file)):
            out.write(f"{paragraph}\n\n")
            said = True
        out.flush()
        problem = None if said else StudioError("data.pdf_no_text")
    except StudioError as found:
        problem = found
    except MemoryError:
        problem = StudioError("data.document_large")
    if problem is not None:
        sys.stderr.write(f"\n{json.dumps(problem.to_json())}\n")
    return 1 if problem else 0


def _pages(file: Path) -> Iterator[str]:
    from pypdfium2 import PdfDocument, PdfiumError

    try:
        document = PdfDocument(file)
        for number in range(len(document)):
            page = document[number]
            text = page.get_textpage().get_text_range().translate(_LIGATURES)
            page.close()
            yield text.replace("\ufffe", "-\n")  # PDFium's sign for a word that the line's end divides
    except PdfiumError as error:
        locked = getattr(error, "err_code", None) == _PASSWORD
        raise StudioError("data.document_locked" if locked else "data.document_broken") from error


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
