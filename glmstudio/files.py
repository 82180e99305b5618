"""Small files on disk: read without surprises, written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glmstudio.paths import paths

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises OSError and tomllib.TOMLDecodeError (a ValueError)."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of TOML text. Raises tomllib.TOMLDecodeError (a ValueError)."""
    return tomllib.loads(text)


def read_json(path: Path, default: Any = None) -> Any:
    """The value in a JSON file, or `default` where it is absent or not (yet) JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, RecursionError):
        return default


def read_table(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where it is absent or holds anything else."""
    table = read_json(path, {})
    return table if isinstance(table, dict) else {}


def digest(path: Path) -> str:
    """The sha256 of a file's bytes."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def write_json(path: Path, value: Any, *, parents: bool = True) -> None:
    """Write `value` so that a reader sees the old file or the new one, never half of one; folders as `write_text`."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n", parents=parents)


def write_text(path: Path, text: str, *, parents: bool = True) -> None:
    """Write `text` atomically: a temporary file beside `path`, then a rename.

    With `parents` the folders are made where they are missing, else that raises FileNotFoundError. What lies in the
    home is for its owner's eyes alone; a file elsewhere is handed on, and the umask says who may read it.
    """
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    mode = 0o600 if path.absolute().is_relative_to(paths().home) else 0o666
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def alone(place: Path) -> Iterator[None]:
    """Whoever works in the folder `place` waits for the others: two clicks at once do a thing once."""
    with (place / "lock").open("a", encoding="utf-8") as file:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
