"""Models as a hub publishes them, small and random."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from random import Random
from typing import Literal

from glmstudio.paths import DEMO

CONFIG = Path(__file__).parents[1] / "golden" / "model" / "config.json"


def make_model(
    root: Path,
    repo: str,
    *,
    layout: Literal["bin", "safetensors", "both"] = "bin",
    shards: int = 2,
    shard_bytes: int = 1 << 20,
    seed: int = 0,
) -> Path:
    """A repository that looks like ChatGLM3's: random weights in whole files, and some that nobody needs."""
    folder, chance = root / repo, Random(seed)
    (folder / "notes").mkdir(parents=True, exist_ok=True)
    vocabulary = {"padded_vocab_size": 1600}  # a real one, as downloads read it
    (folder / "config.json").write_text(json.dumps(json.loads(CONFIG.read_bytes()) | vocabulary, indent=2))
    (folder / "tokenizer.model").write_bytes((DEMO / "model" / "tokenizer.model").read_bytes())
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "ChatGLMTokenizer"}')
    (folder / "MODEL_LICENSE").write_text("A licence.\n")
    for name in ("modeling_chatglm.py", "README.md", "notes/more.txt"):
        (folder / name).write_text("Nobody needs this.\n")
    for kind in ("bin", "safetensors") if layout == "both" else (layout,):
        _weights(folder, kind, shards, shard_bytes, chance)
    return folder


def _weights(folder: Path, kind: str, shards: int, shard_bytes: int, chance: Random) -> None:
    stem = "pytorch_model" if kind == "bin" else "model"
    table = {}
    for number in range(1, shards + 1):
        name = f"{stem}-{number:05d}-of-{shards:05d}.{kind}"
        table[f"tensor.{number}"] = name
        data = chance.randbytes(shard_bytes)
        if kind == "bin":
            with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_STORED) as archive:
                for name, held in (("data.pkl", b"\x80\x02}."), (f"data/{number}", data)):  # an empty table
                    archive.writestr(zipfile.ZipInfo(f"archive/{name}"), held)  # without the time of day
            continue
        head = {f"tensor.{number}": {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}}
        text = json.dumps(head).encode()
        (folder / name).write_bytes(struct.pack("<Q", len(text)) + text + data)
    index = {"metadata": {"total_size": shards * shard_bytes}, "weight_map": table}
    (folder / f"{stem}.{kind}.index.json").write_text(json.dumps(index))
