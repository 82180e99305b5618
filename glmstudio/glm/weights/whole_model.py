"""A whole model on disk: in the published layout where that can say all of it, else in transformers' own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from transformers import GlmConfig, GlmForCausalLM

from glmstudio.errors import StudioError
from glmstudio.files import write_json
from glmstudio.glm.weights.base_weights import read_tensors
from glmstudio.glm.weights.layout import native_tensors, stored_tensors
from glmstudio.glm.weights.model_config import has_published_layout, stored_config
from glmstudio.models.folder import PREFIX, weight_files

_SHARD = "2GB"
_BESIDE = ("tokenizer.model", "tokenizer_config.json")
_BESIDE_NATIVE = (*_BESIDE, "tokenizer.json", "chat_template.jinja", "generation_config.json")


def save_whole(model: GlmForCausalLM, folder: Path, *, base: Path, dtype: torch.dtype | None = None) -> None:
    """Write `config.json`, the weights as safetensors of `dtype` (None: as they are), and the tokenizer of `base`.

    float16 cannot hold every number that training may reach; where one does not fit, bfloat16 is taken instead.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = stored_tensors(dict(model.state_dict()), model.config)
    if dtype is torch.float16 and any(tensor.abs().max() > torch.finfo(dtype).max for tensor in tensors.values()):
        dtype = torch.bfloat16
    plan = split_torch_state_dict_into_shards(
        tensors, max_shard_size=_SHARD, filename_pattern="model{suffix}.safetensors"
    )
    for file, names in plan.filename_to_tensors.items():
        shard = {name: tensors[name].detach().to("cpu", dtype).contiguous() for name in names}
        save_file(shard, folder / file, metadata={"format": "pt"})
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        write_json(folder / "model.safetensors.index.json", index)
    write_beside(folder, model.config, base)


def write_beside(folder: Path, config: GlmConfig, base: Path) -> None:
    """What makes a folder of weights a model: `config.json`, and the tokenizer of `base`."""
    write_json(folder / "config.json", stored_config(config))
    for name in _BESIDE if has_published_layout(config) else _BESIDE_NATIVE:
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)


def read_whole(folder: Path, shapes: Mapping[str, torch.Size], config: GlmConfig) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights of `folder` under their native names, one by one and mapped rather than read.

    `shapes` are all that the model has. Raises StudioError where the folder's are others, or not all of them.
    """
    wanted = dict(shapes)
    for file in weight_files(folder):
        for name, tensor in read_tensors(file).items():
            if PREFIX in name:
                raise StudioError("models.holds_prefix", folder=str(folder))
            for native, piece in native_tensors(name, tensor, config).items():
                if wanted.pop(native, None) != piece.shape:
                    raise StudioError("models.foreign_tensor", file=str(file), name=name)
                yield native, piece
    if wanted:
        raise StudioError("models.missing_tensor", folder=str(folder), count=len(wanted), name=min(wanted))
