"""A folder's `config.json` as a configuration of transformers, and back: what tells the GLMs apart is data in it.

`model_type` "chatglm" is the published layout, of ChatGLM3 and of GLM-4-9B as it came first; "glm" and "glm4" are
transformers' own. "glm4" has two more norms in each block; GLM-Edge is a "glm" whose queries, keys and values have no
bias, whose heads are turned whole, and whose head is its embedding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from transformers import Glm4Config, Glm4ForCausalLM, GlmConfig, GlmForCausalLM

from glmstudio.errors import StudioError
from glmstudio.files import short

PUBLISHED, GLM, GLM4 = "chatglm", "glm", "glm4"
MODELS = {GLM: GlmForCausalLM, GLM4: Glm4ForCausalLM}
_CONFIGS = {GLM: GlmConfig, GLM4: Glm4Config}
_THETA = 10000.0
_HALF = 0.5  # of each head is turned, where a file does not say it
_PUBLISHED_NAMES = {
    "padded_vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "ffn_hidden_size": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "kv_channels": "head_dim",
    "layernorm_epsilon": "rms_norm_eps",
    "seq_length": "max_position_embeddings",
}
_NATIVE_NAMES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "rms_norm_eps", "max_position_embeddings",
)  # fmt: skip
_FIXED = {"hidden_act": "silu", "attention_dropout": 0.0}
_CHATGLM3_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_GLM4_ROWS = 151552
_GLM4_TOKENS = {"pad_token_id": 151329, "eos_token_id": [151329, 151336, 151338]}


def native_config(given: dict[str, Any], file: str) -> GlmConfig:
    """The configuration (of a `Glm4Config` where it says so) for a `config.json` of either layout.

    Raises StudioError where `file` describes another architecture, lacks a number, or asks for what is not done here.
    """
    kind = given.get("model_type")
    if kind == PUBLISHED:
        return GlmConfig(**_from_published(given, file))
    if kind in _CONFIGS:
        return _CONFIGS[kind](**_from_native(given, file))
    raise StudioError("models.foreign", file=file, kind=short(kind or "?"))


def has_published_layout(config: GlmConfig) -> bool:
    """Whether the published layout can say all of it. It has no words for other special tokens than ChatGLM3's."""
    tokens = {name: getattr(config, name, None) for name in _CHATGLM3_TOKENS}
    return (
        config.model_type == GLM
        and tokens == _CHATGLM3_TOKENS
        and bool(config.attention_bias)
        and not config.tie_word_embeddings
        and config.rope_parameters["partial_rotary_factor"] == _HALF
    )


def published_config(config: GlmConfig) -> dict[str, Any]:
    """The `config.json` of a published folder for a native model."""
    return {
        "model_type": PUBLISHED,
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
        "rope_ratio": config.rope_parameters["rope_theta"] / _THETA,
        "add_qkv_bias": True,
        "add_bias_linear": False,
        "rmsnorm": True,
        "post_layer_norm": True,
        "original_rope": True,
        "tie_word_embeddings": False,
    }


def transformers_config(config: GlmConfig, *, dtype: str = "", stops: Iterable[int] = ()) -> dict[str, Any]:
    """The `config.json` of a folder that transformers reads, 4 and 5: 4 reads the angles' base at the top and
    `torch_dtype`, 5 reads the others. `stops` are the tokens that end an answer, where the configuration's are not."""
    rope = config.rope_parameters
    angles = {name: rope[name] for name in ("rope_theta", "partial_rotary_factor")}
    table = {
        "architectures": [MODELS[config.model_type].__name__],
        "model_type": config.model_type,
        **{name: getattr(config, name) for name in _NATIVE_NAMES},
        **_FIXED,
        "attention_bias": bool(config.attention_bias),
        "initializer_range": 0.02,
        **angles,
        "rope_parameters": {"rope_type": "default", **angles},
        "tie_word_embeddings": bool(config.tie_word_embeddings),
        "use_cache": True,
        "pad_token_id": config.pad_token_id,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": list(stops) or config.eos_token_id,
    }
    return table | ({"dtype": dtype, "torch_dtype": dtype} if dtype else {})


def stored_config(config: GlmConfig) -> dict[str, Any]:
    """The `config.json` that this studio writes beside a whole model: of the published layout where it says it all."""
    return published_config(config) if has_published_layout(config) else transformers_config(config)


def _from_published(given: dict[str, Any], file: str) -> dict[str, Any]:
    _refuse_missing(given, _PUBLISHED_NAMES, file)
    heads = given["num_attention_heads"]
    groups = given.get("multi_query_group_num", 2) if given.get("multi_query_attention") else heads
    rope = _rope(_THETA * given.get("rope_ratio", 1), _HALF)
    return {
        **{native: given[name] for name, native in _PUBLISHED_NAMES.items()},
        "num_key_value_heads": groups,
        "attention_bias": True,
        "rope_parameters": rope,
        "tie_word_embeddings": False,
        **_published_tokens(given, file),
    }


def _published_tokens(given: dict[str, Any], file: str) -> dict[str, Any]:
    """ChatGLM3 has one token that ends an answer, GLM-4 a list of them; ChatGLM3's are known, whatever a file says."""
    if given["padded_vocab_size"] == _GLM4_ROWS or isinstance(given.get("eos_token_id"), list):
        return _tokens(_GLM4_TOKENS | given, file, given["padded_vocab_size"])
    return dict(_CHATGLM3_TOKENS)


def _from_native(given: dict[str, Any], file: str) -> dict[str, Any]:
    _refuse_missing(given, _NATIVE_NAMES, file)
    for name, wanted in _FIXED.items():
        if given.get(name, wanted) != wanted:
            raise _other(file, name, given[name])
    rope = given.get("rope_parameters") or given.get("rope_scaling") or {}
    rope = rope if isinstance(rope, dict) else {"rope_type": rope}
    if (kind := rope.get("rope_type", rope.get("type", "default"))) != "default":
        raise _other(file, "rope_type", kind)
    theta, share = (
        rope.get(name, given.get(name, usual))
        for name, usual in (("rope_theta", _THETA), ("partial_rotary_factor", _HALF))
    )
    if not _positive(theta):
        raise _other(file, "rope_theta", theta)
    if not _positive(share) or share > 1 or given["head_dim"] * share % 2:
        raise _other(file, "partial_rotary_factor", share)
    return {
        **{name: given[name] for name in _NATIVE_NAMES},
        "attention_bias": given.get("attention_bias", True) is True,
        "rope_parameters": _rope(theta, share),
        "tie_word_embeddings": given.get("tie_word_embeddings", False) is True,
        **_tokens(given, file, given["vocab_size"]),
    }


def _rope(theta: float, share: float) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": float(theta), "partial_rotary_factor": float(share)}


def _tokens(given: dict[str, Any], file: str, rows: int) -> dict[str, Any]:
    """The special tokens' ids. Raises StudioError for one that the embedding has no row for."""
    found = {name: given.get(name) for name in _CHATGLM3_TOKENS}
    for name, value in found.items():
        listed = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(each, int) and 0 <= each < rows for each in listed):
            raise _other(file, name, value)
    return found


def _refuse_missing(given: dict[str, Any], names: Iterable[str], file: str) -> None:
    missing = [name for name in names if not isinstance(given.get(name), (int, float))]
    if missing:
        raise StudioError("models.config_incomplete", file=file, names=", ".join(missing))


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and value > 0


def _other(file: str, name: str, value: Any) -> StudioError:
    return StudioError("models.native_other", file=file, name=name, value=short(value, 40))
