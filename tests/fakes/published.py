"""Models as a hub publishes them, small and random."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from random import Random
from typing import Literal

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
    (folder / "config.json").write_bytes(CONFIG.read_bytes())
    (folder / "tokenizer.model").write_bytes(chance.randbytes(30_000))
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
                archive.writestr(zipfile.ZipInfo(f"archive/data/{number}"), data)  # without the time of day
            continue
        head = {f"tensor.{number}": {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}}
        text = json.dumps(head).encode()
        (folder / name).write_bytes(struct.pack("<Q", len(text)) + text + data)
    index = {"metadata": {"total_size": shards * shard_bytes}, "weight_map": table}
    (folder / f"{stem}.{kind}.index.json").write_text(json.dumps(index))
