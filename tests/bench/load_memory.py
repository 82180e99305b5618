"""Peak memory of loading a synthetic checkpoint: `python -m tests.bench.load_memory [--gigabytes 1]`.

Writes a random ChatGLM3-shaped folder (float32, one file or shards, .bin or safetensors), loads each in a process of its
own, and prints the growth of the peak resident memory over the size of the weights.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import GlmConfig, GlmForCausalLM

from glmstudio.glm import load_model
from glmstudio.glm.weights.layout import published_tensors
from glmstudio.glm.weights.model_config import published_config

_LOAD = """
import json, resource, sys, torch
from glmstudio.glm import load_model
from glmstudio.glm.load import best_dtype
import transformers.models.glm.modeling_glm
def rss(): return int([l for l in open('/proc/self/status') if l.startswith('VmHWM')][0].split()[1]) * 1024
before = rss()
model = load_model(sys.argv[1], device='cpu', dtype=getattr(torch, sys.argv[2]))
total = sum(float(p.detach().sum()) for p in model.parameters())  # touches every page
print(json.dumps({'peak': rss() - before, 'model': sum(p.nbytes for p in model.parameters()), 'sum': total}))
"""
FORMS = ("one.bin", "shards.bin", "one.safetensors", "shards.safetensors")


def main() -> None:
    """Print one line for each form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    gigabytes = parser.parse_args().gigabytes
    for form, ratio in measure(gigabytes, FORMS).items():
        print(f"{form:22} peak / size {ratio:.2f}")
    for what, seconds in speed(gigabytes).items():
        print(f"{what:42} {seconds:.3f} s of CPU time")


def measure(gigabytes: float, forms: tuple[str, ...], dtype: str = "float32") -> dict[str, float]:
    """Peak growth over the loaded model's size, for each form."""
    ratios = {}
    for form in forms:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), form, gigabytes)
            done = subprocess.run(
                [sys.executable, "-c", _LOAD, folder, dtype], capture_output=True, text=True, check=True,
                cwd=Path(__file__).parents[2],
            )  # fmt: skip
            row = json.loads(done.stdout)
            ratios[form] = row["peak"] / row["model"]
    return ratios


def speed(gigabytes: float) -> dict[str, float]:
    """CPU-seconds of reading the files and of loading them, from the page cache, in turn; the best of five."""
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, "shards.safetensors", gigabytes)
        files = sorted(folder.glob("*.safetensors"))
        sides: dict[str, Callable[[], object]] = {
            "reading the files": lambda: [_read(file) for file in files],
            "loading in the type of the files": lambda: load_model(folder, device="cpu", dtype=torch.float32),
            "loading float32 as bfloat16": lambda: load_model(folder, device="cpu", dtype=torch.bfloat16),
        }
        for _ in range(5):
            for what, do in sides.items():
                began = time.process_time()
                do()
                best[what] = min(best.get(what, math.inf), time.process_time() - began)
    return best


def _read(file: Path) -> None:
    with file.open("rb", buffering=0) as stream:
        while stream.read(1 << 20):
            pass


def write(folder: Path, form: str, gigabytes: float) -> None:
    """A folder in the published layout with about so many bytes of random weights."""
    layers = max(1, round(gigabytes * 1e9 / 4 / 13.6e6))
    config = GlmConfig(
        vocab_size=1024, hidden_size=1024, intermediate_size=3584, num_hidden_layers=layers, num_attention_heads=16,
        num_key_value_heads=2, head_dim=64, attention_bias=True, max_position_embeddings=512, rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}, pad_token_id=0,
    )  # fmt: skip
    tensors = {k: v.detach().contiguous() for k, v in published_tensors(GlmForCausalLM(config).state_dict()).items()}
    (folder / "config.json").write_text(json.dumps(published_config(config)))
    shards, kind = form.split(".")
    if shards == "one":
        _save(tensors, folder / ("pytorch_model.bin" if kind == "bin" else "model.safetensors"))
        return
    names = sorted(tensors)
    parts = {f"part-{i}.{kind}": names[i::4] for i in range(4)}
    for file, chosen in parts.items():
        _save({name: tensors[name] for name in chosen}, folder / file)
    index = "pytorch_model.bin.index.json" if kind == "bin" else "model.safetensors.index.json"
    table = {name: file for file, chosen in parts.items() for name in chosen}
    (folder / index).write_text(json.dumps({"weight_map": table}))


def _save(tensors: dict[str, torch.Tensor], file: Path) -> None:
    if file.suffix == ".bin":
        torch.save(tensors, file)
    else:
        save_file(tensors, file)


if __name__ == "__main__":
    main()
