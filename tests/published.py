"""Random models in the published layout, of any size."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file


@dataclass(frozen=True)
class Shape:
    """The sizes of a model; the defaults are ChatGLM3-6B's proportions at a width of 384."""

    vocabulary: int = 704
    hidden: int = 384
    ffn: int = 1284
    layers: int = 4
    heads: int = 6
    groups: int = 2
    width: int = 64


def write_model(folder: Path, shape: Shape, *, seed: int = 0) -> None:
    """Write `config.json` and `model.safetensors` with random float32 weights (about 0.02 wide)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_of(shape)), encoding="utf-8")
    random = torch.Generator().manual_seed(seed)
    save_file(
        {
            name: torch.ones(size) if name.endswith("norm.weight") else 0.02 * torch.randn(*size, generator=random)
            for name, size in sizes(shape).items()
        },
        folder / "model.safetensors",
    )


def config_of(shape: Shape) -> dict[str, Any]:
    """Its `config.json`."""
    return {
        "model_type": "chatglm",
        "padded_vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "ffn_hidden_size": shape.ffn,
        "num_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "multi_query_attention": True,
        "multi_query_group_num": shape.groups,
        "kv_channels": shape.width,
        "layernorm_epsilon": 1e-5,
        "seq_length": 8192,
        "add_qkv_bias": True,
        "tie_word_embeddings": False,
    }


def sizes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """The published tensors and their sizes."""
    inner = shape.heads * shape.width
    mixed = inner + 2 * shape.groups * shape.width
    found: dict[str, tuple[int, ...]] = {
        "transformer.embedding.word_embeddings.weight": (shape.vocabulary, shape.hidden),
        "transformer.encoder.final_layernorm.weight": (shape.hidden,),
        "transformer.output_layer.weight": (shape.vocabulary, shape.hidden),
    }
    for number in range(shape.layers):
        layer = f"transformer.encoder.layers.{number}."
        found |= {
            f"{layer}input_layernorm.weight": (shape.hidden,),
            f"{layer}post_attention_layernorm.weight": (shape.hidden,),
            f"{layer}self_attention.query_key_value.weight": (mixed, shape.hidden),
            f"{layer}self_attention.query_key_value.bias": (mixed,),
            f"{layer}self_attention.dense.weight": (shape.hidden, inner),
            f"{layer}mlp.dense_h_to_4h.weight": (2 * shape.ffn, shape.hidden),
            f"{layer}mlp.dense_4h_to_h.weight": (shape.hidden, shape.ffn),
        }
    return found
