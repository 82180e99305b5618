"""Tiny random models of each GLM family, in the layout in which it is published, beside transformers' own."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import Glm4Config, Glm4ForCausalLM, GlmConfig, GlmForCausalLM

from glmstudio.families.known import FAMILIES as KNOWN
from glmstudio.glm.weights.layout import published_tensors
from tests.rank_vocabulary import fast_file, ranks, write_ranks

ROWS = 160  # of the embedding
_SIZES: dict[str, Any] = {
    "vocab_size": ROWS, "hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256, "initializer_range": 0.2,
}  # fmt: skip
_CHAT = {"pad_token_id": 150, "eos_token_id": [150, 155, 157]}
_EDGE = {"pad_token_id": 150, "eos_token_id": [150, 153, 155]}
_SMALL_STEP = {"rms_norm_eps": 1.5625e-07}


def _rope(theta: float, share: float) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta, "partial_rotary_factor": share}}


CONFIGS: dict[str, Any] = {
    "glm-4-9b-chat": GlmConfig(**_SIZES, **_CHAT, **_SMALL_STEP, **_rope(5e6, 0.5), attention_bias=True),
    "glm-4-9b-chat-1m": GlmConfig(
        **_SIZES | {"num_key_value_heads": 4}, **_CHAT, **_SMALL_STEP, **_rope(1e8, 0.5), attention_bias=True
    ),
    "glm-4-9b-chat-hf": GlmConfig(**_SIZES, **_CHAT, **_SMALL_STEP, **_rope(5e6, 0.5), attention_bias=True),
    "glm-4-9b-0414": Glm4Config(**_SIZES, **_CHAT, rms_norm_eps=1e-5, **_rope(1e4, 0.5), attention_bias=True),
    "glm-4-32b-0414": Glm4Config(**_SIZES, **_CHAT, rms_norm_eps=1e-5, **_rope(1e4, 0.5), attention_bias=False),
    "glm-edge": GlmConfig(
        **_SIZES, **_EDGE, rms_norm_eps=1e-5, **_rope(1e4, 1.0), attention_bias=False, tie_word_embeddings=True
    ),
}
FAMILIES = list(CONFIGS)
PUBLISHED = {"glm-4-9b-chat": 500, "glm-4-9b-chat-1m": 10000}  # rope_ratio


def theirs(family: str, **sizes: int) -> Any:
    """transformers' own model, in evaluation mode; its norms and biases are no ones and zeros."""
    torch.manual_seed(0)
    config = copy.deepcopy(CONFIGS[family])
    for name, size in sizes.items():
        setattr(config, name, size)
    model = (Glm4ForCausalLM if config.model_type == "glm4" else GlmForCausalLM)(config)
    with torch.no_grad():
        for each in model.parameters():
            if each.dim() == 1:
                each.add_(torch.randn_like(each) * 0.3)
    return model.eval()


def write_family(family: str, folder: Path, *, form: str = "safetensors", shards: bool = False, **sizes: int) -> Path:
    """Write the model of `theirs` as its publisher does; `form` "bin" for pickled tensors."""
    model = theirs(family, **sizes)
    if family not in PUBLISHED and form == "safetensors":
        model.save_pretrained(folder, max_shard_size="20KB" if shards else "1GB")
        _as_transformers_4(folder / "config.json")
        return folder
    folder.mkdir(parents=True)
    state = dict(model.state_dict())
    state = published_tensors(state) if family in PUBLISHED else state
    (folder / "config.json").write_text(
        json.dumps((_published if family in PUBLISHED else _native)(family, model.config))
    )
    names = list(state)
    parts = [names[::2], names[1::2]] if shards else [names]
    stem, end = ("pytorch_model", "bin") if form == "bin" else ("model", "safetensors")
    files = {}
    for number, part in enumerate(parts, 1):
        name = f"{stem}-{number:05}-of-{len(parts):05}.{end}" if shards else f"{stem}.{end}"
        held = {each: state[each].contiguous().clone() for each in part}
        torch.save(held, folder / name) if form == "bin" else save_file(held, folder / name, metadata={"format": "pt"})
        files |= dict.fromkeys(part, name)
    if shards:
        (folder / f"{stem}.{end}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return folder


MODELS = {  # of a family in text: the model, and whether its vocabulary is a file of ranks
    "glm4": ("glm-4-9b-chat", True),
    "glm4_0414": ("glm-4-9b-0414", False),
    "glm_z1": ("glm-4-9b-0414", False),
    "glm_edge": ("glm-edge", False),
}


def write_whole(name: str, folder: Path, **sizes: int) -> Path:
    """Write a model of a family with a small vocabulary of its kind, and the ids of its special tokens."""
    family, (model, ranked) = KNOWN[name], MODELS[name]
    write_family(model, folder, **{"vocab_size": 640, "max_position_embeddings": 4096} | sizes)
    if ranked:
        write_ranks(folder)
    else:
        fast_file(folder, family)
    ids = family.ids(len(ranks()))
    config = json.loads((folder / "config.json").read_text())
    config |= {"pad_token_id": ids[family.pad], "eos_token_id": [ids[each] for each in family.stops]}
    if family.thinks:
        config["_name_or_path"] = "zai-org/GLM-Z1-9B-0414"
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _native(_: str, given: Any) -> dict[str, Any]:
    config: dict[str, Any] = given.to_dict()
    rope = config.pop("rope_parameters")
    return config | {name: rope[name] for name in ("rope_theta", "partial_rotary_factor")}


def _as_transformers_4(file: Path) -> None:
    """The published files name the angles at the top."""
    config = json.loads(file.read_text())
    rope = config.pop("rope_parameters")
    file.write_text(json.dumps(config | {name: rope[name] for name in ("rope_theta", "partial_rotary_factor")}))


def _published(family: str, config: Any) -> dict[str, Any]:
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
        "rope_ratio": PUBLISHED[family],
        "add_qkv_bias": True,
        "tie_word_embeddings": False,
        "pad_token_id": config.pad_token_id,
        "eos_token_id": config.eos_token_id,
    }
