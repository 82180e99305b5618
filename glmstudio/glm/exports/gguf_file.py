"""A whole model as one GGUF file, for llama.cpp, Ollama and LM Studio, written a slice of a tensor at a time.

The architecture is llama.cpp's `chatglm`, which has the same layers, or `glm4`, which has two norms more. Query, key
and value stay apart, and `ffn_up` is the gate and the up projection as one; a head that is the embedding is left out.
Keys and names: `docs/serving.md`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType
from gguf.quants import dequantize, quantize

from glmstudio.errors import StudioError
from glmstudio.families.chatglm3 import CHATGLM3
from glmstudio.families.recognition import family_of
from glmstudio.files import write_text
from glmstudio.glm.exports.byte_tokenizer import byte_pairs
from glmstudio.glm.exports.chat_templates import chat_template
from glmstudio.glm.exports.gguf_vocabulary import GgufVocabulary, add_vocabulary, byte_vocabulary, gguf_vocabulary
from glmstudio.glm.exports.native_folder import TooLarge, cast
from glmstudio.glm.exports.sentencepiece_file import read_pieces
from glmstudio.glm.exports.weight_stream import Shape, WeightStream
from glmstudio.glm.weights.model_config import GLM, GLM4

ARCHITECTURES = {GLM: "chatglm", GLM4: "glm4"}
HIDES = " "  # in a special token's name that somebody typed: `<|user |>`
TOOLS_TEMPLATE = "chat_template_tools.jinja"
_BLOCK = 32  # numbers that share a scale in Q8_0
_TYPES = {
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}
_PLAIN = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_IN_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_self_attn_layernorm": "post_attention_norm",
    "post_mlp_layernorm": "post_ffw_norm",
}
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")


def write_gguf(stream: WeightStream, file: Path, kind: str, *, title: str) -> GgufVocabulary:
    """Write the model to the new `file`: `kind` "f16" or "q8_0". Raises StudioError where a number does not fit."""
    writer = GGUFWriter(None, ARCHITECTURES[stream.config.model_type])
    family, rows = family_of(stream.folder), stream.config.vocab_size
    if family is CHATGLM3:
        vocabulary = gguf_vocabulary(read_pieces(stream.folder), rows)
    else:
        vocabulary = byte_vocabulary(byte_pairs(stream.folder), family, rows)
    _describe(writer, stream.config, kind, title)
    add_vocabulary(writer, vocabulary, chat_template(family, tools=False, hides=HIDES, lead=vocabulary.lead))
    for name, shape in stream.shapes.items():
        _announce(writer, gguf_name(name), shape, stored_type(kind, shape))
    writer.write_header_to_file(file)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    try:
        _write_tensors(writer, stream, kind)
    finally:
        writer.close()
    return vocabulary


def write_tools_template(folder: Path, vocabulary: GgufVocabulary) -> None:
    """The template with tools, for `llama-server --chat-template-file`: in the file it would break every request."""
    write_text(folder / TOOLS_TEMPLATE, chat_template(vocabulary.family, tools=True, hides=HIDES, lead=vocabulary.lead))


def rounded(kind: str, tensor: torch.Tensor) -> torch.Tensor:
    """The numbers as a file of this kind keeps them."""
    kept = stored_type(kind, tuple(tensor.shape))
    if kept == GGMLQuantizationType.F32:
        return tensor
    if kept == GGMLQuantizationType.F16:
        return tensor.half()
    return torch.from_numpy(dequantize(quantize(tensor.float().numpy(), kept), kept).reshape(tensor.shape))


def gguf_name(name: str) -> str:
    """A tensor's name in the file. Raises KeyError for one that no GLM has."""
    layer, _, kind = name.rpartition(".")
    match = _LAYER.fullmatch(layer)
    return f"blk.{match[1]}.{_IN_LAYER[match[2]]}.{kind}" if match else f"{_PLAIN[layer]}.{kind}"


def stored_type(kind: str, shape: Shape) -> GGMLQuantizationType:
    """Vectors stay in float32; so do rows in F16 that cannot be cut into blocks."""
    if len(shape) == 1:
        return GGMLQuantizationType.F32
    wanted = _TYPES[kind][0]
    return wanted if shape[-1] % _BLOCK == 0 else GGMLQuantizationType.F16


def _describe(writer: GGUFWriter, config: Any, kind: str, title: str) -> None:
    writer.add_type("model")
    writer.add_name(title)
    writer.add_file_type(_TYPES[kind][1])
    writer.add_quantization_version(2)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(int(config.head_dim * config.rope_parameters["partial_rotary_factor"]))
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)


def _announce(writer: GGUFWriter, name: str, shape: Shape, kept: GGMLQuantizationType) -> None:
    if kept == GGMLQuantizationType.Q8_0:
        stored = (*shape[:-1], shape[-1] // _BLOCK * (_BLOCK + 2))
        writer.add_tensor_info(name, stored, np.dtype(np.uint8), int(np.prod(stored)), raw_dtype=kept)
    else:
        plain = np.dtype(np.float32 if kept == GGMLQuantizationType.F32 else np.float16)
        writer.add_tensor_info(name, shape, plain, int(np.prod(shape)) * plain.itemsize)


def _write_tensors(writer: GGUFWriter, stream: WeightStream, kind: str) -> None:
    (file,) = writer.fout or []  # one file, which the header has opened
    writer.write_padding(file, file.tell())
    for (name, slices), wanted in zip(stream.tensors(), stream.shapes, strict=True):
        if name != wanted:  # the model changed under our eyes
            raise StudioError("models.foreign_tensor", file=str(stream.folder), name=name)
        kept, written = stored_type(kind, stream.shapes[name]), 0
        for block in _stored(slices, kept, name):
            file.write(np.ascontiguousarray(block).tobytes())
            written += block.nbytes
        writer.write_padding(file, written)
    file.flush()
    os.fsync(file.fileno())


def _stored(slices: Iterable[torch.Tensor], kept: GGMLQuantizationType, name: str) -> Iterator[np.ndarray[Any, Any]]:
    for piece in slices:
        try:
            if kept == GGMLQuantizationType.F16:
                yield cast(piece, torch.float16, name).numpy()
                continue
            plain = cast(piece, torch.float32, name).numpy()
        except TooLarge as error:
            raise StudioError("exports.too_large", name=name) from error
        yield quantize(plain, kept) if kept == GGMLQuantizationType.Q8_0 else plain
