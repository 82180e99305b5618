"""Whether a model folder is what was published: quickly by names, sizes and headers, fully by every byte.

A full check compares sha256 sums where they are known: those that our own download wrote down, or those that Hugging
Face's client keeps beside the files. Without a sum, the old `.bin` format still carries one of its own for each tensor.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.files import read_json
from glmstudio.models.folder import folder_problems, weight_files

MANIFEST = "glmstudio.json"  # {"files": {name: {"size": bytes, "sha256": hex}}}, written by our own download
_HUB_NOTES = Path(".cache/huggingface/download")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOCK = 1 << 20

Tell = Callable[[int, int], None]


def verify(folder: Path, *, full: bool = False, tell: Tell = lambda _done, _total: None) -> list[StudioError]:
    """What is wrong with the model in `folder`; empty where nothing is found.

    Quick takes milliseconds. Full reads every byte of weights and tokenizer and tells (bytes done, bytes in all).
    """
    problems = list(folder_problems(folder))
    if problems or not full:
        return problems
    files = [folder / "tokenizer.model", *weight_files(folder)]
    total, done = sum(file.stat().st_size for file in files), 0
    for file in files:
        for amount in _check(file, known_sums(folder).get(file.name), problems):
            done += amount
            tell(done, total)
    return problems


def known_sums(folder: Path) -> dict[str, str]:
    """The sha256 sums of the folder's files, as far as somebody trustworthy wrote them down beside them."""
    noted = read_json(folder / MANIFEST, {})
    files: Any = noted.get("files") if isinstance(noted, dict) else None
    listed = files.items() if isinstance(files, dict) else ()
    sums = {name: about.get("sha256") for name, about in listed if isinstance(about, dict)}
    for note in sorted((folder / _HUB_NOTES).glob("*.metadata")):
        # Three lines: the commit, the etag (the sha256 of a large file), the time.
        lines = note.read_text(encoding="utf-8", errors="replace").splitlines()
        sums.setdefault(note.name.removesuffix(".metadata"), lines[1].strip('" ') if len(lines) > 1 else "")
    return {name: value for name, value in sums.items() if isinstance(value, str) and _SHA256.fullmatch(value)}


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
    except (zipfile.BadZipFile, zlib.error, EOFError):
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
