"""The published ChatGLM3 layout and transformers' native GLM: the same numbers under other names.

Checked bit for bit against the original code: see `docs/model.md`. A published folder has a `config.json` with
`model_type` "chatglm" and tensors named `transformer.…`; the native class is `GlmForCausalLM`.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from transformers import GlmConfig

from glmstudio.errors import StudioError

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
_COMPUTED = ("rotary_pos_emb.inv_freq", "rotary_emb.inv_freq")
_REQUIRED = (
    "padded_vocab_size", "hidden_size", "ffn_hidden_size", "num_layers", "num_attention_heads", "kv_channels",
    "layernorm_epsilon", "seq_length",
)  # fmt: skip


def native_config(published: dict[str, Any], file: str) -> GlmConfig:
    """The native configuration for a published `config.json`.

    Raises StudioError where `file` describes another architecture or lacks a number.
    """
    if published.get("model_type") != "chatglm":
        raise StudioError("models.foreign", file=file, kind=str(published.get("model_type", "?")))
    missing = [name for name in _REQUIRED if not isinstance(published.get(name), (int, float))]
    if missing:
        raise StudioError("models.config_incomplete", file=file, names=", ".join(missing))
    heads = published["num_attention_heads"]
    groups = published.get("multi_query_group_num", 2) if published.get("multi_query_attention") else heads
    return GlmConfig(
        vocab_size=published["padded_vocab_size"],
        hidden_size=published["hidden_size"],
        intermediate_size=published["ffn_hidden_size"],
        num_hidden_layers=published["num_layers"],
        num_attention_heads=heads,
        num_key_value_heads=groups,
        head_dim=published["kv_channels"],
        rms_norm_eps=published["layernorm_epsilon"],
        max_position_embeddings=published["seq_length"],
        attention_bias=True,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10000.0 * published.get("rope_ratio", 1),
            "partial_rotary_factor": 0.5,
        },
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


def published_config(config: GlmConfig) -> dict[str, Any]:
    """The `config.json` of a published folder for a native model."""
    return {
        "model_type": "chatglm",
        "padded_vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "ffn_hidden_size": config.intermediate_size,
        "num_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "multi_query_attention": True,
        "multi_query_group_num": config.num_key_value_heads,
        "kv_channels": config.head_dim,
        "layernorm_epsilon": config.rms_norm_eps,
        "seq_length": config.max_position_embeddings,
        "rope_ratio": config.rope_parameters["rope_theta"] / 10000.0,
        "add_qkv_bias": True,
        "add_bias_linear": False,
        "rmsnorm": True,
        "post_layer_norm": True,
        "original_rope": True,
        "tie_word_embeddings": False,
    }


def native_tensors(name: str, tensor: torch.Tensor, config: GlmConfig) -> dict[str, torch.Tensor]:
    """The native tensors that one tensor of a folder becomes: one, three (query, key, value are split by rows), or
    none (the rotary frequencies are computed). A native name stays. Raises KeyError for an unknown one."""
    name = name.removeprefix("module.")  # what data-parallel trainers put before it
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
