"""What a folder that calls itself `chatglm` really holds: several kinds of model say so, and one of them works here."""

from __future__ import annotations

import errno
import os
import re
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.files import LARGEST, opened, short

PREFIX = "prefix_encoder."
_GLM4_ROWS = 151552  # of the embedding: no ChatGLM has as many
_RANKS = re.compile(rb"(?:[A-Za-z0-9+/]+={0,2} \d+\r?\n){2}")
_HEAD = 4096
_LAYERS, _WIDTH = 1024, 10**6
_MOST = {
    **dict.fromkeys(("num_layers", "num_hidden_layers"), _LAYERS),
    **dict.fromkeys(("hidden_size", "ffn_hidden_size", "intermediate_size", "kv_channels", "head_dim"), _WIDTH),
    **dict.fromkeys(("num_attention_heads", "multi_query_group_num", "num_key_value_heads"), _WIDTH),
    **dict.fromkeys(("padded_vocab_size", "vocab_size", "seq_length", "max_position_embeddings"), 10**8),
    **dict.fromkeys(("layernorm_epsilon", "rms_norm_eps"), 1),
    "rope_ratio": 10**6,
}
_LARGEST_TABLE = 1 << 24


def refuse_other_family(folder: Path, config: dict[str, Any]) -> None:
    """Raise StudioError, naming the family or the form, where `config` is not that of an unquantised ChatGLM3."""
    if config.get("padded_vocab_size") == _GLM4_ROWS:
        raise StudioError("models.glm4", folder=str(folder))
    if config.get("quantization_bit"):
        raise StudioError("models.quantised", folder=str(folder), bits=short(config["quantization_bit"], 20))


def refuse_impossible(file: Path, config: dict[str, Any]) -> None:
    """Raise StudioError where a number of a `config.json` is one that no model has: counting up to it would not end."""
    for name, most in _MOST.items():
        value = config.get(name)
        if value is not None and not (isinstance(value, (int, float)) and 0 < value <= most):
            raise StudioError("models.impossible", file=str(file), name=name, value=short(value, 20))


def refuse_other_vocabulary(file: Path) -> None:
    """Raise StudioError where a `tokenizer.model` is GLM-4's (lines of a token in base64 and its rank), or larger than
    any: to read it would not end."""
    with opened(file) as stream:
        if os.fstat(stream.fileno()).st_size > LARGEST:
            raise StudioError("models.unreadable_file", file=str(file), reason=os.strerror(errno.EFBIG))
        if _RANKS.match(stream.read(_HEAD)):
            raise StudioError("models.glm4", folder=str(file.parent))


def refuse_prefix(folder: Path, names: Iterable[str]) -> None:
    """Raise StudioError where whole weights hold a P-Tuning prefix, without which the bare base would answer."""
    if any(PREFIX in name for name in names):
        raise StudioError("models.holds_prefix", folder=str(folder))


def named_in(file: Path) -> list[str]:
    """Whether a `.bin` file names a prefix, as a list of that name or none: its table is looked through, never run."""
    try:
        with zipfile.ZipFile(file) as archive:
            tables = [each for each in archive.infolist() if each.filename.endswith("data.pkl")]
            small = [each for each in tables if each.file_size <= _LARGEST_TABLE]
            return [PREFIX] if any(PREFIX.encode() in archive.read(each) for each in small) else []
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError):  # damaged or locked: the load says so
        return []
