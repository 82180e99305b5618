"""What a folder really holds: several families share a type in their `config.json`, and not all of them work here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.families.chatglm3 import CHATGLM3
from glmstudio.families.family import Family
from glmstudio.families.glm4 import GLM4
from glmstudio.families.glm4_0414 import GLM4_0414
from glmstudio.families.glm_edge import GLM_EDGE
from glmstudio.families.glm_z1 import GLM_Z1
from glmstudio.families.recognition import family_by_config
from glmstudio.files import read_table, read_text, short
from glmstudio.models import manifest

OTHER_KIND = {  # problems of folders that hold something else: no other problem of theirs is worth a word
    "models.foreign", "models.ggml", "models.lookalike", "models.other_experts", "models.other_family",
    "models.other_images", "models.quantised",
    "models.quantised_by", "models.quantised_tensors",
}  # fmt: skip
_FIRST_ROWS = (130528, 150528)
_LAYERS, _WIDTH = 1024, 10**6
_MOST = {
    **dict.fromkeys(("num_layers", "num_hidden_layers"), _LAYERS),
    **dict.fromkeys(("hidden_size", "ffn_hidden_size", "intermediate_size", "kv_channels", "head_dim"), _WIDTH),
    **dict.fromkeys(("num_attention_heads", "multi_query_group_num", "num_key_value_heads"), _WIDTH),
    **dict.fromkeys(("padded_vocab_size", "vocab_size", "seq_length", "max_position_embeddings"), 10**8),
    **dict.fromkeys(("layernorm_epsilon", "rms_norm_eps"), 1),
    "rope_ratio": 10**6,
}
_TYPES = {
    "glm4_moe": "GLM-4.5, 4.6 or 4.7",
    "glm4_moe_lite": "GLM-4.7-Flash", "glm4v": "GLM-4.1V", "glm4v_moe": "GLM-4.5V", "glm_ocr": "GLM-OCR",
    "glm_moe_dsa": "GLM-5", "glm5_next": "GLM-5", "qwen": "Qwen", "qwen2": "Qwen2", "qwen2_moe": "Qwen2",
    "qwen2_vl": "Qwen2-VL", "qwen2_5_vl": "Qwen2.5-VL", "qwen3": "Qwen3", "qwen3_moe": "Qwen3", "qwen3_vl": "Qwen3-VL",
    "qwen3_next": "Qwen3", "llama": "Llama", "mllama": "Llama", "llama4": "Llama 4", "mistral": "Mistral",
    "mixtral": "Mixtral", "gemma": "Gemma", "gemma2": "Gemma 2", "gemma3": "Gemma 3", "phi3": "Phi-3",
    "deepseek_v2": "DeepSeek-V2", "deepseek_v3": "DeepSeek-V3", "baichuan": "Baichuan", "internlm": "InternLM",
    "internlm2": "InternLM2", "minicpm": "MiniCPM", "bloom": "BLOOM", "gpt2": "GPT-2", "falcon": "Falcon",
}  # fmt: skip
_OURS = {  # by the titles below; GLM-4 alone may be any of three
    "ChatGLM3-6B": CHATGLM3, "GLM-Edge": GLM_EDGE, "GLM-Z1": GLM_Z1, "GLM-4-0414": GLM4_0414, "GLM-4-9B": GLM4,
    "GLM-4": None,
}  # fmt: skip
_NAMES = (  # of families in ids and paths, the longer ones first
    ("chatglm3", "ChatGLM3-6B"),
    ("chatglm2", "ChatGLM2-6B"),
    ("codegeex-?2", "CodeGeeX2-6B"),
    ("codegeex-?4", "CodeGeeX4-9B"),
    ("visualglm", "VisualGLM-6B"),
    ("chatglm-6b", "ChatGLM-6B"),
    ("glm-?ocr", "GLM-OCR"),
    ("glm-edge-v", "GLM-Edge-V"),
    ("glm-edge", "GLM-Edge"),
    ("glm-z1", "GLM-Z1"),
    ("glm-4-voice", "GLM-4-Voice"),
    ("glm-?4v", "GLM-4V-9B"),
    (r"glm-4\.5-air", "GLM-4.5-Air"),
    (r"glm-4\.7-flash", "GLM-4.7-Flash"),
    (r"glm-4\.\d+v?", ""),
    (r"glm-5(?:\.\d+)?", ""),
    ("glm-?4-(?:9b|32b)-(?:chat-)?0414", "GLM-4-0414"),
    ("glm-?4-9b", "GLM-4-9B"),
    ("glm-?4", "GLM-4"),
    (r"qwen-?\d*(?:\.\d+)?", ""),
    (r"llama(?!.?(?:factory|cpp))-?\d*(?:\.\d+)?", ""),
    ("mistral", "Mistral"),
    ("deepseek", "DeepSeek"),
    ("baichuan", "Baichuan"),
    ("internlm", "InternLM"),
)
_NAMED = re.compile("|".join(f"({pattern})" for pattern, _ in _NAMES), re.IGNORECASE)
_LONGEST_NAME = 4096
_CODE = "tokenization_chatglm.py"  # read, never run
_LONGEST_CODE = 1 << 20
_EXPERTS = re.compile(r"moe|_dsa|mixtral|deepseek_v|llama4|glm5_next|qwen3_next")
_IMAGES = re.compile(r"\dv$|_vl$|_ocr$|mllama")
_SECOND = "ChatGLM2-6B"
_SECOND_SUMS = {  # the sha256 of ChatGLM2-6B's published weights, which have the shapes of ChatGLM3-6B's
    "cdf1bf57d519abe11043e9121314e76bc0934993e649a9e438a4b0894f4e6ee8",
    "1cd596bd15905248b20b755daf12a02a8fa963da09b59da7fdc896e17bfa518c",
    "812edc55c969d2ef82dcda8c275e379ef689761b13860da8ea7c1f3a475975c8",
    "555c17fac2d80e38ba332546dc759b6b7e07aee21e5d0d7826375b998e5aada3",
    "cb85560ccfa77a9e4dd67a838c8d1eeb0071427fd8708e18be9c77224969ef48",
    "09ebd811227d992350b92b2c3491f677ae1f3c586b38abe95784fd2f7d23d5f2",
    "316e007bc727f3cbba432d29e1d3e35ac8ef8eb52df4db9f0609d091a43c69cb",
}
SECOND_FIRST_SHARD = 1_827_780_615  # bytes of its first file; one of this size is worth a sum


def refuse_other_family(folder: Path, config: dict[str, Any]) -> None:
    """Raise StudioError, naming the family or the form, where `config` is not that of an unquantised model of a family
    that works here."""
    found = family_by_config(config, folder)
    if found is None:
        _refuse_type(folder / "config.json", config.get("model_type"), config)
    if other := _lookalike(folder, config, found):
        raise StudioError("models.lookalike", folder=str(folder), family=other)
    if config.get("quantization_bit"):
        raise StudioError("models.quantised", folder=str(folder), bits=short(config["quantization_bit"], 20))
    if form := config.get("quantization_config"):
        named = form.get("quant_method") if isinstance(form, dict) else form
        raise StudioError("models.quantised_by", folder=str(folder), method=short(named or "?", 20))


def refuse_other_sum(folder: Path, sha256: str) -> None:
    """Raise StudioError where a file of the folder has the checksum of another family's weights."""
    if sha256 in _SECOND_SUMS:
        raise StudioError("models.lookalike", folder=str(folder), family=_SECOND)


def family_named(text: Any) -> str:
    """Which other family an id or a path names last; empty where it names one that works here, or none."""
    title = _title_named(text)
    return "" if title in _OURS else title


def _title_named(text: Any) -> str:
    found = list(_NAMED.finditer(text[-_LONGEST_NAME:])) if isinstance(text, str) else []
    return (_NAMES[(found[-1].lastindex or 1) - 1][1] or found[-1][0].upper()) if found else ""


def refuse_id(repo: str) -> None:
    """Raise StudioError where the name of a hub's id begins with another family's: its bytes would be of no use."""
    name = repo.rpartition("/")[2]
    if (match := _NAMED.match(name)) and family_named(match[0]):
        raise StudioError("models.other_id", id=repo, family=family_named(match[0]))


def refuse_other_adapter(folder: Path, family: Family | None = None) -> None:
    """Raise StudioError where an adapter says that it was made on a model of a family that does not work here, or of
    another one than `family`: ChatGLM2-6B has the sizes of ChatGLM3-6B, so nothing else would tell."""
    base = read_table(folder / "adapter_config.json").get("base_model_name_or_path")
    for said in (base, read_table(folder / "config.json").get("_name_or_path")):
        title = _title_named(said)
        works = _OURS.get(title)
        if (title and title not in _OURS) or (works and family and works is not family):
            raise StudioError("adapters.other_family", folder=str(folder), family=title)


def refuse_impossible(file: Path, config: dict[str, Any]) -> None:
    """Raise StudioError where a number of a `config.json` is one that no model has: counting up to it would not end."""
    for name, most in _MOST.items():
        value = config.get(name)
        if value is not None and not (isinstance(value, (int, float)) and 0 < value <= most):
            raise StudioError("models.impossible", file=str(file), name=name, value=short(value, 20))


def _refuse_type(file: Path, kind: Any, config: dict[str, Any]) -> None:
    if isinstance(kind, str) and kind in _TYPES:
        named = family_named(config.get("_name_or_path"))
        raise StudioError(_needs(kind), file=str(file), family=named or _TYPES[kind], kind=kind)
    raise StudioError("models.foreign", file=str(file), kind=short(kind or "?"))


def _needs(kind: str) -> str:
    """What a type of model would need that is not here, as the key of its problem."""
    if _EXPERTS.search(kind):
        return "models.other_experts"
    return "models.other_images" if _IMAGES.search(kind) else "models.other_family"


def _lookalike(folder: Path, config: dict[str, Any], family: Family | None) -> str:
    """The family of a folder that calls itself by the type of one that works here, and is another; empty where nothing
    says so."""
    named = config.get("_name_or_path")
    if config.get("vision_config"):
        return family_named(named) or ("GLM-Edge-V" if family is GLM_EDGE else "GLM-4V-9B")
    if family is not CHATGLM3:
        return family_named(named)
    if config.get("position_encoding_2d") or config.get("vocab_size") in _FIRST_ROWS or "inner_hidden_size" in config:
        return "ChatGLM-6B"
    if _SECOND_SUMS & set(manifest.known_sums(folder).values()):
        return _SECOND
    for said in (named, manifest.origin(folder)[1], read_table(folder / "tokenizer_config.json").get("name_or_path")):
        if isinstance(said, str) and _NAMED.search(said[-_LONGEST_NAME:]):
            return family_named(said)
    return "" if _knows_roles(folder / _CODE) else f"{_SECOND} / CodeGeeX2-6B"


def _knows_roles(code: Path) -> bool:
    """Whether the folder's own tokenizer has the tokens of the roles, which came with ChatGLM3; so if there is none."""
    try:
        text = read_text(code, _LONGEST_CODE, errors="replace")
    except OSError:
        return True
    return "gMASK" not in text or "<|user|>" in text
