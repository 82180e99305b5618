"""The child of `launcher.py bench`: `python -m glmstudio.train.measuring.measure FILE`.

FILE is JSON. `ask` in it says what to measure (`planning.machine_bench.Ask`); the child adds `stage` (what it measures
now), `left` (seconds that it will still take, about), `found` (the figures, as they come), and at the end `done`, or
`problem`. Nothing is measured that the free memory does not hold.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

from glmstudio.errors import StudioError
from glmstudio.files import read_table, write_json
from glmstudio.glm.load import best_dtype
from glmstudio.planning.model_shape import ModelShape
from glmstudio.system.portable.file_access import drop_from_memory, is_in_memory
from glmstudio.train.measuring import layer_timing
from glmstudio.train.measuring.layer_timing import LayerBench

_BLOCK = 16 << 20  # bytes that are read or written at once
_MODEL_SECONDS = 45.0  # for the passes over the largest model's layers


def main(file: Path) -> int:
    """Measure all of it; 0 when it is done."""
    told = Told(file)
    try:
        measure(told)
        told.say(done=True)
        return 0
    except StudioError as problem:
        told.say(problem=problem.to_json())
    except (torch.OutOfMemoryError, MemoryError):
        told.say(problem=StudioError("bench.no_memory").to_json())
    return 1


class Told:
    """The file that parent and child share."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._table: dict[str, Any] = read_table(file)
        self.ask: dict[str, Any] = self._table["ask"]
        self.found: dict[str, Any] = self._table.setdefault("found", {})

    def say(self, **more: Any) -> None:
        """Add to the file."""
        self._table |= more
        write_json(self._file, self._table, parents=False)


def measure(told: Told) -> None:
    """Every figure, stage by stage."""
    ask, found = told.ask, told.found
    device = torch.device("cuda" if torch.cuda.is_available() and ask["device"] != "cpu" else "cpu")
    dtype, seconds = best_dtype(device), float(ask["seconds"])
    found |= {"device": device.type, "dtype": str(dtype).removeprefix("torch."), "torch": torch.__version__}
    bench = LayerBench(device, dtype, free_memory(device), 1e12, seconds)
    rest = 6 * seconds + 30
    for stage, figure in (("product", product), ("stream", stream), ("place", place)):
        told.say(stage=stage, left=round(rest))
        found[stage] = figure(bench)
        rest -= 2 * seconds
    told.say(stage="disk", left=round(rest))
    found["disk"] = disk(Path(ask["weights"]) if ask["weights"] else None, Path(ask["folder"]), ask["disk_bytes"])
    bench = LayerBench(device, dtype, free_memory(device), found["product"] * 1e12, seconds)
    shapes = {name: ModelShape(**sizes) for name, sizes in ask["shapes"].items()}
    found["models"] = {}
    for name, shape in shapes.items():
        found["models"][name] = {}
        _model(told, name, shape, bench)
    told.say(stage="product", left=round(seconds))
    found["product_again"] = product(bench)


def _model(told: Told, name: str, shape: ModelShape, bench: LayerBench) -> None:
    """The layers and the head of one model. Seconds are of one layer, or of the head."""
    ask, into = told.ask, told.found["models"][name]
    longest = max(ask["tokens"])
    part = layer_timing.choose_part(shape, longest, bench, _MODEL_SECONDS)
    if part is None:
        return
    each = part.factor / part.shape.layers
    work = part.shape.linear_parameters / bench.flops
    into |= {"layers": part.shape.layers, "scaled": part.factor != 1, "training": {}, "token": {}}
    model = layer_timing.random_model(part.shape, bench)

    def answering() -> None:
        into["prompt"] = each * layer_timing.prompt_seconds(model, ask["prompt"], bench)
        into["token"]["16"] = each * layer_timing.token_seconds(model, bench)

    def training(method: str) -> None:
        taken = layer_timing.training_seconds(model, method, ask["tokens"], bench)
        into["training"][method] = {
            str(tokens): each * seconds for tokens, seconds in zip(ask["tokens"], taken, strict=True)
        }

    def small() -> None:
        for bits in (8, 4):
            into["token"][str(bits)] = layer_timing.small_token_seconds(part, bits, bench)

    def head() -> None:
        into["head"] = layer_timing.head_seconds(shape, ask["learned"], bench)

    passes = sum(ask["tokens"]) * 4 * work
    stages: list[tuple[str, float, Callable[[], None]]] = [
        ("answering", 4 * ask["prompt"] * work, answering),
        ("ptuning_v2", passes, lambda: training("ptuning_v2")),
        ("lora", passes, lambda: training("lora")),
        ("small", 5.0 if part.shape.hidden > 1000 else 0.0, small),
        ("head", 8 * shape.vocab * shape.hidden * ask["learned"] / bench.flops, head),
    ]
    rest = sum(max(planned, bench.seconds) for _, planned, _ in stages)
    for stage, planned, do in stages:
        told.say(stage=stage, model=name, left=round(rest))
        do()
        rest -= max(planned, bench.seconds)


def free_memory(device: torch.device) -> int:
    """Bytes that are free where it is computed."""
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what PyTorch keeps for later is free, too
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def product(bench: LayerBench) -> float:
    """TFLOP/s of a matrix product of the size that a layer has."""
    rows, width = (8192, 8192) if bench.device.type == "cuda" else (1024, 2048)
    left, right = (
        torch.randn(size, width, device=bench.device, dtype=bench.dtype) / width**0.5 for size in (rows, width)
    )
    return 2 * rows * width * width / bench.time(lambda: left @ right.T) / 1e12


def stream(bench: LayerBench) -> float:
    """GB/s in which weights come through a product with one vector: far more of them than any cache holds."""
    most = int(bench.seconds * (4 << 30 if bench.device.type == "cuda" else 1 << 30))
    width, size = 4096, bench.dtype.itemsize
    rows = 8192
    count = max(2, min(most, bench.free // 4) // (rows * width * size))
    blocks = [torch.full((rows, width), 0.5, device=bench.device, dtype=bench.dtype) for _ in range(count)]
    vector = torch.ones(width, device=bench.device, dtype=bench.dtype)

    def once() -> None:
        for block in blocks:
            torch.mv(block, vector)

    return count * rows * width * size / bench.time(once) / 1e9


def place(bench: LayerBench) -> float:
    """GB/s in which 16-bit weights from a file get to the device in the type that computes, as loading does it."""
    given = torch.ones(128 << 20, dtype=torch.float16)
    return given.nbytes / bench.time(lambda: given.to(device=bench.device, dtype=bench.dtype, copy=True)) / 1e9


def disk(weights: Path | None, folder: Path, most: int) -> dict[str, Any]:
    """Reading speed in GB/s where the models lie: `speed`, and `cached`, whether it was partly the memory's.

    A file of weights is read where there is one, else a temporary file of at most `most` bytes. None where neither
    can be had.
    """
    try:
        if weights:
            with weights.open("rb", buffering=0) as file:
                return _read(file.fileno(), most) | {"temporary": False}
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            _fill(file.fileno(), most)
            return _read(file.fileno(), most) | {"temporary": True}
    except OSError:
        return {"speed": None, "cached": None, "temporary": weights is None}


def _fill(handle: int, most: int, seconds: float = 8.0) -> None:
    """Write a file that no disk can compress, for so many seconds at most, and leave the disk its room."""
    stat = os.fstatvfs(handle)
    most = min(most, stat.f_bavail * stat.f_frsize // 4)
    noise, written, end = os.urandom(_BLOCK), 0, time.perf_counter() + seconds
    while written < most and time.perf_counter() < end:
        written += os.write(handle, noise)
        if written % (64 << 20) == 0:
            os.fsync(handle)
    os.fsync(handle)


def _read(handle: int, most: int, seconds: float = 8.0) -> dict[str, Any]:
    with contextlib.suppress(OSError):
        drop_from_memory(handle)
    size = min(most, os.fstat(handle).st_size)
    kept = [is_in_memory(handle, size * eighth // 8) for eighth in range(1, 8)]
    cached = None if None in kept else any(kept)
    os.lseek(handle, 0, os.SEEK_SET)
    count, begun = 0, time.perf_counter()
    while count < most and time.perf_counter() - begun < seconds and (block := os.read(handle, _BLOCK)):
        count += len(block)
    taken = time.perf_counter() - begun
    return {"speed": count / taken / 1e9 if count >= _BLOCK else None, "cached": cached}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
