"""The own datasets: files, and folders of files that came together.

    data/NAME             one of them
    state/own-data.json   by name, where each came from, and the sum of what was uploaded

Whoever changes one of them does it inside `changing()`.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmstudio.data.readers.sources import KINDS, is_text_file
from glmstudio.errors import StudioError
from glmstudio.files import digest, read_table, write_json
from glmstudio.paths import paths
from glmstudio.system.portable.locks import alone

FACTS = "facts"  # the folder of what was saved of the table of facts
UPLOAD, CHAT = "upload", "chat"
_LONGEST_NAME = 80

Move = Callable[[Path, Path], None]


@dataclass(frozen=True)
class OwnData:
    """One dataset. `origin` is "upload", "chat", or "" where somebody put it there or changed it by hand; `files` are
    those that can be read, and `changed` is when the newest of them was written."""

    path: Path
    origin: str
    files: tuple[Path, ...]
    size: int
    changed: float

    @property
    def name(self) -> str:
        """As it is called."""
        return self.path.name

    @property
    def texts_beside(self) -> bool:
        """Whether texts lie beside records: those are not read then."""
        texts = [is_text_file(file) for file in self.files]
        return any(texts) and not all(texts)


@dataclass(frozen=True)
class Upload:
    """What became of an upload: its dataset. `there`: it was there before; `taken`: the name that another one has."""

    path: Path
    there: bool = False
    taken: str = ""


def own_data() -> list[OwnData]:
    """Every own dataset, the one that was changed last first."""
    known, found = _index(), list[OwnData]()
    with contextlib.suppress(OSError):
        for path in paths().data.iterdir():
            if (one := _one(path, known)) is not None:
                found.append(one)
    return sorted(found, key=lambda each: each.changed, reverse=True)


def find_own(path: Path) -> OwnData | None:
    """The own dataset at this path, or that holds it."""
    folder = paths().data
    if folder not in path.parents:
        return None
    return _one(folder / path.relative_to(folder).parts[0], _index())


@contextlib.contextmanager
def changing() -> Iterator[None]:
    """Whoever changes own datasets takes turns. Raises OSError."""
    paths().state.mkdir(parents=True, exist_ok=True)
    with alone(paths().state, "own-data.lock"):
        yield


def add(files: Sequence[Path], move: Move) -> Upload:
    """Take files that were uploaded together as one dataset: several become a folder.

    What is there already, under the same name and with the same bytes, is not taken again; a name that another dataset
    has gets a number. Raises StudioError for a file of no kind that is known, and OSError; nothing stays then.
    """
    for file in files:
        if file.suffix.lower() not in KINDS:
            raise StudioError("data.file_kind", file=file.name, kinds=", ".join(KINDS))
    names = _names(files)
    name = names[0] if len(files) == 1 else f"{Path(names[0]).stem}+{len(files) - 1}"
    with changing():
        mark = _mark(names, files)
        found = _place(name, mark)
        if not found.there:
            paths().data.mkdir(parents=True, exist_ok=True)
            _take(found.path, names, files, move)
            note(found.path, UPLOAD, mark)
        return found


def note(path: Path, origin: str, mark: str = "") -> None:
    """Write down where a dataset came from; without a mark it is no longer what was uploaded."""
    known = _index()
    known[path.name] = {"origin": origin, "mark": mark}
    _write(known)


def replaced(before: Path, after: Path, *, edited: bool) -> None:
    """Write down that a file of a dataset now lies elsewhere; what was `edited` is not what was uploaded any more."""
    folder, known = paths().data, _index()
    old, new = (each.relative_to(folder).parts[0] for each in (before, after))
    told = known.pop(old, {"origin": "", "mark": ""})
    known[new] = {**told, "mark": ""} if edited else told
    _write(known)


def delete(found: OwnData) -> None:
    """Delete an own dataset. Raises OSError."""
    with changing():
        if found.path.is_dir():
            shutil.rmtree(found.path)
        else:
            found.path.unlink(missing_ok=True)
        _write({name: told for name, told in _index().items() if name != found.name})


def free_path(wanted: Path) -> Path:
    """The same path, or the first one with a number at which nothing lies."""
    return next(each for each in numbered(wanted) if not each.exists() and each.name != FACTS)


def numbered(wanted: Path) -> Iterator[Path]:
    """The path, then with 2, 3 and so on behind its name."""
    yield wanted
    number = 1
    while True:
        number += 1
        yield wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")


def _one(path: Path, known: dict[str, Any]) -> OwnData | None:
    if path.name.startswith(".") or path.name == FACTS or path.is_symlink():
        return None
    try:
        files = tuple(sorted(_files(path)))
        if not files:
            return None
        stats = [file.stat() for file in files]
    except OSError:
        return None
    told = known.get(path.name)
    told = told if isinstance(told, dict) else {}
    origin = str(told.get("origin", ""))
    if origin == UPLOAD and not told.get("mark"):  # edited since
        origin = ""
    size, changed = sum(each.st_size for each in stats), max(each.st_mtime for each in stats)
    return OwnData(path, origin if origin in (UPLOAD, CHAT) else "", files, size, changed)


def _files(path: Path) -> list[Path]:
    """The data files of one dataset; a folder of folders is none of ours."""
    inside = list(path.iterdir()) if path.is_dir() else [path]
    read = [each for each in inside if each.suffix.lower() in KINDS and not each.name.startswith(".")]
    return [each for each in read if each.is_file() and not each.is_symlink()]


def _names(files: Sequence[Path]) -> list[str]:
    """What the files are called here: the browser's names are never trusted as paths, and no two are the same."""
    names = list[str]()
    for file in files:
        plain = re.sub(r"[^\w.-]+", "_", file.name).lstrip(".")[-_LONGEST_NAME:] or f"data{file.suffix.lower()}"
        taken = {name.casefold() for name in names}
        names.append(next(each.name for each in numbered(Path(plain)) if each.name.casefold() not in taken))
    return names


def _mark(names: Sequence[str], files: Sequence[Path]) -> str:
    """The same for the same files under the same names."""
    sums = (f"{name}\0{digest(file)}" for name, file in zip(names, files, strict=True))
    return hashlib.sha256("\n".join(sums).encode("utf-8", "surrogateescape")).hexdigest()


def _place(name: str, mark: str) -> Upload:
    """Where an upload of that name belongs: where the same lies, or where nothing does."""
    folder = paths().data
    for known, told in _index().items():
        if isinstance(told, dict) and told.get("mark") == mark and (folder / known).exists():
            return Upload(folder / known, there=True)
    path = free_path(folder / name)
    return Upload(path, taken="" if path.name == name else name)


def _take(target: Path, names: Sequence[str], files: Sequence[Path], move: Move) -> None:
    if len(files) == 1:
        move(files[0], target)
        return
    try:
        for name, file in zip(names, files, strict=True):
            move(file, target / name)
    except OSError:
        shutil.rmtree(target, ignore_errors=True)  # half of the files would be taken for all
        raise


def _index() -> dict[str, Any]:
    return read_table(paths().state / "own-data.json")


def _write(known: dict[str, Any]) -> None:
    """Write the index, without what is no longer there."""
    there = {name: told for name, told in known.items() if (paths().data / name).exists()}
    write_json(paths().state / "own-data.json", there)
