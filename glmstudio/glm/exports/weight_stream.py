"""A model's weights under transformers' names, a slice at a time, with a LoRA adapter added on the way.

Nothing is held: a tensor stays in its file, which is mapped, and whoever writes casts slices of about a million
numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import GlmConfig

from glmstudio.errors import StudioError
from glmstudio.glm.adapters.lora_files import read_lora
from glmstudio.glm.weights.base_weights import empty_base, read_tensors
from glmstudio.glm.weights.layout import native_tensors
from glmstudio.models.contents.weight_file import check_weights
from glmstudio.models.folder import PREFIX, weight_files

_SLICE = 1 << 20  # numbers

Shape = tuple[int, ...]


class WeightStream:
    """The tensors of the model in `folder`; with `adapter`, a folder with LoRA, as they are when it is merged."""

    def __init__(self, folder: Path, adapter: Path | None = None) -> None:
        """Only headers and the adapter are read. Raises StudioError for a folder that is no whole model."""
        empty = empty_base(folder)
        self.folder = folder
        self.config: GlmConfig = empty.config
        self._wanted = {name: tuple(each.shape) for name, each in empty.named_parameters()}
        self._lora: dict[str, torch.Tensor] = {}
        self._scale = 0.0
        if adapter is not None:
            lora, self._lora = read_lora(adapter, self.config)
            self._scale = lora.alpha / lora.rank
            self._fit(adapter)
        self.shapes: dict[str, Shape] = dict(self._planned())
        if len(self.shapes) < len(self._wanted):
            left = self._wanted.keys() - self.shapes.keys()
            raise StudioError("models.missing_tensor", folder=str(folder), count=len(left), name=min(left))

    def tensors(self) -> Iterator[tuple[str, Iterator[torch.Tensor]]]:
        """Each tensor in the order of `shapes`: its name, and its rows in slices, of the type that the file has (merged
        ones in float32). The slices must be used before the next tensor is asked for."""
        for file in weight_files(self.folder):
            for source, tensor in _one_by_one(file):
                for name, piece in native_tensors(source, tensor, self.config).items():
                    yield name, self._slices(name, piece)

    def _fit(self, adapter: Path) -> None:
        """Raise StudioError where the adapter's matrices are of another width than this model's."""
        for name, each in self._lora.items():
            layer, _, which = name.partition(".lora_")
            out, into = self._wanted[f"{layer}.weight"]
            if (each.shape[1] != into) if which.startswith("A") else (each.shape[0] != out):
                raise StudioError("adapters.other_model", folder=str(adapter))

    def _planned(self) -> Iterator[tuple[str, Shape]]:
        seen: set[str] = set()
        for file in weight_files(self.folder):
            check_weights(file)
            for source, tensor in read_tensors(file).items():
                if PREFIX in source:  # what other programs have no place for
                    raise StudioError("exports.holds_prefix", folder=str(self.folder))
                try:
                    pieces = native_tensors(source, tensor, self.config)
                except (KeyError, RuntimeError, ValueError) as error:
                    raise StudioError("models.foreign_tensor", file=str(file), name=source) from error
                for name, piece in pieces.items():
                    if name in seen or self._wanted.get(name) != piece.shape or not piece.is_floating_point():
                        raise StudioError("models.foreign_tensor", file=str(file), name=source)
                    seen.add(name)
                    yield name, tuple(piece.shape)

    def _slices(self, name: str, tensor: torch.Tensor) -> Iterator[torch.Tensor]:
        rows = max(1, _SLICE // max(1, tensor[0].numel()))
        layer = name.removesuffix(".weight")
        up, down = self._lora.get(f"{layer}.lora_B.weight"), self._lora.get(f"{layer}.lora_A.weight")
        for at in range(0, tensor.shape[0], rows):
            part = tensor[at : at + rows].detach()
            if up is not None and down is not None:
                part = part.float() + up[at : at + rows] @ down * self._scale
            yield part


def _one_by_one(file: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a file that was looked at before. What was read is let go with each: a mapped page counts as
    memory as long as its map is there."""
    if file.suffix != ".safetensors":
        yield from read_tensors(file).items()
        return
    with safe_open(file, framework="pt") as shard:
        names = list(shard.keys())
    for name in names:
        with safe_open(file, framework="pt") as shard:
            tensor = shard.get_tensor(name)
        yield name, tensor
        del tensor
