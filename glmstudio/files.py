"""Small files on disk: read without surprises, written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import secrets
import stat
import sys
from pathlib import Path
from typing import IO, Any

from glmstudio.paths import paths
from glmstudio.system.portable.file_access import BINARY, replace

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


LARGEST = 64 << 20  # bytes of a file that is read whole
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # JSON's way to write half a character
_unread: set[str] = set()


def opened(path: Path) -> IO[bytes]:
    """A regular file, to be read. Raises OSError for all else: a pipe would be waited for, a device never ends."""
    return io.open(path, "rb", opener=_regular)  # noqa: UP020


def _regular(path: str, flags: int) -> int:
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)


def read_bytes(path: Path, most: int = LARGEST) -> bytes:
    """All of a regular file. Raises OSError where it is none, or larger than `most` bytes."""
    with opened(path) as file:
        found = file.read(most + 1)
    if len(found) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return found


def read_text(path: Path, most: int = LARGEST, *, errors: str = "strict") -> str:
    """The same as UTF-8 text. Raises OSError and UnicodeDecodeError (a ValueError)."""
    return read_bytes(path, most).decode("utf-8", errors)


def unread(folder: Path) -> list[str]:
    """The files below `folder` that `read_json` found and could not make sense of: they count as absent."""
    return sorted(name for name in list(_unread) if Path(name).is_relative_to(folder))


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises OSError and tomllib.TOMLDecodeError (a ValueError)."""
    return tomllib.loads(read_text(path))


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of TOML text. Raises tomllib.TOMLDecodeError (a ValueError)."""
    return tomllib.loads(text)


def read_json(path: Path, default: Any = None) -> Any:
    """The value in a JSON file, with whole characters, or `default` where it is absent or cannot be read (`unread`)."""
    try:
        text = read_text(path)
        value = json.loads(text)
        value = _whole(value) if _HALF.search(text) else value
    except (FileNotFoundError, NotADirectoryError):
        _unread.discard(str(path))
        return default
    except (OSError, ValueError, RecursionError):
        _unread.add(str(path))
        return default
    _unread.discard(str(path))
    return value


def read_table(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where it is absent or holds anything else."""
    table = read_json(path, {})
    if not isinstance(table, dict):
        _unread.add(str(path))
        return {}
    return table


def short(value: Any, most: int = 60) -> str:
    """A value of somebody's file for a sentence: one line, not too long, whole characters."""
    try:
        text = str(value)
    except (RecursionError, ValueError):  # an int of a million digits has no text
        return "…"
    text = " ".join(text[: most + 1].split()).encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= most else text[: most - 1] + "…"


def whole_text(text: str) -> str:
    """Text that UTF-8 can hold: two halves of a character become that character, a lone half becomes a mark."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, dict):
        return {whole_text(name): _whole(each) for name, each in value.items()}
    return [_whole(each) for each in value] if isinstance(value, list) else value


def digest(path: Path) -> str:
    """The sha256 of a file's bytes."""
    found = hashlib.sha256()
    with opened(path) as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def write_json(path: Path, value: Any, *, parents: bool = True) -> None:
    """Write `value` so that a reader sees the old file or the new one, never half of one; folders as `write_text`."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n", parents=parents)


def write_text(path: Path, text: str, *, parents: bool = True) -> None:
    """Write `text` as UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode("utf-8", "replace"), parents=parents)  # a file's name need not be text


def write_bytes(path: Path, content: bytes, *, parents: bool = True) -> None:
    """Write `content` atomically: a temporary file beside `path`, then a rename.

    With `parents` the folders are made where they are missing, else that raises FileNotFoundError. What lies in the
    home is for its owner's eyes alone; a file elsewhere is handed on, and the umask says who may read it.
    """
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    mode = 0o600 if path.absolute().is_relative_to(paths().home) else 0o666
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
