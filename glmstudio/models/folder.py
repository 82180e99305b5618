"""A model folder looked at without loading it: is it a whole ChatGLM3, and if not, which file is wrong and why.

Takes milliseconds for 12 GB: names, sizes, headers and the index are read, never the weights.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.files import opened, read_json, short
from glmstudio.models import manifest, native_form
from glmstudio.models.family import (
    named_in,
    refuse_impossible,
    refuse_other_family,
    refuse_other_vocabulary,
    refuse_prefix,
)

_POINTER = b"version https://git-lfs"
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLES = ("model.safetensors", "pytorch_model.bin")
_LONGEST_HEADER = 100_000_000
_MOST_SHARDS = 1000
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32,
    "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
_SHARD = re.compile(r"\w[\w.-]{0,199}")


def check_folder(folder: Path) -> None:
    """Raise StudioError, naming the file and the remedy, unless `folder` holds a whole ChatGLM3 model."""
    for problem in folder_problems(folder):
        raise problem


def folder_problems(folder: Path) -> Iterator[StudioError]:
    """Everything that keeps `folder` from being a whole ChatGLM3 model, with the file and the remedy."""
    yield from _problem(read_config, folder)
    if not folder.is_dir():
        return
    yield from _problem(check_vocabulary, folder / "tokenizer.model")
    try:
        files = weight_files(folder)
    except StudioError as problem:
        yield problem
        return
    broken = [problem for file in files for problem in _problem(check_weights, file)]
    yield from broken
    if not broken:
        yield from _problem(_check_index, folder)
        yield from _problem(refuse_whole_with_prefix, folder)
    if manifest.read(folder).get("whole") is False:
        yield StudioError("models.unfinished", folder=str(folder))


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a ChatGLM3 folder, in the words of the published layout whichever of the two it has.

    Raises StudioError where it is absent or of another model.
    """
    file = folder / "config.json"
    if not folder.is_dir():
        raise StudioError("models.no_folder", folder=str(folder))
    if not file.is_file():
        raise StudioError("models.no_config", folder=str(folder))
    config = read_json(file)
    if not isinstance(config, dict):
        raise StudioError("models.bad_json", file=str(file))
    if config.get("model_type") == native_form.MODEL_TYPE:
        refuse_impossible(file, config)
        config = native_form.published_form(config, file)
    if config.get("model_type") != "chatglm":
        raise StudioError("models.foreign", file=str(file), kind=short(config.get("model_type", "?")))
    refuse_other_family(folder, config)
    refuse_impossible(file, config)
    return config


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, safetensors first where both are there. Raises StudioError for none."""
    index = weight_index(folder)
    if index:
        return [folder / shard for shard in sorted(set(_weight_map(index).values()))]
    for name in _SINGLES:
        if (folder / name).is_file():
            return [folder / name]
    raise StudioError("models.no_weights", folder=str(folder))


def weight_index(folder: Path) -> Path | None:
    """The file that says in which shard each tensor is; None where the weights are one file."""
    return next((folder / name for name in _INDEXES if (folder / name).is_file()), None)


def model_files(folder: Path) -> list[Path]:
    """The files that make the model: config, tokenizer, the weights in use and their index. Raises StudioError."""
    index = weight_index(folder)
    return [folder / "config.json", folder / "tokenizer.model", *([index] if index else []), *weight_files(folder)]


def check_weights(file: Path) -> None:
    """Raise StudioError unless `file` is there, is no placeholder, and ends where its own header says."""
    present(file)
    if file.suffix == ".safetensors":
        _check_safetensors(file)
    elif not _is_stored(file):
        raise StudioError("models.truncated", file=str(file))


def _is_stored(file: Path) -> bool:
    """Whether it is PyTorch's zip, whose members are never packed: a packed one can unpack to any size."""
    try:
        with zipfile.ZipFile(file) as archive:
            return all(each.compress_type == zipfile.ZIP_STORED for each in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return False


def check_vocabulary(file: Path) -> None:
    """Raise StudioError unless `file` is there and is no other family's."""
    present(file)
    refuse_other_vocabulary(file)


def refuse_whole_with_prefix(folder: Path) -> None:
    """Raise StudioError where the weights in use hold a P-Tuning prefix beside the model."""
    index = weight_index(folder)
    if index:
        refuse_prefix(folder, _weight_map(index))
        return
    for file in weight_files(folder):
        refuse_prefix(folder, _header(file) if file.suffix == ".safetensors" else named_in(file))


def present(file: Path) -> None:
    """Raise StudioError unless `file` is there, has bytes, and is no placeholder."""
    if not file.is_file():
        raise StudioError("models.missing_file", file=str(file))
    with opened(file) as stream:
        start = stream.read(len(_POINTER))
    if start == _POINTER:
        raise StudioError("models.pointer", file=str(file), size=file.stat().st_size)
    if not start:
        raise StudioError("models.truncated", file=str(file))


def _problem(check: Callable[[Path], Any], path: Path) -> Iterator[StudioError]:
    try:
        check(path)
    except StudioError as problem:
        yield problem


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor name -> shard's file name (never a path: the index is input from outside)."""
    present(index)
    table = read_json(index)
    names = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(names, dict):
        raise StudioError("models.bad_json", file=str(index))
    given = {shard for shard in names.values() if isinstance(shard, str)}
    plain = {shard: Path(shard).name for shard in given} if len(given) <= _MOST_SHARDS else {}
    sound = all(isinstance(shard, str) for shard in names.values()) and all(map(_SHARD.fullmatch, plain.values()))
    if not plain or not sound:
        raise StudioError("models.bad_json", file=str(index))
    return {tensor: plain[shard] for tensor, shard in names.items()}


def _check_index(folder: Path) -> None:
    """Raise StudioError where the shards are whole, but not those that the index or the download speaks of."""
    index = weight_index(folder)
    wanted, known = _weight_map(index) if index else {}, manifest.files(folder)
    for file in weight_files(folder):
        size, noted = file.stat().st_size, known.get(file.name, {}).get("size")
        if noted not in (None, size):
            raise StudioError("models.other_size", file=str(file), size=size, wanted=noted)
        tensors = {tensor for tensor, shard in wanted.items() if shard == file.name}
        if file.suffix == ".safetensors" and not tensors <= _header(file).keys():
            raise StudioError("models.other_index", file=str(file), index=str(index))


def _check_safetensors(file: Path) -> None:
    header, size = _header(file), file.stat().st_size
    try:
        spans = sorted(_span(entry) for name, entry in header.items() if name != "__metadata__")
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise StudioError("models.truncated", file=str(file)) from error
    end = 0
    for first, last in spans:  # one after the other, without a gap
        if first != end:
            raise StudioError("models.truncated", file=str(file))
        end = last
    if size != 8 + _header_length(file) + end:
        raise StudioError("models.truncated", file=str(file))


def _span(entry: Any) -> tuple[int, int]:
    """Where a tensor's bytes lie. Raises ValueError where they are not as many as its shape and type say."""
    first, last = entry["data_offsets"]
    bits = _BITS.get(entry["dtype"])
    if bits is not None and (last - first) * 8 != math.prod(entry["shape"]) * bits:
        raise ValueError(entry)
    return int(first), int(last)


def _header(file: Path) -> dict[str, Any]:
    """The table at the start of a safetensors file: name -> type, shape, place."""
    length = _header_length(file)
    try:
        with opened(file) as stream:
            stream.seek(8)
            header = json.loads(stream.read(length))
    except (ValueError, RecursionError) as error:
        raise StudioError("models.truncated", file=str(file)) from error
    if not isinstance(header, dict):
        raise StudioError("models.truncated", file=str(file))
    return header


def _header_length(file: Path) -> int:
    with opened(file) as stream:
        start = stream.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or not 2 <= length <= min(_LONGEST_HEADER, file.stat().st_size - 8):
        raise StudioError("models.truncated", file=str(file))
    return length
