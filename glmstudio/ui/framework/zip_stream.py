"""A folder as one ZIP file, made while it is sent: nothing of it is written to the disk."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

from glmstudio.files import opened

_BLOCK = 1 << 20


def folder_size(folder: Path) -> int:
    """The bytes of its files."""
    return sum(file.stat().st_size for file in _files(folder))


def zip_stream(folder: Path, name: str) -> Iterator[bytes]:
    """The regular files below `folder`, in a folder called `name`. Links are left out: they may lead elsewhere."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for file in _files(folder):
            inside = zipfile.ZipInfo(f"{name}/{file.relative_to(folder).as_posix()}")
            with opened(file) as source, archive.open(inside, "w", force_zip64=True) as target:
                while block := source.read(_BLOCK):
                    target.write(block)
                    yield sink.taken()
    yield sink.taken()


def _files(folder: Path) -> list[Path]:
    found = []
    for place, folders, names in os.walk(folder):
        folders.sort()
        found += [Path(place) / name for name in sorted(names)]
    return [file for file in found if file.is_file() and not file.is_symlink()]


class _Sink(io.RawIOBase):
    """A file that can only be written on; what was written is taken away piece by piece."""

    def __init__(self) -> None:
        self._parts = bytearray()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Keep `data` until it is taken."""
        self._parts += data
        return len(data)

    def taken(self) -> bytes:
        """What was written since the last time."""
        parts, self._parts = bytes(self._parts), bytearray()
        return parts
