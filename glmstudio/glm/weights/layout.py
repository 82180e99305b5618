"""The published layout and transformers' native GLM: the same numbers under other names.

Checked bit for bit against the original code: see `docs/model.md`. A published folder, of ChatGLM3 or GLM-4-9B, has a
`config.json` with `model_type` "chatglm" and tensors named `transformer.…`; every other family has native names.
"""

from __future__ import annotations

import re

import torch
from transformers import GlmConfig

from glmstudio.glm.weights.model_config import has_published_layout

PREFIX_ENCODER = "transformer.prefix_encoder."
_LAYER = re.compile(r"transformer\.encoder\.layers\.(\d+)\.(.+)")
_PLAIN = {
    "transformer.embedding.word_embeddings.weight": "model.embed_tokens.weight",
    "transformer.encoder.final_layernorm.weight": "model.norm.weight",
    "transformer.output_layer.weight": "lm_head.weight",
}
_IN_LAYER = {
    "input_layernorm.weight": "input_layernorm.weight",
    "post_attention_layernorm.weight": "post_attention_layernorm.weight",
    "self_attention.dense.weight": "self_attn.o_proj.weight",
    "mlp.dense_h_to_4h.weight": "mlp.gate_up_proj.weight",
    "mlp.dense_4h_to_h.weight": "mlp.down_proj.weight",
}
_NATIVE = ("model.layers.", "model.embed_tokens.", "model.norm.", "lm_head.")
HEAD = "lm_head.weight"
_COMPUTED = ("rotary_pos_emb.inv_freq", "rotary_emb.inv_freq")


def native_tensors(name: str, tensor: torch.Tensor, config: GlmConfig) -> dict[str, torch.Tensor]:
    """The native tensors that one tensor of a folder becomes: one, three (query, key, value are split by rows), or
    none (the rotary frequencies are computed, and a head may be the embedding). A native name stays. Raises KeyError
    for an unknown one."""
    name = name.removeprefix("module.")  # what data-parallel trainers put before it
    if is_tied_head(name, config):
        return {}
    if name in _PLAIN:
        return {_PLAIN[name]: tensor}
    if name.endswith(_COMPUTED):
        return {}
    if name.startswith(_NATIVE):
        return {name: tensor}
    match = _LAYER.fullmatch(name)
    if match is None:
        raise KeyError(name)
    layer, part = f"model.layers.{match[1]}.", match[2]
    if part.startswith("self_attention.query_key_value."):
        kind = part.rsplit(".", 1)[1]
        pieces = tensor.split(_qkv_rows(config), dim=0)
        return {f"{layer}self_attn.{p}_proj.{kind}": piece for p, piece in zip("qkv", pieces, strict=True)}
    return {layer + _IN_LAYER[part]: tensor}


def is_tied_head(name: str, config: GlmConfig) -> bool:
    """Whether it is the head of a model whose head is its embedding: some write it a second time."""
    return bool(config.tie_word_embeddings) and name.removeprefix("module.") == HEAD


def stored_tensors(state: dict[str, torch.Tensor], config: GlmConfig) -> dict[str, torch.Tensor]:
    """A model's tensors under the names that this studio writes: the published ones beside `published_config`."""
    if has_published_layout(config):
        return published_tensors(state)
    return {name: tensor for name, tensor in state.items() if name != HEAD or not config.tie_word_embeddings}


def published_tensors(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A native model's tensors under their published names."""
    plain = {native: published for published, native in _PLAIN.items()}
    inside = {native: published for published, native in _IN_LAYER.items()}
    result: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        if name in plain:
            result[plain[name]] = tensor
            continue
        _, _, number, part = name.split(".", 3)
        layer = f"transformer.encoder.layers.{number}."
        if part in inside:
            result[layer + inside[part]] = tensor
        elif part.startswith("self_attn.q_proj."):
            parts = [state[name.replace("q_proj", f"{p}_proj")] for p in "qkv"]
            result[f"{layer}self_attention.query_key_value.{part.rsplit('.', 1)[1]}"] = torch.cat(parts)
    return result


def lora_tensors(name: str, tensor: torch.Tensor, config: GlmConfig) -> dict[str, torch.Tensor]:
    """As `native_tensors`, for a LoRA matrix of the published model: A goes with each of the split layers as it is,
    B is split by rows. Unknown names stay as they are."""
    match = _LAYER.fullmatch(name)
    if match is None:
        return {name: tensor}
    layer, (part, _, which) = f"model.layers.{match[1]}.", match[2].partition(".lora_")
    if part == "self_attention.query_key_value":
        rows = _qkv_rows(config)
        whole = which.startswith("A") or tensor.shape[0] != sum(rows)
        pieces = [tensor] * 3 if whole else list(tensor.split(rows, dim=0))
        return {f"{layer}self_attn.{p}_proj.lora_{which}": piece for p, piece in zip("qkv", pieces, strict=True)}
    native = _IN_LAYER.get(f"{part}.weight", f"{part}.weight").removesuffix(".weight")
    return {f"{layer}{native}.lora_{which}": tensor}


def _qkv_rows(config: GlmConfig) -> list[int]:
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    return [heads * config.head_dim, groups * config.head_dim, groups * config.head_dim]
