"""Peak memory of an export: `python -m tests.bench.export_memory [--gigabytes 12] [--form native] [--lora]`.

Writes a ChatGLM3-shaped model of random numbers of about so many gigabytes (in safetensors of one layer each), exports it
in a process of its own, and prints the growth of the peak resident memory over the size of the largest shard. What checks an
export afterwards is not measured: it loads the model, as whoever uses it does.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from glmstudio.paths import DEMO
from tests.published import Shape, config_of, sizes

_EXPORT = """
import json, sys
from pathlib import Path
from glmstudio.glm.exports.gguf_file import write_gguf
from glmstudio.glm.exports.native_folder import write_native
from glmstudio.glm.exports.weight_stream import WeightStream
def peak(): return int([l for l in open('/proc/self/status') if l.startswith('VmHWM')][0].split()[1]) * 1024
source, out, form, adapter = sys.argv[1:]
stream = WeightStream(Path(source), Path(adapter) if adapter else None)
before = peak()
if form == "native":
    write_native(stream, Path(out), "float16")
else:
    write_gguf(stream, Path(out), form, title="bench")
print(json.dumps(peak() - before))
"""
_LAYER = 404e6  # bytes of a layer of ChatGLM3-6B in float16


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=12.0)
    parser.add_argument("--form", choices=("native", "f16", "q8_0"), default="native")
    parser.add_argument("--lora", action="store_true", help="merge an adapter of rank 8 on the way")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        source, out = Path(place) / "source", Path(place) / "out"
        shape = Shape(vocabulary=65024, hidden=4096, ffn=13696, heads=32, groups=2, width=128)
        shape = Shape(**vars(shape) | {"layers": max(1, round((options.gigabytes * 1e9 - 2 * 533e6) / _LAYER))})
        write(source, shape)
        adapter = write_adapter(Path(place) / "lora", shape) if options.lora else ""
        begin = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", _EXPORT, str(source), str(out), options.form, str(adapter)], capture_output=True, text=True,
            check=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        seconds = time.monotonic() - begin
        written = [out] if out.is_file() else [*out.glob("*.safetensors")]
        largest = max(file.stat().st_size for file in [*written, *source.glob("*.safetensors")] if file != out)
        grown, total = json.loads(done.stdout), sum(file.stat().st_size for file in written)
        print(
            f"{options.form}{' with LoRA' if options.lora else ''}: {total / 1e9:.2f} GB written in {seconds:.0f} s, peak grew by "
            f"{grown / 1e6:.0f} MB, {grown / largest:.2f} of the largest shard ({largest / 1e6:.0f} MB)"
        )


def write(folder: Path, shape: Shape) -> None:
    """A folder in the published layout, with the demo's vocabulary (its pieces do not matter here)."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config_of(shape)))
    shutil.copyfile(DEMO / "model/tokenizer.model", folder / "tokenizer.model")
    groups: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, size in sizes(shape).items():
        groups.setdefault(name.split(".")[3] if ".layers." in name else name, {})[name] = size
    places: dict[str, str] = {}
    for number, group in enumerate(groups.values(), 1):
        file = f"model-{number:05}-of-{len(groups):05}.safetensors"
        save_file({name: _numbers(size) for name, size in group.items()}, folder / file)
        places |= dict.fromkeys(group, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def _numbers(size: tuple[int, ...]) -> torch.Tensor:
    """Random ones, the same again and again: to draw 12 GB would take longer than what is measured."""
    count = torch.Size(size).numel()
    drawn = torch.randn(min(count, 1 << 20)) * 0.02
    return drawn.half().repeat(-(-count // len(drawn)))[:count].reshape(size).contiguous()


def write_adapter(folder: Path, shape: Shape) -> Path:
    """LoRA of rank 8 on query, key and value."""
    folder.mkdir()
    out = {
        "q_proj": shape.heads * shape.width,
        "k_proj": shape.groups * shape.width,
        "v_proj": shape.groups * shape.width,
    }
    tensors = {}
    for number in range(shape.layers):
        for name, rows in out.items():
            layer = f"base_model.model.model.layers.{number}.self_attn.{name}"
            tensors[f"{layer}.lora_A.weight"] = torch.randn(8, shape.hidden) * 0.01
            tensors[f"{layer}.lora_B.weight"] = torch.randn(rows, 8) * 0.01
    save_file(tensors, folder / "adapter_model.safetensors")
    about = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": [*out]}
    (folder / "adapter_config.json").write_text(json.dumps(about))
    return folder


if __name__ == "__main__":
    main()
