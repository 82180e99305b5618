"""Which family a model folder is of: by its `config.json` and by the form of its vocabulary."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

from glmstudio.families.chatglm3 import CHATGLM3
from glmstudio.families.family import Family
from glmstudio.families.glm4 import GLM4
from glmstudio.families.glm4_0414 import GLM4_0414
from glmstudio.families.glm_edge import GLM_EDGE
from glmstudio.families.glm_z1 import BEGIN, GLM_Z1
from glmstudio.files import opened, read_table, read_text

PUBLISHED, NATIVE, NATIVE_0414 = "chatglm", "glm", "glm4"  # values of `model_type`
_RANKS = re.compile(rb"(?:[A-Za-z0-9+/]+={0,2} \d+\r?\n){2}")
_HEAD = 4096
_LONGEST_TEMPLATE = 1 << 20
_Z1 = re.compile(r"glm-?z1", re.IGNORECASE)


def family_of(folder: str | Path) -> Family:
    """The family of a folder that was found to be a model; without a `config.json`, by its vocabulary alone."""
    place = Path(folder)
    return family_by_config(read_table(place / "config.json"), place) or (GLM4 if is_byte_bpe(place) else CHATGLM3)


def family_by_config(config: dict[str, Any], folder: Path) -> Family | None:
    """The family that `config` speaks of, beside the vocabulary in `folder`; None where it is of none."""
    kind = config.get("model_type")
    if kind == PUBLISHED:
        later = config.get("padded_vocab_size") == GLM4.rows or isinstance(config.get("eos_token_id"), list)
        return GLM4 if later or is_byte_bpe(folder) else CHATGLM3
    if kind == NATIVE_0414:
        return GLM_Z1 if _thinks(config, folder) else GLM4_0414
    if kind != NATIVE:
        return None
    rows = config.get("vocab_size")
    for family in (CHATGLM3, GLM4, GLM_EDGE):
        if rows == family.rows:
            return family
    if (folder / "tokenizer.model").is_file() and not is_byte_bpe(folder):
        return CHATGLM3
    return GLM_EDGE if turns_whole_head(config) else GLM4


def rows_of(config: dict[str, Any]) -> Any:
    """How many rows the embedding has, by a `config.json` of either layout."""
    return config.get("padded_vocab_size", config.get("vocab_size"))


def turns_whole_head(config: dict[str, Any]) -> bool:
    """Whether rotary positions turn all of each head, as in GLM-Edge alone."""
    rope = config.get("rope_parameters")
    share = rope.get("partial_rotary_factor") if isinstance(rope, dict) else None
    return bool(config.get("partial_rotary_factor", 0.5) == 1.0 if share is None else share == 1.0)


def is_byte_bpe(folder: Path) -> bool:
    """Whether the vocabulary of a folder is byte-level BPE: ranks in `tokenizer.model`, or `tokenizer.json` alone."""
    file = folder / "tokenizer.model"
    return is_ranks(file) if file.exists() else (folder / "tokenizer.json").is_file()


def is_ranks(file: Path) -> bool:
    """Whether a `tokenizer.model` begins as a list of tokens and their ranks."""
    try:
        with opened(file) as stream:
            return bool(_RANKS.match(stream.read(_HEAD)))
    except OSError:
        return False


def _thinks(config: dict[str, Any], folder: Path) -> bool:
    """Whether the folder's chat template lets an answer begin with a thought, or its name says so."""
    template = read_table(folder / "tokenizer_config.json").get("chat_template")
    with contextlib.suppress(OSError):
        template = read_text(folder / "chat_template.jinja", _LONGEST_TEMPLATE, errors="replace")
    if isinstance(template, str):
        return BEGIN in template
    named = config.get("_name_or_path")
    return bool(_Z1.search(named if isinstance(named, str) else folder.name))
