"""One file of weights looked at without loading it: is it whole, and which tensors does its header name."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.files import opened
from glmstudio.models.contents.torch_table import TensorHeader, is_old_form, old_form_length, read_table

_POINTER = b"version https://git-lfs"
_PAGES = (b"<!doctype html", b"<html", b"<?xml")
_LONGEST_HEADER = 100_000_000
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32,
    "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip


def present(file: Path) -> None:
    """Raise StudioError unless `file` is there, has bytes, and is neither a placeholder nor a page of a website."""
    if not file.is_file():
        raise StudioError("models.missing_file", file=str(file))
    with opened(file) as stream:
        start = stream.read(64)
    if start.startswith(_POINTER):
        raise StudioError("models.pointer", file=str(file), size=file.stat().st_size)
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_PAGES):
        raise StudioError("models.web_page", file=str(file))
    if not start:
        raise StudioError("models.truncated", file=str(file))


def check_weights(file: Path) -> None:
    """Raise StudioError unless `file` is there, is no placeholder, and ends where its own header says."""
    present(file)
    whole = _is_whole_safetensors if file.suffix == ".safetensors" else _is_whole_torch
    if not whole(file):
        raise StudioError("models.truncated", file=str(file))


def tensor_headers(file: Path) -> dict[str, TensorHeader]:
    """The tensors of a weight file by their names. Raises StudioError where they cannot be read, OSError."""
    if file.suffix == ".safetensors":
        table = safetensors_header(file)
        try:
            return {name: _header(entry) for name, entry in table.items() if name != "__metadata__"}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StudioError("models.truncated", file=str(file)) from error
    try:
        return read_table(file)
    except ValueError as error:
        raise StudioError("models.truncated", file=str(file)) from error


def safetensors_header(file: Path) -> dict[str, Any]:
    """The table at the start of a safetensors file: name -> type, shape, place. Raises StudioError."""
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


def _header(entry: Any) -> TensorHeader:
    shape = tuple(int(each) for each in entry["shape"])
    kind = str(entry["dtype"])
    return TensorHeader(shape, _BITS.get(kind, 0), kind[:1] in "IU")


def _is_whole_torch(file: Path) -> bool:
    """Whether it is PyTorch's zip, whose members are never packed: a packed one can unpack to any size. Or a file of
    its old form, as long as it says of itself."""
    try:
        if is_old_form(file):
            return old_form_length(file) == file.stat().st_size
        with zipfile.ZipFile(file) as archive:
            return all(each.compress_type == zipfile.ZIP_STORED for each in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, KeyError):
        return False


def _is_whole_safetensors(file: Path) -> bool:
    header, size = safetensors_header(file), file.stat().st_size
    end = 0
    try:
        spans = sorted(_span(entry) for name, entry in header.items() if name != "__metadata__")
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        return False
    for first, last in spans:  # one after the other, without a gap
        if first != end:
            return False
        end = last
    return size == 8 + _header_length(file) + end


def _span(entry: Any) -> tuple[int, int]:
    """Where a tensor's bytes lie. Raises ValueError where they are not as many as its shape and type say."""
    first, last = entry["data_offsets"]
    bits = _BITS.get(entry["dtype"])
    if bits is not None and (last - first) * 8 != math.prod(entry["shape"]) * bits:
        raise ValueError(entry)
    return int(first), int(last)


def _header_length(file: Path) -> int:
    with opened(file) as stream:
        start = stream.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or not 2 <= length <= min(_LONGEST_HEADER, file.stat().st_size - 8):
        raise StudioError("models.truncated", file=str(file))
    return length
