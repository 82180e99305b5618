"""A small byte-level BPE vocabulary in GLM-4's form, made here: its own vocabulary cannot lie in a repository."""

from __future__ import annotations

import base64
import json
from functools import cache
from itertools import pairwise
from pathlib import Path

import tokenizers
from tokenizers import pre_tokenizers

from glmstudio.families.family import Family
from glmstudio.models.contents.byte_vocabulary import PATTERN
from glmstudio.models.contents.rank_file import merges_of

TEXT = (
    "You are a helpful assistant. How much is 2+2? It's 4, isn't it? They've said they'll come at 12345 o'clock.\n"
    "你好，今天北京天气怎么样？晚上睡不着应该怎么办。你是一个名为 GLM 的人工智能助手，请使用 Json 格式。可用工具\n\n"
    '{"name": "get_weather", "description": "查询天气", "parameters": {"type": "object"}}\n    indent\t tab\r\n'
    "<think>\nSo the answer is here.\n</think>\n# 可用工具\n\n## rain\n\n在调用上述函数时，请使用 Json 格式表示调用的参数。 🙂👋！\n"
)
# GPT-2's letters for the bytes that cannot be seen are the ones behind the first 256.
_SEEN = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_HIDDEN = [byte for byte in range(256) if byte not in _SEEN]
_LETTERS = {byte: chr(256 + place) for place, byte in enumerate(_HIDDEN)}
KINDS = {
    "glm4": {"model_type": "chatglm", "eos_token_id": [1], "padded_vocab_size": 640},
    "glm4_0414": {"model_type": "glm4", "vocab_size": 640},
    "glm_z1": {"model_type": "glm4", "vocab_size": 640, "_name_or_path": "zai-org/GLM-Z1-9B-0414"},
    "glm_edge": {"model_type": "glm", "vocab_size": 640, "partial_rotary_factor": 1.0},
}


@cache
def ranks() -> tuple[bytes, ...]:
    """Tokens by rank: the 256 bytes, then what byte-pair encoding merges first in `TEXT`."""
    words = [list(map(_byte, word)) for word in _words(TEXT * 2) for _ in range(2)]
    found = [bytes([byte]) for byte in range(256)]
    while len(found) < 420:
        counts: dict[tuple[bytes, bytes], int] = {}
        for word in words:
            for pair in pairwise(word):
                counts[pair] = counts.get(pair, 0) + 1
        if not counts:
            break
        best = max(counts, key=lambda pair: (counts[pair], pair))
        found.append(best[0] + best[1])
        words = [_merged(word, best) for word in words]
    return tuple(dict.fromkeys(found))


def write_ranks(folder: Path, *, end: str = "\n") -> Path:
    """A `tokenizer.model` of ranks."""
    lines = [f"{base64.b64encode(token).decode()} {rank}{end}" for rank, token in enumerate(ranks())]
    file = folder / "tokenizer.model"
    file.write_bytes("".join(lines).encode())
    return file


def model_folder(folder: Path, family: Family | str) -> Path:
    """A folder that is recognised as one of this family, without weights."""
    name = family if isinstance(family, str) else family.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(KINDS[name]))
    write_ranks(folder)
    return folder


def fast_file(folder: Path, family: Family) -> Path:
    """The same vocabulary as the `tokenizer.json` that transformers reads, special tokens among its added ones."""
    tokens = list(ranks())
    spelled = [token.decode("latin-1").translate(_LETTERS) for token in tokens]
    merges = [tuple(part.decode("latin-1").translate(_LETTERS) for part in pair) for pair in merges_of(tokens)]
    vocabulary = {token: rank for rank, token in enumerate(spelled)}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    split = pre_tokenizers.Split(tokenizers.Regex(PATTERN), "isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([split, letters])
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_special_tokens([tokenizers.AddedToken(name, special=True, normalized=False) for name in family.special])
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "tokenizer.json"
    made.save(str(file))
    return file


def reference_ids(text: str, tokens: dict[bytes, int]) -> list[int]:
    """Byte-pair encoding by ranks, in the words of its definition: of all neighbours the pair of the lowest rank is
    merged, the first of them, until there is none."""
    out = []
    for word in _words(text):
        parts = [bytes([byte]) for byte in word]
        if word in tokens:
            parts = [word]
        while True:
            pairs = [(tokens[a + b], at) for at, (a, b) in enumerate(pairwise(parts)) if a + b in tokens]
            if not pairs:
                break
            _, at = min(pairs)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        out += [tokens[part] for part in parts]
    return out


def _words(text: str) -> list[bytes]:
    split = pre_tokenizers.Split(tokenizers.Regex(PATTERN), "isolated")
    return [text[start:end].encode() for _, (start, end) in split.pre_tokenize_str(text)]


def _byte(value: int) -> bytes:
    return bytes([value])


def _merged(word: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    out: list[bytes] = []
    at = 0
    while at < len(word):
        if tuple(word[at : at + 2]) == pair:
            out.append(pair[0] + pair[1])
            at += 2
        else:
            out.append(word[at])
            at += 1
    return out
