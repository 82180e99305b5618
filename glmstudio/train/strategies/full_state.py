"""What full fine-tuning keeps: a whole model (`whole_model`), and beside it what the optimizer remembers.

    config.json, tokenizer…                  so that a checkpoint is a model that chat and export read
    model*.safetensors (+ index)             float32
    optimizer*.safetensors + index           `<native name>.exp_avg` and `.exp_avg_sq`; the step stands in the index

Nothing in it depends on how the run was divided, so a checkpoint goes on with any strategy and any number of processes.
Numbers go through one tensor at a time: no process ever holds more than its own share and the files it writes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from glmstudio.errors import StudioError
from glmstudio.files import read_table, write_json
from glmstudio.glm.weights.base_weights import read_tensors
from glmstudio.glm.weights.layout import stored_tensors
from glmstudio.glm.weights.whole_model import read_whole, write_beside
from glmstudio.train.strategies.base import MOMENTS, WEIGHT, ShardingStrategy

OPTIMIZER_INDEX = "optimizer.safetensors.index.json"
_FILE = 1_000_000_000  # bytes of float32 weights that go into one file; the embedding of 6B alone is as large

Item = tuple[str, str, torch.Tensor]  # native name, WEIGHT or one of MOMENTS, the full tensor


def save_state(strategy: ShardingStrategy, folder: Path, base: Path, *, spread: bool) -> None:
    """Write all that the run needs to go on; every process calls it, and the first one writes.

    `spread`: each process writes its part of the files, all at once, to the disk that they share.
    """
    pieces = _pieces(strategy, least=0 if spread else _FILE)
    writers = strategy.context.world if spread else 1
    for start in range(0, len(pieces), writers):
        held: dict[str, dict[str, torch.Tensor]] = {}
        for writer, names in enumerate(pieces[start : start + writers]):
            found = _gather(strategy, names, (WEIGHT, *MOMENTS), keep=strategy.context.rank == writer)
            held = found or held
        if held:
            number = start + strategy.context.rank
            _write(folder / _file("model", number, len(pieces)), stored_tensors(held.pop(WEIGHT), strategy.config))
            moments = {f"{name}.{kind}": tensor for kind, named in held.items() for name, tensor in named.items()}
            _write(folder / _file("optimizer", number, len(pieces)), moments)
    if strategy.context.first:
        _write_weight_index(strategy, folder, pieces)
        files = {
            f"{name}.{kind}": _file("optimizer", number, len(pieces))
            for number, names in enumerate(pieces)
            for name in names
            for kind in MOMENTS
        }
        write_json(folder / OPTIMIZER_INDEX, {"metadata": {"step": strategy.step}, "weight_map": files})
        write_beside(folder, strategy.config, base)


def save_result(strategy: ShardingStrategy, folder: Path, base: Path) -> None:
    """Write the 16-bit model that the run made; every process calls it, and the first one writes.

    float16 cannot hold every number that training may reach; where one does not fit, bfloat16 is taken instead.
    """
    largest = max(float(strategy.get(name, WEIGHT).abs().max()) for name in strategy.shapes)
    dtype = torch.float16 if largest <= torch.finfo(torch.float16).max else torch.bfloat16
    pieces = _pieces(strategy, least=_FILE)
    for number, names in enumerate(pieces):
        held = _gather(strategy, names, (WEIGHT,), keep=strategy.context.first)
        if held:
            weights = {name: tensor.to(dtype) for name, tensor in held[WEIGHT].items()}
            _write(folder / _file("model", number, len(pieces)), stored_tensors(weights, strategy.config))
    if strategy.context.first:
        _write_weight_index(strategy, folder, pieces)
        write_beside(folder, strategy.config, base)


def restore_state(strategy: ShardingStrategy, folder: Path) -> None:
    """Give every process its share of what lies in `folder`, which the first one reads; every process calls it.

    A folder without an optimizer is a model to begin with. Raises StudioError where the folder holds something else.
    """
    items = _read(strategy, folder) if strategy.context.first else iter(())
    while item := _share(strategy, next(items, None)):
        strategy.put(*item)
    strategy.step = _share_value(strategy, _step(folder, strategy) if strategy.context.first else 0)


def _gather(
    strategy: ShardingStrategy, names: Sequence[str], kinds: Sequence[str], *, keep: bool
) -> dict[str, dict[str, torch.Tensor]]:
    """The full tensors in main memory, by kind and name; empty for whoever only helps to put them together."""
    held: dict[str, dict[str, torch.Tensor]] = {}
    for kind in kinds:
        for name in names:
            tensor = strategy.get(name, kind)
            if keep:
                held.setdefault(kind, {})[name] = tensor.to("cpu")
    return held


def _pieces(strategy: ShardingStrategy, *, least: int) -> list[list[str]]:
    """The native names of each file: the embedding, the layers, norm and head, put together up to `least` bytes."""
    groups: dict[str, list[str]] = {}
    for name in strategy.shapes:
        layer = name.split(".")[2] if name.startswith("model.layers.") else name.split(".")[-2]
        groups.setdefault({"lm_head": "norm"}.get(layer, layer), []).append(name)
    pieces: list[list[str]] = []
    room = -1
    for names in groups.values():
        size = sum(4 * math.prod(strategy.shapes[name]) for name in names)
        if size > room:
            pieces.append([])
            room = least
        pieces[-1] += names
        room -= size
    return pieces


def _file(stem: str, number: int, count: int) -> str:
    return f"{stem}.safetensors" if count == 1 else f"{stem}-{number + 1:05}-of-{count:05}.safetensors"


def _write(file: Path, tensors: dict[str, torch.Tensor]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file, metadata={"format": "pt"})


def _write_weight_index(strategy: ShardingStrategy, folder: Path, pieces: Sequence[Sequence[str]]) -> None:
    if len(pieces) == 1:
        return
    files, size = {}, 0
    for number, names in enumerate(pieces):
        shapes = {name: torch.empty(strategy.shapes[name], device="meta") for name in names}
        for name, tensor in stored_tensors(shapes, strategy.config).items():
            files[name] = _file("model", number, len(pieces))
            size += tensor.numel()
    write_json(folder / "model.safetensors.index.json", {"metadata": {"parameters": size}, "weight_map": files})


def _read(strategy: ShardingStrategy, folder: Path) -> Iterator[Item]:
    for name, tensor in read_whole(folder, strategy.shapes, strategy.config):
        yield name, WEIGHT, tensor
    if (folder / OPTIMIZER_INDEX).is_file():
        yield from _moments(strategy, folder)


def _moments(strategy: ShardingStrategy, folder: Path) -> Iterator[Item]:
    wanted = {f"{name}.{kind}": (name, kind) for name in strategy.shapes for kind in MOMENTS}
    for shard in sorted(set(read_table(folder / OPTIMIZER_INDEX)["weight_map"].values())):
        file = folder / Path(shard).name
        for key, tensor in read_tensors(file).items():
            name, kind = wanted.pop(key, (key, ""))
            yield name, kind, _fitting(strategy, file, name, tensor)
    if wanted:
        raise StudioError("models.missing_tensor", folder=str(folder), count=len(wanted), name=min(wanted))


def _fitting(strategy: ShardingStrategy, file: Path, name: str, tensor: torch.Tensor) -> torch.Tensor:
    if strategy.shapes.get(name) != tensor.shape:
        raise StudioError("models.foreign_tensor", file=str(file), name=name)
    return tensor


def _step(folder: Path, strategy: ShardingStrategy) -> int:
    """How many steps the optimizer has made: fewer than the run where 16-bit training left some out."""
    if (folder / OPTIMIZER_INDEX).is_file():
        return int(read_table(folder / OPTIMIZER_INDEX)["metadata"]["step"])
    return strategy.step


def _share(strategy: ShardingStrategy, item: Item | None) -> Item | None:
    """The first process's tensor, in every process, on its device."""
    if strategy.context.world == 1:
        return item
    about = _share_value(strategy, item and (item[0], item[1]))
    if about is None:
        return None
    name, kind = about
    if item is None:
        tensor = torch.empty(strategy.shapes[name], device=strategy.device)
    else:
        tensor = item[2].to(strategy.device, torch.float32).contiguous()
    dist.broadcast(tensor, 0)
    return name, kind, tensor


def _share_value(strategy: ShardingStrategy, value: Any) -> Any:
    return strategy.context.gather(value)[0]
