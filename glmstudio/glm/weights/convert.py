"""A published folder's weights written anew as 16-bit safetensors, under the same tensor names, in the same folder.

    <folder>/.convert/    the new files, until every one of them is verified

What decides which weights a folder has is one file: the index, or the single `model.safetensors` (see `weight_files`).
The new shards come beside the originals, never under the name of a weight file that is in use, and are not looked at
before that deciding file is put in place by one rename. So the folder loads at any moment: the old weights, then the
new. Where one `model.safetensors` is converted, the new weights get another name and an index, which goes before it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from glmstudio.errors import StudioError
from glmstudio.glm.weights.base_weights import read_tensors
from glmstudio.glm.weights.safetensors_header import safetensors_header
from glmstudio.models.contents.weight_file import check_weights
from glmstudio.models.folder import read_config, weight_files, weight_index
from glmstudio.models.manifest import known_sums
from glmstudio.system.portable.file_access import drop_from_memory

WORK = ".convert"
INDEX = "model.safetensors.index.json"
_BIN_INDEX = "pytorch_model.bin.index.json"
_TYPES = {"float16": (torch.float16, "F16"), "bfloat16": (torch.bfloat16, "BF16")}
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_SLICE = 1 << 20  # numbers that are looked at, cast and written at a time
_BLOCK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_SYNC = (errno.EBADF, errno.EINVAL, errno.ENOTSUP)  # what a file system says that cannot fsync a folder


@dataclass(frozen=True)
class _Shard:
    """One file to be written: `header`, as it stands at its start, then `weights` bytes: the tensors of `source`."""

    source: Path
    name: str
    shapes: dict[str, tuple[int, ...]]
    header: bytes
    weights: int


def convert(folder: Path, *, dtype: str, tell: Callable[[int, int], None]) -> list[Path]:
    """Write the weights in use as safetensors of `dtype`, "float16" or "bfloat16", and use those; the originals stay.

    Tells (bytes done, bytes in all); every byte counts twice, as written and as read back. Whoever calls holds the
    folder's lock. Returns the new files, the index among them. Raises StudioError, and then the folder is as before.
    """
    kind = _TYPES[dtype][0]
    read_config(folder)
    work = folder / WORK
    try:
        _clear(work)
        shards = _plan(folder, dtype)
        total = sum(len(shard.header) + shard.weights for shard in shards)
        if shutil.disk_usage(folder).free < total:
            raise StudioError("models.disk_full_convert", folder=str(folder))
        work.mkdir()
        for done in itertools.accumulate(amount for shard in shards for amount in _write(shard, work, kind)):
            tell(done, 2 * total)
        names = [shard.name for shard in shards]
        if names != ["model.safetensors"]:
            _write_index(work / INDEX, shards)
            names.append(INDEX)
        return _publish(work, folder, names)
    except OSError as error:
        if error.errno in _FULL:
            raise StudioError("models.disk_full_convert", folder=str(folder)) from error
        reason = error.strerror or str(error)
        raise StudioError("models.convert_failed", folder=str(folder), reason=reason) from error
    finally:
        with contextlib.suppress(OSError):
            _clear(work)


def drop_originals(folder: Path, old: list[Path]) -> int:
    """Delete those of the weight files `old` that are not in use any more, and their index; returns the bytes freed.

    Raises StudioError, with nothing deleted, where the weights in use are not whole; OSError where one cannot go.
    """
    used = weight_files(folder)
    for file in used:
        check_weights(file)
    kept = {path for file in used for path in (file, file.resolve())}
    gone = [file for file in (folder / each.name for each in old) if file.suffix in (".bin", ".safetensors")]
    gone = [file for file in gone if os.path.lexists(file) and file not in kept and file.resolve() not in kept]
    if weight_index(folder) != folder / _BIN_INDEX and any(file.suffix == ".bin" for file in gone):
        gone.insert(0, folder / _BIN_INDEX)
    return sum(_delete(file) for file in gone)


def _plan(folder: Path, dtype: str) -> list[_Shard]:
    """What to write. Nothing but names, types and shapes is read."""
    sources = weight_files(folder)
    kind, code = _TYPES[dtype]
    shards, same = [], all(file.suffix == ".safetensors" for file in sources)
    for source, name in zip(sources, _names(folder, sources, dtype), strict=True):
        tensors = _tensors(source)
        same = same and all(tensor.dtype == kind for tensor in tensors.values())
        shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
        shards.append(_Shard(source, name, shapes, *safetensors_header(shapes, code)))
    if same:
        raise StudioError("models.already_converted", folder=str(folder), dtype=dtype)
    return shards


def _names(folder: Path, sources: list[Path], dtype: str) -> list[str]:
    """Names for the new files: the usual ones, or others where a file in use has one of them, or where somebody noted
    the sum that a file of that name must have. One file needs no index, unless the folder has one, which goes first."""
    taken = {name.casefold() for name in (*(file.name for file in sources), *known_sums(folder))}
    stems = (f"model-{dtype}-{number}" for number in itertools.count(2))
    for stem in itertools.chain(("model", f"model-{dtype}"), stems):
        names = [f"{stem}-{number:05}-of-{len(sources):05}.safetensors" for number in range(1, len(sources) + 1)]
        if stem == "model" and len(sources) == 1 and weight_index(folder) is None:
            names = ["model.safetensors"]
        if taken.isdisjoint(name.casefold() for name in names):
            return names
    raise AssertionError("there is always another number")


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a weight file, mapped. Raises StudioError for anything that is no plain tensor of real numbers."""
    tensors = read_tensors(file)
    for name, tensor in tensors.items():
        named = isinstance(name, str) and name.isprintable() and name != "__metadata__"
        plain = isinstance(tensor, torch.Tensor) and tensor.dtype in _FLOATS and tensor.layout is torch.strided
        if not named or not plain or tensor.device.type != "cpu":
            raise StudioError("models.foreign_tensor", file=str(file), name=str(name))
    return tensors


def _write(shard: _Shard, work: Path, kind: torch.dtype) -> Iterator[int]:
    """Write one file and prove it; yields the bytes since the last time."""
    digest = hashlib.sha256()
    with (work / shard.name).open("xb") as stream:
        for block in _blocks(shard, kind):
            stream.write(block)
            digest.update(block)
            yield len(block)
        stream.flush()
        os.fsync(stream.fileno())
    yield from _prove(shard, work / shard.name, kind, digest.hexdigest())


def _blocks(shard: _Shard, kind: torch.dtype) -> Iterator[bytes | memoryview]:
    """The file's bytes. The source is mapped, and no more than a slice of it is copied."""
    yield shard.header
    tensors = _tensors(shard.source)
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != shard.shapes:
        raise StudioError("models.convert_mismatch", file=str(shard.source))  # it changed under our eyes
    for name in shard.shapes:
        for piece in _slices(tensors[name].detach()):
            yield memoryview(_cast(piece, kind, shard.source, name).view(torch.uint8).numpy())


def _slices(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The tensor's numbers in their order, in flat pieces; a whole copy is never made."""
    if tensor.is_contiguous():
        yield from tensor.view(-1).split(_SLICE)
    elif tensor.numel() <= _SLICE:
        yield tensor.reshape(-1)
    else:
        for part in tensor.split(_SLICE) if tensor.dim() == 1 else tensor.unbind(0):
            yield from _slices(part)


def _cast(piece: torch.Tensor, kind: torch.dtype, file: Path, name: str) -> torch.Tensor:
    cast = piece.to(kind)
    if torch.isfinite(cast).all():
        return cast
    if kind == torch.float16 and torch.isfinite(piece.to(torch.bfloat16)).all():
        raise StudioError("models.convert_overflow", file=str(file), name=name)
    raise StudioError("models.convert_not_finite", file=str(file), name=name)


def _prove(shard: _Shard, file: Path, kind: torch.dtype, wanted: str) -> Iterator[int]:
    """Read the file as any program would and compare; yields the bytes read. Raises StudioError where it differs."""
    found = hashlib.sha256()
    with file.open("rb", buffering=0) as stream:
        drop_from_memory(stream.fileno())  # what was kept there says nothing about the disk
        while block := stream.read(_BLOCK):
            found.update(block)
            yield len(block)
    if found.hexdigest() == wanted:
        with contextlib.suppress(StudioError):
            held = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in _tensors(file).items()}
            if held == {name: (kind, shape) for name, shape in shard.shapes.items()}:
                return
    raise StudioError("models.convert_mismatch", file=str(file))


def _write_index(file: Path, shards: list[_Shard]) -> None:
    table = {
        "metadata": {"total_size": sum(shard.weights for shard in shards)},
        "weight_map": {name: shard.name for shard in shards for name in shard.shapes},
    }
    with file.open("x", encoding="utf-8") as stream:
        json.dump(table, stream, indent=2)
        stream.flush()
        os.fsync(stream.fileno())


def _publish(work: Path, folder: Path, names: list[str]) -> list[Path]:
    """Move the files to their place; the last name is the one that puts them in use. Fails wholly or not at all."""
    *shards, switch = names
    try:
        for name in shards:
            os.replace(work / name, folder / name)
        _sync(folder)
        os.replace(work / switch, folder / switch)
    except BaseException:
        if (work / switch).exists():  # the old weights are still in use, and by other names
            for name in shards:
                if not (work / name).exists():
                    (folder / name).unlink(missing_ok=True)
        raise
    _sync(folder)
    return [folder / name for name in names]


def _sync(folder: Path) -> None:
    """Renames in the folder survive a power cut from here on."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(handle)


def _clear(work: Path) -> None:
    """Delete what an earlier try left; of a link, the link."""
    if work.is_dir() and not work.is_symlink():
        shutil.rmtree(work)
    else:
        work.unlink(missing_ok=True)


def _delete(file: Path) -> int:
    """Returns the bytes that this gives back to the disk: none for a link, or where the file has another name."""
    try:
        about = file.lstat()
        file.unlink()
    except FileNotFoundError:
        return 0
    return about.st_size if stat.S_ISREG(about.st_mode) and about.st_nlink == 1 else 0
