"""What was learned, on disk: a LoRA adapter (`glmstudio.glm.adapters.lora`), or a prefix in one of three forms.

- ours: `prefix.safetensors` and `adapter.json`;
- official: `pytorch_model.bin` and a `config.json` with `pre_seq_len`, as the original scripts write and read them, and
  what other trainers make of it (`glmstudio.glm.adapters.prefix_search`);
- PEFT: `adapter_config.json` and `adapter_model.safetensors`. PEFT counts the real tokens from P, not from 0, so the
  prefix's keys are turned by the rotary angle of position P on the way out and back on the way in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import GlmConfig, GlmForCausalLM
from transformers.models.glm.modeling_glm import GlmRotaryEmbedding, apply_rotary_pos_emb

from glmstudio.errors import StudioError
from glmstudio.files import read_json, write_json
from glmstudio.glm.adapters.adapter_words import in_adapter_words
from glmstudio.glm.adapters.lora_files import load_lora
from glmstudio.glm.adapters.prefix import Prefix, attach_prefix
from glmstudio.glm.adapters.prefix_search import prefix_tensors
from glmstudio.glm.weights.base_weights import adapter_tensors
from glmstudio.glm.weights.layout import PREFIX_ENCODER
from glmstudio.glm.weights.model_config import published_config
from glmstudio.models.family import refuse_other_adapter

FORMAT = "glmstudio-prefix-1"


def attach_adapter(model: GlmForCausalLM, folder: Path) -> None:
    """Put the prefix or the LoRA adapter in `folder` on `model`, for answering. Raises StudioError."""
    if is_lora(folder):
        refuse_other_adapter(folder)
        load_lora(folder, model)
    else:
        attach_prefix(model, load_prefix(folder, model))
    model.eval()


def is_lora(folder: Path) -> bool:
    """Whether the folder says that it holds something else than a prefix."""
    about: Any = read_json(folder / "adapter_config.json")
    return isinstance(about, dict) and about.get("peft_type") != "PREFIX_TUNING"


def load_prefix(folder: Path, model: GlmForCausalLM) -> Prefix:
    """The prefix in `folder`, whichever of the three forms it has, sized for `model`.

    Raises StudioError where there is none, where it is damaged, and where it was made for another model.
    """
    if not folder.is_dir():
        raise StudioError("adapters.missing", folder=str(folder))
    refuse_other_adapter(folder)
    if (folder / "adapter.json").is_file():
        with in_adapter_words():
            tensors = adapter_tensors(folder / "prefix.safetensors")
    elif (folder / "adapter_config.json").is_file():
        tensors = _from_peft(folder, model.config)
    else:
        tensors = prefix_tensors(folder)
    return _build(tensors, model, folder)


def save_prefix(model: GlmForCausalLM, folder: Path, *, base: str) -> None:
    """Write our form: the prefix's tensors as trained, and which model (`base`) they belong to."""
    folder.mkdir(parents=True, exist_ok=True)
    prefix: Prefix = model.prefix
    save_file(_tensors(prefix), folder / "prefix.safetensors", metadata={"format": "pt"})
    about = {"format": FORMAT, "base": base, "length": prefix.length, "projection": prefix.trans is not None}
    write_json(folder / "adapter.json", about)


def save_official(model: GlmForCausalLM, folder: Path) -> None:
    """Write the official form, which the original demo reads as PT_PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    prefix: Prefix = model.prefix
    torch.save(
        {PREFIX_ENCODER + name: tensor for name, tensor in _tensors(prefix).items()}, folder / "pytorch_model.bin"
    )
    shape = {"pre_seq_len": prefix.length, "prefix_projection": prefix.trans is not None}
    write_json(folder / "config.json", published_config(model.config) | shape)


def save_peft(model: GlmForCausalLM, folder: Path, *, base: str) -> None:
    """Write PEFT's form, which `PeftModel.from_pretrained` loads on the native model."""
    folder.mkdir(parents=True, exist_ok=True)
    prefix: Prefix = model.prefix
    with torch.no_grad():
        table = _turned(prefix.table().detach().cpu(), model.config, prefix.length)
    save_file(
        {"prompt_embeddings": table.contiguous()}, folder / "adapter_model.safetensors", metadata={"format": "pt"}
    )
    config = model.config
    about = {
        "peft_type": "PREFIX_TUNING",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "num_virtual_tokens": prefix.length,
        "token_dim": config.num_key_value_heads * config.head_dim,
        "num_transformer_submodules": 1,
        "num_attention_heads": config.num_key_value_heads,
        "num_layers": config.num_hidden_layers,
        "encoder_hidden_size": config.hidden_size,
        "prefix_projection": False,
    }
    write_json(folder / "adapter_config.json", about)


def _build(tensors: dict[str, torch.Tensor], model: GlmForCausalLM, folder: Path) -> Prefix:
    """A prefix of the tensors' own size; nobody has to say its length or whether it has a projection."""
    table = tensors.get("embedding.weight")
    if any(not tensor.numel() for tensor in tensors.values()):
        raise StudioError("adapters.empty", file=str(folder))
    if table is None or table.dim() != 2:
        raise StudioError("adapters.none", folder=str(folder))
    inner = tensors.get("trans.0.weight")
    prefix = Prefix(model.config, table.shape[0], projection=None if inner is None else inner.shape[0])
    try:
        prefix.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except RuntimeError as error:
        raise StudioError("adapters.other_model", folder=str(folder)) from error
    if not all(torch.isfinite(tensor).all() for tensor in prefix.state_dict().values()):
        raise StudioError("adapters.not_finite", folder=str(folder))
    return prefix


def _from_peft(folder: Path, config: GlmConfig) -> dict[str, torch.Tensor]:
    about: Any = read_json(folder / "adapter_config.json")
    kind = about.get("peft_type") if isinstance(about, dict) else None
    if kind != "PREFIX_TUNING":
        raise StudioError("adapters.kind", folder=str(folder), kind=str(kind))
    file = folder / "adapter_model.safetensors"
    with in_adapter_words():
        table = adapter_tensors(file if file.is_file() else folder / "adapter_model.bin").get("prompt_embeddings")
    width = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    if table is None or table.dim() != 2 or table.shape[1] != width:
        raise StudioError("adapters.other_model", folder=str(folder))
    return {"embedding.weight": _turned(table.float(), config, -table.shape[0])}


def _turned(table: torch.Tensor, config: GlmConfig, position: int) -> torch.Tensor:
    """The table (P, 2 * layers * groups * head_dim) with its keys turned by the rotary angle of `position`."""
    length = table.shape[0]
    states = table.view(length, config.num_hidden_layers, 2, config.num_key_value_heads, config.head_dim)
    keys = states[:, :, 0].permute(1, 2, 0, 3)  # (layers, groups, P, head_dim)
    rotary = GlmRotaryEmbedding(config=config)
    cos, sin = rotary(keys, torch.full((1, length), position))
    turned, _ = apply_rotary_pos_emb(keys, keys, cos, sin)
    return torch.stack([turned.permute(2, 0, 1, 3), states[:, :, 1]], dim=2).reshape(length, -1)


def _tensors(prefix: Prefix) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().float().cpu().contiguous() for name, tensor in prefix.state_dict().items()}
