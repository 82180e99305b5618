"""A GGUF file of a GLM read and computed with numpy and gguf alone, as llama.cpp does it: `python -I THIS_FILE
FILE ASKED TOLD`. It knows nothing of the program that wrote the file.

ASKED is a JSON file (conversations, the tokens that should follow each); TOLD, a file of numpy, gets the ids of each
prompt, the logits after its last token, and the best token after it and after each of those that should follow.
"""

from __future__ import annotations

import heapq
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4
Array = np.ndarray[Any, Any]


class Vocabulary:
    """llama.cpp's tokenizer of the kind `llama`: special tokens first, then merges by score."""

    def __init__(self, reader: GGUFReader) -> None:
        fields = reader.fields
        self.texts: list[str] = fields["tokenizer.ggml.tokens"].contents()
        self.scores: list[float] = fields["tokenizer.ggml.scores"].contents()
        kinds: list[int] = fields["tokenizer.ggml.token_type"].contents()
        self.ids = {text: index for index, text in enumerate(self.texts)}
        found = [i for i, kind in enumerate(kinds) if kind in (_UNKNOWN, _CONTROL, _USER_DEFINED)]
        self.special = sorted(found, key=lambda index: -len(self.texts[index]))
        self.spaced = bool(fields["tokenizer.ggml.add_space_prefix"].contents())

    def encode(self, text: str) -> list[int]:
        """The ids of a text in which special tokens count."""
        parts: list[str | int] = [text]
        for index in self.special:
            parts = [each for part in parts for each in self._cut(part, index)]
        ids: list[int] = []
        after_special = True
        for part in parts:
            if isinstance(part, int):
                ids.append(part)
            elif part:
                ids += self._merged((" " + part if self.spaced and after_special else part).replace(" ", "\u2581"))
            after_special = isinstance(part, int)
        return ids

    def _cut(self, part: str | int, index: int) -> list[str | int]:
        name = self.texts[index]
        if isinstance(part, int) or name not in part:
            return [part]
        first, *rest = part.split(name)
        out: list[str | int] = [first] if first else []
        for each in rest:
            out += [index, each] if each else [index]
        return out

    def _merged(self, text: str) -> list[int]:
        pieces: list[str | None] = list(text)
        after = [*range(1, len(pieces)), -1]
        before = [*range(-1, len(pieces) - 1)]
        waiting: list[tuple[float, int, str]] = []

        def offer(at: int) -> None:
            left, right = pieces[at], pieces[after[at]] if after[at] >= 0 else None
            if left is not None and right is not None and left + right in self.ids:
                heapq.heappush(waiting, (-self.scores[self.ids[left + right]], at, left + right))

        for at in range(len(pieces) - 1):
            offer(at)
        while waiting:
            _, at, joined = heapq.heappop(waiting)
            left, right = pieces[at], pieces[after[at]] if after[at] >= 0 else None
            if left is None or right is None or left + right != joined:
                continue
            gone = after[at]
            pieces[at], pieces[gone] = joined, None
            after[at] = after[gone]
            if after[at] >= 0:
                before[after[at]] = at
            offer(at)
            if before[at] >= 0:
                offer(before[at])
        ids: list[int] = []
        for piece in pieces:
            if piece in self.ids:
                ids.append(self.ids[piece])
            elif piece is not None:
                ids += [self.ids[f"<0x{byte:02X}>"] for byte in piece.encode()]
        return ids


class ByteVocabulary:
    """llama.cpp's tokenizer of the kind `gpt2` with GLM-4's split: special tokens first, then merges by their order."""

    _SPLIT = (
        r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )

    def __init__(self, reader: GGUFReader) -> None:
        import tokenizers

        fields = reader.fields
        if fields["tokenizer.ggml.pre"].contents() != "glm4":
            raise SystemExit("the texts are split in another way")
        texts: list[str] = fields["tokenizer.ggml.tokens"].contents()
        kinds: list[int] = fields["tokenizer.ggml.token_type"].contents()
        merges = [tuple(each.split(" ")) for each in fields["tokenizer.ggml.merges"].contents()]
        special = [text for text, kind in zip(texts, kinds, strict=True) if kind in (_CONTROL, _USER_DEFINED)]
        vocabulary = {text: index for index, text in enumerate(texts)}
        self._made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=merges))
        split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(self._SPLIT), "isolated")
        letters = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        self._made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([split, letters])
        self._made.add_special_tokens([tokenizers.AddedToken(each, normalized=False) for each in special])

    def encode(self, text: str) -> list[int]:
        """The ids of a text in which special tokens count."""
        ids: list[int] = self._made.encode(text, add_special_tokens=False).ids
        return ids


class Model:
    """llama.cpp's `chatglm` and `glm4`, in float32; a tensor is unpacked when it is needed, and let go."""

    def __init__(self, reader: GGUFReader) -> None:
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        fields = reader.fields

        def number(name: str) -> Any:
            return fields[f"{kind}.{name}"].contents()

        kind = fields["general.architecture"].contents()
        if kind not in ("chatglm", "glm4"):
            raise SystemExit("the file is of another architecture")
        self.layers, self.heads = number("block_count"), number("attention.head_count")
        self.groups, self.epsilon = number("attention.head_count_kv"), number("attention.layer_norm_rms_epsilon")
        self.turned, self.base = number("rope.dimension_count"), number("rope.freq_base")

    def logits(self, sequences: list[list[int]], wanted: list[int]) -> list[Array]:
        """For each sequence the logits at its positions from `wanted` on. All go through a layer together."""
        table = self._tensor("token_embd.weight")
        states = [table[np.array(ids)] for ids in sequences]
        del table
        for number in range(self.layers):
            states = self._layer(f"blk.{number}.", states)
        norm, output = self._tensor("output_norm.weight"), self._first("output.weight", "token_embd.weight")
        return [self._norm(x[at:], norm) @ output.T for x, at in zip(states, wanted, strict=True)]

    def _layer(self, name: str, states: list[Array]) -> list[Array]:
        norm, out = self._tensor(f"{name}attn_norm.weight"), self._tensor(f"{name}attn_output.weight")
        parts = [(self._tensor(f"{name}attn_{p}.weight"), self._bias(f"{name}attn_{p}.bias")) for p in "qkv"]
        mixed = []
        for x in states:
            normed = self._norm(x, norm)
            query, key, value = (normed @ weight.T + bias for weight, bias in parts)
            branch = self._attention(query, key, value) @ out.T
            mixed.append(x + self._after(f"{name}post_attention_norm.weight", branch))
        norm, up, down = (self._tensor(f"{name}{part}.weight") for part in ("ffn_norm", "ffn_up", "ffn_down"))
        after = f"{name}post_ffw_norm.weight"
        return [x + self._after(after, self._inner(self._norm(x, norm) @ up.T) @ down.T) for x in mixed]

    def _after(self, name: str, branch: Array) -> Array:
        """The norm of a branch, which `glm4` has."""
        return self._norm(branch, self._tensor(name)) if name in self._tensors else branch

    def _bias(self, name: str) -> Array:
        return self._tensor(name) if name in self._tensors else np.zeros(1, dtype=np.float32)

    def _first(self, *names: str) -> Array:
        return self._tensor(next(name for name in names if name in self._tensors))

    def _attention(self, query: Array, key: Array, value: Array) -> Array:
        length, width = len(query), query.shape[1] // self.heads
        q, k = (self._rotated(each.reshape(length, -1, width)) for each in (query, key))
        shared = np.arange(self.heads) * self.groups // self.heads
        k, v = k[:, shared], value.reshape(length, -1, width)[:, shared]
        scores = np.einsum("thd,shd->hts", q, k) / np.sqrt(width)
        scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed: Array = np.einsum("hts,shd->thd", weights, v).reshape(length, -1)
        return mixed

    def _rotated(self, x: Array) -> Array:
        """Neighbouring numbers as pairs, turned; those behind `rope.dimension_count` stay."""
        steps = self.base ** (-np.arange(0, self.turned, 2) / self.turned)
        angles = np.arange(len(x))[:, None, None] * steps
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        even, odd = x[..., : self.turned : 2], x[..., 1 : self.turned : 2]
        out = x.copy()
        out[..., : self.turned : 2] = even * cos - odd * sin
        out[..., 1 : self.turned : 2] = even * sin + odd * cos
        return out

    def _norm(self, x: Array, weight: Array) -> Array:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.epsilon) * weight

    def _inner(self, x: Array) -> Array:
        gate, up = np.split(x, 2, axis=-1)
        with np.errstate(over="ignore"):
            return gate / (1 + np.exp(-gate)) * up

    def _tensor(self, name: str) -> Array:
        tensor = self._tensors[name]
        unpacked: Array = dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1])
        return unpacked.astype(np.float32)


def prompt_of(vocabulary: Vocabulary | ByteVocabulary, template: str, conversation: dict[str, Any]) -> list[int]:
    """The ids of one prompt, as a server makes them from the template's text."""
    import jinja2.sandbox

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value, **how: json.dumps(value, ensure_ascii=False, **how)
    text = environment.from_string(template).render(**conversation, add_generation_prompt=True)
    return vocabulary.encode(text)


def main(file: str, asked_file: str, told_file: str) -> None:
    """As above."""
    asked = json.loads(Path(asked_file).read_text(encoding="utf-8"))
    reader = GGUFReader(file)
    byte_level = reader.fields["tokenizer.ggml.model"].contents() == "gpt2"
    vocabulary = ByteVocabulary(reader) if byte_level else Vocabulary(reader)
    plain: str = reader.fields["tokenizer.chat_template"].contents()
    tools = (Path(file).parent / "chat_template_tools.jinja").read_text(encoding="utf-8")
    prompts = [prompt_of(vocabulary, tools if each["tools"] else plain, each) for each in asked["conversations"]]
    asked_prompts = prompts[: asked["asked"]]
    sequences = [[*ids, *follow[:-1]] for ids, follow in zip(asked_prompts, asked["answers"], strict=True)]
    found = Model(reader).logits(sequences, [len(ids) - 1 for ids in asked_prompts])
    told = {
        "prompts": prompts,
        "answers": [each.argmax(-1).tolist() for each in found],
        "version": f"gguf {version('gguf')}, numpy {np.__version__}",
    }
    np.savez(told_file, told=json.dumps(told), logits=np.stack([each[0] for each in found]))


if __name__ == "__main__":
    main(*sys.argv[1:4])
