"""A model as transformers' own class has it: no remote code, read by transformers 4 and 5, vLLM and SGLang.

The two configurations that the tokenizer and the answers need are written by hand: `save_pretrained` of one version
writes what another does not know.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import GlmConfig

from glmstudio.data.protocol.tokenizer import EOS, PAD, Tokenizer
from glmstudio.errors import StudioError
from glmstudio.families.chatglm3 import CHATGLM3
from glmstudio.families.family import Family
from glmstudio.families.recognition import family_of
from glmstudio.files import write_json, write_text
from glmstudio.glm.exports.byte_tokenizer import byte_tokenizer
from glmstudio.glm.exports.chat_templates import RESPONSE_TEMPLATE, chat_template
from glmstudio.glm.exports.fast_tokenizer import fast_tokenizer
from glmstudio.glm.exports.sentencepiece_file import CONTROL_NAMES, read_pieces
from glmstudio.glm.exports.weight_stream import Shape, WeightStream
from glmstudio.glm.weights.model_config import transformers_config
from glmstudio.glm.weights.safetensors_header import safetensors_header
from glmstudio.models.exports.export_request import TOOL_PARSER

TYPES = {"float16": (torch.float16, "F16"), "bfloat16": (torch.bfloat16, "BF16"), "float32": (torch.float32, "F32")}
_SHARD = 2_000_000_000  # bytes
_OUTSIDE = Path(__file__).parent / "outside"


class TooLarge(ValueError):
    """A number does not fit the type."""


def write_native(stream: WeightStream, folder: Path, dtype: str) -> str:
    """Write the whole folder; returns the type of its weights: float16 cannot hold every number that training may
    reach, and where one does not fit, bfloat16 is taken."""
    folder.mkdir(parents=True)
    try:
        _write_weights(stream, folder, dtype)
    except TooLarge:
        for file in folder.glob("*.safetensors"):
            file.unlink()
        dtype = "bfloat16"
        _write_weights(stream, folder, dtype)
    stops = Tokenizer(stream.folder).stop_ids
    write_json(folder / "config.json", transformers_config(stream.config, dtype=dtype, stops=stops))
    write_json(folder / "generation_config.json", _generation_config(stream.config, stops))
    write_tokenizer(stream.folder, folder)
    if family_of(stream.folder) is CHATGLM3:
        shutil.copyfile(_OUTSIDE / TOOL_PARSER, folder / TOOL_PARSER)
    return dtype


def write_tokenizer(source: Path, folder: Path) -> None:
    """Write the vocabulary of `source` for transformers, and the template; beside it stays the original one."""
    family = family_of(source)
    if family is CHATGLM3:
        fast_tokenizer(read_pieces(source)).save(str(folder / "tokenizer.json"))
        shutil.copyfile(source / "tokenizer.model", folder / "tokenizer.model")
    else:
        byte_tokenizer(source, family).save(str(folder / "tokenizer.json"))
    template = chat_template(family)
    write_json(folder / "tokenizer_config.json", _tokenizer_config(family, template))
    write_text(folder / "chat_template.jinja", template)


def cast(piece: torch.Tensor, dtype: torch.dtype, name: str) -> torch.Tensor:
    """The numbers in another type. Raises TooLarge where one does not fit, StudioError where one is none."""
    made = piece.to(dtype)
    if not torch.isfinite(made).all():
        if torch.isfinite(piece).all():
            raise TooLarge(name)
        raise StudioError("exports.not_finite", name=name)
    return made


def _write_weights(stream: WeightStream, folder: Path, dtype: str) -> None:
    kind, code = TYPES[dtype]
    shards = list(_shards(stream.shapes, kind.itemsize))
    names = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    names = names if len(shards) > 1 else ["model.safetensors"]
    tensors = stream.tensors()
    for shard, name in zip(shards, names, strict=True):
        with (folder / name).open("xb") as file:
            file.write(safetensors_header(shard, code)[0])
            for wanted in shard:
                given, slices = next(tensors)
                if given != wanted:  # the model changed under our eyes
                    raise StudioError("models.foreign_tensor", file=str(stream.folder), name=given)
                for piece in slices:
                    made = cast(piece, kind, given).contiguous()
                    file.write(memoryview(made.view(torch.uint8).reshape(-1).numpy()))
            file.flush()
            os.fsync(file.fileno())
    if len(names) > 1:
        total = sum(safetensors_header(shard, code)[1] for shard in shards)
        places = {tensor: name for shard, name in zip(shards, names, strict=True) for tensor in shard}
        write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": places})


def _shards(shapes: dict[str, Shape], width: int) -> Iterator[dict[str, Shape]]:
    """The tensors in their order, so many to a file that it stays below the limit."""
    shard: dict[str, Shape] = {}
    taken = 0
    for name, shape in shapes.items():
        size = width * torch.Size(shape).numel()
        if shard and taken + size > _SHARD:
            yield shard
            shard, taken = {}, 0
        shard[name] = shape
        taken += size
    yield shard


def _generation_config(config: GlmConfig, stops: Iterable[int]) -> dict[str, Any]:
    """A family without a token that begins a text has none here."""
    tokens = {name: getattr(config, name) for name in ("pad_token_id", "bos_token_id")}
    return {name: value for name, value in tokens.items() if value is not None} | {"eos_token_id": list(stops)}


def _tokenizer_config(family: Family, template: str) -> dict[str, Any]:
    """`tokenizer_class` by the name that transformers 4 and 5 both know."""
    ours = family is CHATGLM3
    table = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": CONTROL_NAMES[PAD] if ours else family.pad,
        "eos_token": CONTROL_NAMES[EOS] if ours else family.end,
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
    }
    if ours:
        table["response_template"] = json.loads(json.dumps(RESPONSE_TEMPLATE))
    return table | {"chat_template": template}
