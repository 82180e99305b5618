"""The stamp that a model's every byte was looked at: fine-tuning and chat ask for it.

Stamps lie in the studio's own state, not in the model's folder, so a copied folder does not bring one. A stamp holds
for the sizes and times that the files had; a file that was written since takes it away.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.files import read_json, write_json
from glmstudio.models.folder import model_files
from glmstudio.paths import paths

State = dict[str, list[int]]  # file name -> size in bytes, time of change in nanoseconds


def look(folder: Path) -> State:
    """Size and time of change of each file that makes the model; empty where it is none."""
    try:
        return {file.name: _seen(file) for file in model_files(folder)}
    except (StudioError, OSError):
        return {}


def record(folder: Path, state: State) -> None:
    """The folder's files were read to their end and nothing was wrong; `state` is how they were before (`look`)."""
    known = _read(folder)["files"]
    files = {name: [*seen, _sum(known, name, seen)] for name, seen in state.items()}
    write_json(_file(folder), {"folder": str(folder.resolve()), "time": time.time(), "files": files})


def is_verified(folder: Path) -> float | None:
    """When the folder got its stamp, in seconds since 1970; None where it has none, or a file was changed since."""
    about, state = _read(folder), look(folder)
    holds = bool(state) and {name: seen[:2] for name, seen in about["files"].items() if name in state} == state
    return float(about["time"]) if holds and about.get("time") else None


def note(folder: Path, name: str, sha256: str) -> None:
    """This one file was read, and this is its sum."""
    about = _read(folder)
    about["files"][name] = [*_seen(folder / name), sha256]
    write_json(_file(folder), about | {"folder": str(folder.resolve()), "time": None})


def forget(folder: Path, names: Collection[str] | None = None) -> None:
    """What is known of these files (None: of all) does not count any more; nor does the stamp."""
    about = _read(folder)
    left = {name: seen for name, seen in about["files"].items() if names is not None and name not in names}
    write_json(_file(folder), about | {"folder": str(folder.resolve()), "time": None, "files": left})


def noted(folder: Path, name: str) -> str:
    """The sum of a file that was read before and not changed since; empty where that is not so."""
    try:
        return _sum(_read(folder)["files"], name, _seen(folder / name))
    except OSError:
        return ""


def _sum(known: dict[str, Any], name: str, seen: list[int]) -> str:
    noted = known.get(name)
    return str(noted[2]) if noted and noted[:2] == seen else ""


def _seen(file: Path) -> list[int]:
    about = file.stat()
    return [about.st_size, about.st_mtime_ns]


def _read(folder: Path) -> dict[str, Any]:
    about = read_json(_file(folder), {})
    sound = isinstance(about, dict) and isinstance(about.get("files"), dict)
    return about if sound else {"files": {}}


def _file(folder: Path) -> Path:
    name = hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:20]
    return paths().state / "verified" / f"{name}.json"
