"""Plain values from process to process: JSON in tensors of bytes.

PyTorch's own way is the pickle, which runs whatever its sender likes in whoever reads it. Who joins a run could be a
stranger, so here nothing that is received can be more than a value.
"""

from __future__ import annotations

import json
import pickle
from typing import Any

import torch
import torch.distributed as dist

from glmstudio.errors import StudioError

MOST = 16 << 20  # bytes of one value; the largest, a list of a model's files, has some thousand


def everybodys(value: Any, world: int) -> list[Any]:
    """The values of all `world` processes, by rank. Raises StudioError where one is no plain value."""
    own = encoded(value)
    sizes = _all(torch.tensor([len(own)], dtype=torch.int64), world)
    lengths = [_length(int(size)) for size in sizes]
    row = torch.zeros(max(lengths), dtype=torch.uint8)
    row[: len(own)] = torch.frombuffer(bytearray(own), dtype=torch.uint8)
    rows = _all(row, world)
    return [decoded(bytes(each[:length].numpy())) for each, length in zip(rows, lengths, strict=True)]


def encoded(value: Any) -> bytes:
    """The value as it is sent: at least one byte."""
    data = json.dumps(value, separators=(",", ":")).encode("ascii")
    if len(data) > MOST:
        raise StudioError("runs.stranger", reason=f"{len(data)} > {MOST}")
    return data


def decoded(data: bytes) -> Any:
    """The value that was sent. Raises StudioError where it is no JSON."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StudioError("runs.stranger", reason=f"{type(error).__name__}, {data[:16]!r}") from error


def refuse_pickles() -> None:
    """From here on PyTorch's own exchange of objects, where a library uses it, takes plain values only."""
    dist.distributed_c10d._unpickler = _PlainReader  # noqa: SLF001  the one name under which all of it reads


class _PlainReader(pickle.Unpickler):
    """Reads numbers, texts, lists and tables. What runs code would have to name a function, or a class."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is no plain value")


def _length(given: int) -> int:
    if not 0 < given <= MOST:
        raise StudioError("runs.stranger", reason=f"{given} > {MOST}" if given > 0 else str(given))
    return given


def _all(row: torch.Tensor, world: int) -> list[torch.Tensor]:
    rows = [torch.empty_like(row) for _ in range(world)]
    dist.all_gather(rows, row)
    return rows
