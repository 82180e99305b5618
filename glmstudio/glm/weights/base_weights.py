"""Weights from a published folder into the native model, without ever holding them twice.

Shards are mapped into memory, not read; a tensor that keeps its type stays mapped, one that changes its type or device
is copied and its page given back when the shard is done.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import GlmConfig, GlmForCausalLM

from glmstudio.errors import StudioError
from glmstudio.glm.attention import ATTENTION
from glmstudio.glm.layers import Angles, use_own_layers
from glmstudio.glm.weights.layout import HEAD, is_tied_head, native_tensors
from glmstudio.glm.weights.model_config import MODELS, native_config
from glmstudio.models.contents.torch_table import is_old_form
from glmstudio.models.contents.weight_file import check_weights
from glmstudio.models.folder import PREFIX, read_config, weight_files


def load_base(folder: Path, *, dtype: torch.dtype | None, device: torch.device) -> GlmForCausalLM:
    """The model of a folder in either layout, in evaluation mode; without a `dtype` in the types of its files. Its
    `holds_prefix` says whether there is a prefix among them, which it does not have yet.

    Raises StudioError, naming the file and the remedy, for a folder that is wrong, cut off, foreign or not whole.
    """
    model = empty_base(folder)
    model.holds_prefix = False
    config = model.config
    wanted = dict(model.named_parameters())
    heads: list[tuple[Path, torch.Tensor]] = []
    for file in weight_files(folder):
        check_weights(file)
        state: dict[str, torch.Tensor] = {}
        for name, tensor in _tensors(file):
            if PREFIX in name:  # no part of the base: whoever loads it attaches it
                model.holds_prefix = True
                continue
            if isinstance(tensor, torch.Tensor) and not tensor.numel():
                raise StudioError("models.empty_tensors", file=str(file))
            if is_tied_head(name, config):
                heads.append((file, tensor))
            try:
                pieces = native_tensors(name, tensor, config)
            except (KeyError, RuntimeError, ValueError) as error:
                raise StudioError("models.foreign_tensor", file=str(file), name=name) from error
            for native, piece in pieces.items():
                if native not in wanted or wanted[native].shape != piece.shape:
                    raise StudioError("models.foreign_tensor", file=str(file), name=name)
                moved = piece.to(device)
                state[native] = moved if dtype is None else moved.to(dtype)  # a GPU does that faster than the CPU
        model.load_state_dict(state, strict=False, assign=True)
        for native in state:
            wanted.pop(native, None)
    if wanted:
        raise StudioError("models.missing_tensor", folder=str(folder), count=len(wanted), name=min(wanted))
    tie_head(model)
    for file, head in heads:
        _refuse_own_head(model, file, head)
    set_angles(model, device)
    model.requires_grad_(True)
    model.eval()
    return model


def empty_base(folder: Path) -> GlmForCausalLM:
    """The model of a folder without its numbers, which take no memory yet. Raises StudioError."""
    with torch.device("meta"):
        return native_model(native_config(read_config(folder), str(folder / "config.json")))


def native_model(config: GlmConfig) -> GlmForCausalLM:
    """Transformers' model, of the class that the configuration names, with the layers of this project."""
    model = MODELS[config.model_type](config)
    model.set_attn_implementation(ATTENTION)
    use_own_layers(model)
    return model


def tie_head(model: GlmForCausalLM) -> None:
    """Make the head the embedding again, where it is: weights that were put in place anew are two."""
    if model.config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight


def _refuse_own_head(model: GlmForCausalLM, file: Path, head: torch.Tensor) -> None:
    """Raise StudioError where a file holds another head than the embedding that it should be."""
    table = model.model.embed_tokens.weight
    if head.shape != table.shape or not torch.equal(head.to(table.device, table.dtype), table):
        raise StudioError("models.foreign_tensor", file=str(file), name=HEAD)


def set_angles(model: GlmForCausalLM, device: torch.device) -> None:
    """Compute the rotary angles, which no file holds, on the device."""
    with device:
        model.model.rotary_emb = Angles(config=model.config)


def read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """All tensors of one small file, by name. Raises StudioError for a file that is damaged or not plain tensors."""
    check_weights(file)
    return dict(_tensors(file))


@contextlib.contextmanager
def in_words(folder: Path) -> Iterator[None]:
    """Whatever a folder from outside throws, as the StudioError that names it; too little memory stays what it is."""
    try:
        yield
    except (StudioError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if "memory" in str(error).lower():
            raise
        raise StudioError("models.damaged", file=str(folder)) from error


def adapter_tensors(file: Path) -> dict[str, torch.Tensor]:
    """As `read_tensors`, of an adapter: each tensor has all its numbers in the file. A small one can describe a tensor
    that would fill the memory, and an adapter's size is not known before. Raises StudioError."""
    check_weights(file)
    found = dict(_tensors(file, nested=True))
    for name, tensor in found.items():
        refuse_odd_tensor(file, name, tensor)
    return found


def refuse_odd_tensor(file: Path, name: object, tensor: object) -> None:
    """Raise StudioError unless it is a plain tensor with all its numbers in the file, under a name."""
    plain = isinstance(name, str) and isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided
    if not plain or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():  # type: ignore[attr-defined]
        raise StudioError("models.damaged", file=str(file))


def named_tensors(file: Path, wanted: Collection[str]) -> dict[str, torch.Tensor]:
    """As `adapter_tensors`, but only those of these names: the rest of a whole checkpoint is not touched."""
    check_weights(file)
    found = {name: tensor for name, tensor in _tensors(file, nested=True) if name in wanted}
    for name, tensor in found.items():
        refuse_odd_tensor(file, name, tensor)
    return found


def _flat(table: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a table, and of tables in it, such as the "state_dict" that some trainers write."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value)
        else:
            yield name, value


def _tensors(file: Path, *, nested: bool = False) -> Iterator[tuple[str, torch.Tensor]]:
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as shard:
                for name in shard.keys():  # noqa: SIM118 (a safetensors file is no mapping)
                    yield name, shard.get_tensor(name)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                mapped = not is_old_form(file)
                shard = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
            yield from _flat(shard) if nested else shard.items()
    except (SafetensorError, OSError, RuntimeError, ValueError, AttributeError, EOFError) as error:
        raise StudioError("models.damaged", file=str(file)) from error
    except Exception as error:  # torch's unpickler raises a class of its own for anything but plain tensors
        if type(error).__name__ == "UnpicklingError":
            raise StudioError("models.damaged", file=str(file)) from error
        raise
