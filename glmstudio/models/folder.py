"""A model folder looked at without loading it: is it a whole ChatGLM3, and if not, which file is wrong and why.

Takes milliseconds for 12 GB: names, sizes and headers are read, never the weights.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.files import read_json

_POINTER = b"version https://git-lfs"
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLES = ("model.safetensors", "pytorch_model.bin")
_LONGEST_HEADER = 100_000_000


def check_folder(folder: Path) -> None:
    """Raise StudioError, naming the file and the remedy, unless `folder` holds a whole ChatGLM3 model."""
    for problem in folder_problems(folder):
        raise problem


def folder_problems(folder: Path) -> Iterator[StudioError]:
    """Everything that keeps `folder` from being a whole ChatGLM3 model, with the file and the remedy."""
    yield from _problem(read_config, folder)
    if not folder.is_dir():
        return
    yield from _problem(_present, folder / "tokenizer.model")
    try:
        files = weight_files(folder)
    except StudioError as problem:
        yield problem
        return
    for file in files:
        yield from _problem(check_weights, file)


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a ChatGLM3 folder. Raises StudioError where it is absent or of another model."""
    file = folder / "config.json"
    if not folder.is_dir():
        raise StudioError("models.no_folder", folder=str(folder))
    if not file.is_file():
        raise StudioError("models.no_config", folder=str(folder))
    config = read_json(file)
    if not isinstance(config, dict):
        raise StudioError("models.bad_json", file=str(file))
    if config.get("model_type") != "chatglm":
        raise StudioError("models.foreign", file=str(file), kind=str(config.get("model_type", "?")))
    return config


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, safetensors first where both are there. Raises StudioError for none."""
    for name in _INDEXES:
        index = folder / name
        if index.is_file():
            _present(index)
            table = read_json(index)
            names = table.get("weight_map") if isinstance(table, dict) else None
            if not isinstance(names, dict) or not names:
                raise StudioError("models.bad_json", file=str(index))
            return [folder / Path(str(shard)).name for shard in sorted(set(names.values()))]
    for name in _SINGLES:
        if (folder / name).is_file():
            return [folder / name]
    raise StudioError("models.no_weights", folder=str(folder))


def check_weights(file: Path) -> None:
    """Raise StudioError unless `file` is there, is no placeholder, and ends where its own header says."""
    _present(file)
    if file.suffix == ".safetensors":
        _check_safetensors(file)
    elif not zipfile.is_zipfile(file):
        raise StudioError("models.truncated", file=str(file))


def _problem(check: Callable[[Path], Any], path: Path) -> Iterator[StudioError]:
    try:
        check(path)
    except StudioError as problem:
        yield problem


def _present(file: Path) -> None:
    if not file.is_file():
        raise StudioError("models.missing_file", file=str(file))
    with file.open("rb") as stream:
        start = stream.read(len(_POINTER))
    if start == _POINTER:
        raise StudioError("models.pointer", file=str(file), size=file.stat().st_size)
    if not start:
        raise StudioError("models.truncated", file=str(file))


def _check_safetensors(file: Path) -> None:
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if not 2 <= length <= min(_LONGEST_HEADER, size - 8):
                raise StudioError("models.truncated", file=str(file))
            header = json.loads(stream.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        whole = 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, struct.error) as error:
        raise StudioError("models.truncated", file=str(file)) from error
    if size != whole:
        raise StudioError("models.truncated", file=str(file))
