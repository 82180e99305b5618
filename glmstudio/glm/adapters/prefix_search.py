"""A prefix as other trainers leave it: alone or in a checkpoint with the whole model, in one file or in a shard, under
its full names or under some with the beginning changed or cut off."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import torch

from glmstudio.errors import StudioError
from glmstudio.glm.adapters.adapter_words import in_adapter_words
from glmstudio.glm.weights.base_weights import named_tensors
from glmstudio.models.contents.torch_table import TensorHeader
from glmstudio.models.contents.weight_file import check_weights, tensor_headers

_OWN = r"((?:embedding|trans\.\d+)\.(?:weight|bias))"
_FULL = re.compile(rf"(?:.*\.)?prefix_encoder\.{_OWN}")
_BARE = re.compile(rf"(?:module\.)?{_OWN}")
_USUAL = ("model.safetensors", "pytorch_model.bin")
_ENDS = (".safetensors", ".bin", ".pt", ".pth")
_MOST_FILES = 1000


def prefix_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of the prefix in `folder` under their own names ("embedding.weight"). Raises StudioError."""
    found: dict[str, torch.Tensor] = {}
    tables = dict(_tables(folder))
    for pattern in (_FULL, _BARE):
        for file, table in tables.items():
            own = {name: match[1] for name in table if (match := pattern.fullmatch(name))}
            if any(table[name].empty for name in own):
                raise StudioError("adapters.empty", file=str(file))
            with in_adapter_words():
                found |= {own[name]: tensor for name, tensor in named_tensors(file, own).items()} if own else {}
        if found:
            return found
    raise StudioError("adapters.none", folder=str(folder))


def _tables(folder: Path) -> Iterator[tuple[Path, dict[str, TensorHeader]]]:
    """The files that may hold it, with what their headers say. Raises StudioError where a usual one is damaged."""
    others = (file for file in sorted(folder.iterdir()) if file.suffix in _ENDS and file.name not in _USUAL)
    files = [folder / name for name in _USUAL if (folder / name).is_file()] + list(others)
    for file in files[:_MOST_FILES]:
        try:
            with in_adapter_words():
                check_weights(file)
                yield file, tensor_headers(file)
        except (StudioError, OSError):
            if file.name in _USUAL:
                raise
