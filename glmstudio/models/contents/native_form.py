"""A `config.json` of transformers' own GLM (`model_type` "glm") said in the words of the published layout.

Whoever wrote the folder: this studio's export, or `save_pretrained` of transformers 4 or 5, which name some things
differently. Other families have no published layout, or one that says more: their files are taken as they are.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.families.chatglm3 import CHATGLM3
from glmstudio.families.recognition import NATIVE, family_by_config
from glmstudio.files import short
from glmstudio.models.family import refuse_impossible

_NAMES = {
    "vocab_size": "padded_vocab_size",
    "hidden_size": "hidden_size",
    "intermediate_size": "ffn_hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_attention_heads",
    "num_key_value_heads": "multi_query_group_num",
    "head_dim": "kv_channels",
    "rms_norm_eps": "layernorm_epsilon",
    "max_position_embeddings": "seq_length",
}
_FIXED = {"hidden_act": "silu", "attention_bias": True, "tie_word_embeddings": False, "partial_rotary_factor": 0.5}
_KEPT = ("_name_or_path", "quantization_config")  # by which a folder of another kind is told
_THETA = 10000.0


def published_form(config: dict[str, Any], file: Path) -> dict[str, Any]:
    """The configuration as a published folder has it, if it is a native one of ChatGLM3's; any other as it is.

    Raises StudioError where a ChatGLM3 says something of itself that none has.
    """
    if config.get("model_type") != NATIVE or family_by_config(config, file.parent) is not CHATGLM3:
        return config
    refuse_impossible(file, config)
    missing = [name for name in _NAMES if not isinstance(config.get(name), (int, float))]
    if missing:
        raise StudioError("models.config_incomplete", file=str(file), names=", ".join(missing))
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    rope = rope if isinstance(rope, dict) else {"rope_type": rope}
    kind = rope.get("rope_type", rope.get("type", "default"))
    for name, wanted, found in (
        *((name, wanted, rope.get(name, config.get(name, wanted))) for name, wanted in _FIXED.items()),
        ("rope_type", "default", kind),
    ):
        if found != wanted:
            raise StudioError("models.native_other", file=str(file), name=name, value=short(found, 40))
    theta = rope.get("rope_theta", config.get("rope_theta", _THETA))
    if not isinstance(theta, (int, float)) or not (math.isfinite(theta) and theta > 0):
        raise StudioError("models.native_other", file=str(file), name="rope_theta", value=short(theta, 40))
    fixed = {"model_type": "chatglm", "multi_query_attention": True, "rope_ratio": theta / _THETA}
    kept = {name: config[name] for name in _KEPT if name in config}
    return fixed | kept | {published: config[name] for name, published in _NAMES.items()}
