"""Whether a model folder is what was published: quickly by names, sizes and headers, fully by every byte.

A full check compares sha256 sums where they are known: those that our own download or conversion wrote down, or those
that Hugging Face's client keeps beside the files. Without a sum, the old `.bin` format still carries one of its own for
each tensor. A folder in which nothing is wrong gets the stamp that fine-tuning and chat ask for.
"""

from __future__ import annotations

import hashlib
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.files import read_text
from glmstudio.models import manifest, verification
from glmstudio.models.folder import folder_problems, model_files

_HUB_NOTES = Path(".cache/huggingface/download")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOCK = 1 << 20
# The last three are for members that are encrypted or packed in a way that weights never are.
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, lzma.LZMAError)

Tell = Callable[[int, int], None]


def verify(folder: Path, *, full: bool = False, tell: Tell = lambda _done, _total: None) -> list[StudioError]:
    """What is wrong with the model in `folder`; empty where nothing is found.

    Quick takes milliseconds. Full reads every byte and tells (bytes done, bytes in all); it gives or takes the stamp.
    """
    problems = list(folder_problems(folder))
    if not full:
        return problems
    before, files = verification.look(folder), _to_read(folder, problems)
    sums = known_sums(folder)
    total, done = sum(file.stat().st_size for file in files), 0
    for file in files:
        for amount in _check(file, sums.get(file.name), problems):
            done += amount
            tell(done, total)
    if problems:
        verification.forget(folder, [Path(str(problem.values.get("file", ""))).name for problem in problems])
    else:
        verification.record(folder, before)
    return problems


def _to_read(folder: Path, problems: list[StudioError]) -> list[Path]:
    """The files that are worth reading: those of the model that are there, and not known to be wrong already."""
    wrong = {str(problem.values.get("file", "")) for problem in problems}
    try:
        files = model_files(folder)
    except StudioError:
        files = [folder / name for name in manifest.files(folder)]
    return [file for file in files if file.is_file() and str(file) not in wrong]


def known_sums(folder: Path) -> dict[str, str]:
    """The sha256 sums of the folder's files, as far as somebody wrote them down beside them."""
    sums = {name: str(about["sha256"]) for name, about in manifest.files(folder).items()}
    for note in sorted((folder / _HUB_NOTES).glob("*.metadata")):
        # Three lines: the commit, the etag (the sha256 of a large file), the time.
        try:
            lines = read_text(note, errors="replace").splitlines()
        except OSError:
            continue
        found = lines[1].strip('" ') if len(lines) > 1 else ""
        if _SHA256.fullmatch(found):
            sums.setdefault(note.name.removesuffix(".metadata"), found)
    return sums


def _check(file: Path, wanted: str | None, problems: list[StudioError]) -> Iterator[int]:
    """Read one file, adding to `problems`; yields the bytes read since the last time."""
    try:
        if wanted is None and zipfile.is_zipfile(file):
            yield from _check_zip(file)
            return
        found = hashlib.sha256()
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                found.update(block)
                yield len(block)
        if wanted is not None and found.hexdigest() != wanted:
            problems.append(StudioError("models.wrong_bytes", file=str(file)))
        elif wanted is not None:
            verification.note(file.parent, file.name, wanted)
    except _BROKEN_ZIP:
        problems.append(StudioError("models.wrong_bytes", file=str(file)))
    except OSError as error:
        problems.append(StudioError("models.unreadable_file", file=str(file), reason=error.strerror or str(error)))


def _check_zip(file: Path) -> Iterator[int]:
    """Every member against its own sum. Nothing is unpacked or run; raises BadZipFile at the first wrong one."""
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            with archive.open(member) as stream:
                while block := stream.read(_BLOCK):
                    yield len(block)
