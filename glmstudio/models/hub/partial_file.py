"""A file that is being fetched: its bytes in pieces, and a journal of those that are on disk.

    <folder>/.download/<name>.part      the bytes, at their places
    <folder>/.download/<name>.pieces    a line of JSON about the file, then "number crc32" for each piece that is there

A line is added once its piece is written, so whatever ends the process costs at most the piece that each connection
was at. A piece that an earlier process wrote is read again and compared with its crc32 before it counts: a power cut
may have kept the line and lost the bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glmstudio.files import read_text
from glmstudio.models.hub.hubs import RemoteFile
from glmstudio.system.portable.file_access import (
    BINARY,
    NO_LINKS,
    drop_from_memory,
    read_at,
    read_into,
    replace,
    write_at,
)

PIECE = 4 << 20
WORK = ".download"
_BLOCK = 1 << 20
_LONGEST_LINE = 40
_SMALLEST, _LARGEST = 1 << 12, 1 << 26  # bytes of a piece; a journal is input from outside, too


class PartialFile:
    """One file on its way. Its bytes may be written by several threads, each piece by one."""

    def __init__(self, folder: Path, file: RemoteFile, *, piece: int = PIECE) -> None:
        self.file = file
        self.path, self._journal = _paths(folder, file)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _unlink_links(self.path, self._journal)
        lines = _lines(self._journal)
        kept = _piece_of(lines, file) if _size(self.path) == file.size else 0
        self.piece = kept or piece
        self.count = max(1, -(-file.size // self.piece))
        self.crcs = dict(filter(None, map(self._line, lines[1:]))) if kept else {}
        self._unchecked = set(self.crcs)
        self._changed = threading.Condition()
        self._buffer: bytearray | None = None
        flags = os.O_RDWR | os.O_CREAT | NO_LINKS | BINARY
        self._fd = os.open(self.path, flags | (0 if kept else os.O_TRUNC), 0o644)
        os.ftruncate(self._fd, file.size)
        self._log = -1
        self._write_journal()
        if not file.size and not self.crcs:
            self.finish(0, 0)

    def close(self) -> None:
        """Let go of the files; what is on disk stays."""
        with self._changed:
            for handle in (self._fd, self._log):
                if handle >= 0:
                    os.close(handle)
            self._fd = self._log = -1  # the system gives these numbers away again, and a late thread must not hit them

    def length(self, number: int) -> int:
        """How many bytes the piece has."""
        return max(0, min(self.piece, self.file.size - number * self.piece))

    def has(self, number: int) -> bool:
        """Whether the piece is on disk."""
        return number in self.crcs

    @property
    def done(self) -> int:
        """Bytes on disk, in whole pieces."""
        with self._changed:
            return sum(self.length(number) for number in self.crcs)

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Put bytes to their place. Raises OSError, among others for a full disk."""
        with self._changed:
            write_at(self._fd, memoryview(data), offset)

    def finish(self, number: int, crc: int) -> None:
        """All bytes of this piece were written; `crc` is theirs."""
        with self._changed:
            os.write(self._log, f"{number} {crc}\n".encode())
            self.crcs[number] = crc
            self._changed.notify_all()

    def drop(self, numbers: list[int] | None = None) -> None:
        """Forget these pieces, or all: they will be fetched again."""
        with self._changed:
            for number in list(self.crcs) if numbers is None else numbers:
                self.crcs.pop(number, None)
                self._unchecked.discard(number)
            self._write_journal()
            self._changed.notify_all()

    def wait(self, number: int, seconds: float) -> bool:
        """Whether the piece is on disk, now or within `seconds`."""
        with self._changed:
            return self._changed.wait_for(lambda: number in self.crcs, seconds)

    def read(self, number: int) -> memoryview | None:
        """The bytes of a piece, until the next is read; None, and the piece is forgotten, where an earlier process's
        are not what it wrote."""
        wanted, start = self.length(number), number * self.piece
        self._buffer = self._buffer or bytearray(self.piece)  # new memory for each piece would cost more than reading
        data = memoryview(self._buffer)[: read_into(self._fd, memoryview(self._buffer)[:wanted], start)]
        if number in self._unchecked:
            if zlib.crc32(data) != self.crcs.get(number):
                self.drop([number])
                return None
            self._unchecked.discard(number)
        drop_from_memory(self._fd, start, wanted)
        return data

    def damaged(self) -> list[int]:
        """The pieces whose bytes on disk are not those that were received."""
        return [
            number
            for number, crc in sorted(self.crcs.items())
            if zlib.crc32(read_at(self._fd, self.length(number), number * self.piece)) != crc
        ]

    def place(self, target: Path) -> None:
        """Make it the finished file: on disk for good, under its own name."""
        os.fsync(self._fd)
        self.close()  # Windows moves and deletes no open file
        replace(self.path, target)
        self._journal.unlink(missing_ok=True)

    def sums(self) -> dict[str, Any]:
        """The pieces' crc32, from which a later repair sees which of them to fetch again."""
        return {"bytes": self.piece, "crc32": [self.crcs[number] for number in range(self.count)]}

    def _line(self, line: str) -> tuple[int, int] | None:
        number, _, crc = line.partition(" ")
        digits = number.isdecimal() and crc.isdecimal() and len(line) < _LONGEST_LINE
        if digits and int(number) < self.count:
            return int(number), int(crc)
        return None

    def _write_journal(self) -> None:
        """Written anew and put in place at once: lines that were torn or do not hold any more are gone then."""
        if self._log >= 0:
            os.close(self._log)
        try:
            _write_lines(self._journal, self.file, self.piece, self.crcs)
        finally:
            self._log = os.open(self._journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND | BINARY, 0o644)


class Checksum:
    """The sum of a file while it is read from start to end: sha256, and git's sha1 where only that is known."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.sha256 = hashlib.sha256()
        self._git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)

    def add(self, data: bytes | memoryview, file: RemoteFile) -> None:
        """The next bytes."""
        self.sha256.update(data)
        if not file.sha256:
            self._git.update(data)

    def fits(self, file: RemoteFile) -> bool:
        """Whether these are the bytes that the hub published."""
        if file.sha256:
            return self.sha256.hexdigest() == file.sha256
        return file.git_sha1 in (self._git.hexdigest(), self._note())

    def _note(self) -> str:
        """The sha1 that git gives to its note about a file that is kept apart from it: it holds the sha256."""
        note = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256.hexdigest()}\nsize {self._size}\n"
        return hashlib.sha1(b"blob %d\0%s" % (len(note), note.encode()), usedforsecurity=False).hexdigest()


def sum_of(path: Path, file: RemoteFile, tell: Callable[[int], None] = lambda _: None) -> Checksum:
    """The sum of a file on disk; tells the bytes read so far. Raises OSError."""
    found, done = Checksum(path.stat().st_size), 0
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            found.add(block, file)
            done += len(block)
            tell(done)
    return found


def take_over(folder: Path, file: RemoteFile, pieces: Any) -> None:
    """Make a damaged file of ours one that is being fetched: its pieces are told as there, and each is compared with
    its crc32 before it counts, so only those that lost their bytes are fetched. `pieces` is what `PartialFile.sums`
    gave."""
    size, crcs = (pieces.get("bytes"), pieces.get("crc32")) if isinstance(pieces, dict) else (None, None)
    if not isinstance(size, int) or not _SMALLEST <= size <= _LARGEST or not isinstance(crcs, list):
        return
    path, journal = _paths(folder, file)
    if (folder / file.name).is_symlink():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {number: crc for number, crc in enumerate(crcs) if isinstance(crc, int) and not isinstance(crc, bool)}
    path.unlink(missing_ok=True)
    _write_lines(journal, file, size, told)
    os.replace(folder / file.name, path)


def unfinished(folder: Path) -> int:
    """Bytes of the disk that the files on their way into `folder` take."""
    try:
        return sum(on_disk(file) for file in (folder / WORK).iterdir() if file.is_file() and not file.is_symlink())
    except OSError:
        return 0


def on_disk(file: Path) -> int:
    """Bytes of the disk that a file takes: one that is being fetched has holes. Raises OSError."""
    about = file.stat()
    return about.st_blocks * 512 if hasattr(about, "st_blocks") else 0


def _paths(folder: Path, file: RemoteFile) -> tuple[Path, Path]:
    work = folder / WORK
    return work / f"{file.name}.part", work / f"{file.name}.pieces"


def _lines(journal: Path) -> list[str]:
    try:
        text = read_text(journal, errors="replace")
    except OSError:
        return []
    return text.split("\n")[:-1]  # a line without its end was torn


def _write_lines(journal: Path, file: RemoteFile, piece: int, crcs: dict[int, int]) -> None:
    head = json.dumps({"size": file.size, "sum": file.sum, "piece": piece})
    fresh = journal.with_name(journal.name + "~")
    _unlink_links(fresh)
    lines = [head, *(f"{n} {crc}" for n, crc in sorted(crcs.items())), ""]
    fresh.write_text("\n".join(lines), encoding="ascii", newline="\n")
    replace(fresh, journal)


def _unlink_links(*paths: Path) -> None:
    """A folder from elsewhere may hold links under our names; what they lead to is not ours to write to."""
    for path in paths:
        if path.is_symlink():
            path.unlink()


def _piece_of(lines: list[str], file: RemoteFile) -> int:
    """The size of a piece in the journal of exactly this file, in bytes; 0 where it is of another one, or damaged."""
    try:
        head = json.loads(lines[0]) if lines else None
    except (ValueError, RecursionError):
        return 0
    if not isinstance(head, dict) or (head.get("size"), head.get("sum")) != (file.size, file.sum):
        return 0
    piece = head.get("piece")
    return piece if isinstance(piece, int) and _SMALLEST <= piece <= _LARGEST else 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
