"""Peak memory of a conversion to safetensors: `python -m tests.bench.convert_memory [--megabytes 500] [--shards 3]`.

Writes a ChatGLM3-shaped folder of random float16 weights in `.bin` shards of about so many megabytes, converts it to each
type in a process of its own, and prints the growth of the peak resident memory over the size of the largest shard.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from transformers import GlmConfig

from glmstudio.glm.weights.model_config import published_config

_CONVERT = """
import json, sys
from pathlib import Path
from glmstudio.glm.weights.convert import convert
def peak(): return int([l for l in open('/proc/self/status') if l.startswith('VmHWM')][0].split()[1]) * 1024
before = peak()
convert(Path(sys.argv[1]), dtype=sys.argv[2], tell=lambda done, total: None)
print(json.dumps(peak() - before))
"""
_WIDTH, _INNER, _KEYS = 4096, 13696, 256  # as in ChatGLM3-6B: a layer has 404 MB in float16


def main() -> None:
    """Print one line for each type."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=500.0, help="of a shard")
    parser.add_argument("--shards", type=int, default=3)
    options = parser.parse_args()
    for dtype in ("float16", "bfloat16"):
        begin = time.monotonic()
        ratio = measure(options.megabytes, (dtype,), options.shards)[dtype]
        print(f"{dtype:10} peak / largest shard {ratio:.2f}   {time.monotonic() - begin:.0f} s with making it")


def measure(megabytes: float, dtypes: tuple[str, ...], shards: int) -> dict[str, float]:
    """Growth of the peak over the largest shard, for each type. The files are gone afterwards."""
    ratios = {}
    for dtype in dtypes:
        with tempfile.TemporaryDirectory() as folder:
            largest = write(Path(folder), megabytes, shards)
            done = subprocess.run(
                [sys.executable, "-c", _CONVERT, folder, dtype], capture_output=True, text=True, check=True,
                cwd=Path(__file__).parents[2],
            )  # fmt: skip
            ratios[dtype] = json.loads(done.stdout) / largest
    return ratios


def write(folder: Path, megabytes: float, shards: int) -> int:
    """A folder in the published layout, one layer a shard; returns the bytes of the largest shard."""
    scale = (megabytes * 1e6 / 2 / 202e6) ** 0.5  # of the width, for a layer of the wanted size
    width, inner = max(1, round(_WIDTH * scale / 64)) * 64, max(1, round(_INNER * scale / 64)) * 64
    config = GlmConfig(
        vocab_size=256, hidden_size=width, intermediate_size=inner, num_hidden_layers=shards, head_dim=64,
        num_attention_heads=width // 64, num_key_value_heads=1, attention_bias=True, max_position_embeddings=512,
        rms_norm_eps=1e-5, pad_token_id=0,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    )  # fmt: skip
    (folder / "config.json").write_text(json.dumps(published_config(config)))
    table, largest = {}, 0
    for number in range(shards):
        tensors = {name: torch.randn(shape).half() for name, shape in _shapes(number, shards, width, inner).items()}
        file = folder / f"pytorch_model-{number + 1:05}-of-{shards:05}.bin"
        torch.save(tensors, file)
        table |= dict.fromkeys(tensors, file.name)
        largest = max(largest, file.stat().st_size)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": table}))
    return largest


def _shapes(number: int, shards: int, width: int, inner: int) -> dict[str, tuple[int, ...]]:
    layer, rows = f"transformer.encoder.layers.{number}.", width + 2 * 64
    shapes: dict[str, tuple[int, ...]] = {
        f"{layer}input_layernorm.weight": (width,),
        f"{layer}self_attention.query_key_value.weight": (rows, width),
        f"{layer}self_attention.query_key_value.bias": (rows,),
        f"{layer}self_attention.dense.weight": (width, width),
        f"{layer}post_attention_layernorm.weight": (width,),
        f"{layer}mlp.dense_h_to_4h.weight": (2 * inner, width),
        f"{layer}mlp.dense_4h_to_h.weight": (width, inner),
    }
    if number == 0:
        shapes["transformer.embedding.word_embeddings.weight"] = (256, width)
    if number == shards - 1:
        shapes |= {
            "transformer.encoder.final_layernorm.weight": (width,),
            "transformer.output_layer.weight": (256, width),
        }
    return shapes


if __name__ == "__main__":
    main()
