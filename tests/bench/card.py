"""ChatGLM3-6B's shape with random weights on a CUDA card: `python -m tests.bench.card`, a table in under 8 minutes.

Training against the old recipe (`tests/old_recipe.py`, in the same type, on the same card, in the same run), peak
memory, loading, and decoding with the model server's own engine. Needs torch, transformers, peft, sentencepiece,
accelerate and 26 GB of disk; no gradio. `--small` runs it all on a tiny model, on a CPU too: that the script works is
tested so.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import GlmForCausalLM

from glmstudio.chat.sampling import Sampling
from glmstudio.config.settings import Settings
from glmstudio.data.protocol.prompt import IGNORED, Example
from glmstudio.glm import load_model
from glmstudio.glm.adapters.adapter_pool import AdapterPool
from glmstudio.serve.engine import Engine
from glmstudio.train.methods import METHODS, checkpoint_layers
from glmstudio.train.shared_prefix import Prompts
from tests import old_recipe
from tests.bench.old_recipe import conversations
from tests.bench.shared_prompt import with_prompts
from tests.published import Shape, config_of, sizes
from tests.trainer_helpers import trainer_for

SIX_BILLION = Shape(vocabulary=65024, hidden=4096, ffn=13696, layers=28, heads=32, groups=2, width=128)
SMALL = Shape(vocabulary=512, hidden=64, ffn=128, layers=2, heads=4, groups=2, width=16)
GIB = 2**30


@dataclass(frozen=True)
class Bench:
    """What is measured on: a folder with a published model, where, and how much of it."""

    folder: Path
    shape: Shape
    device: str
    length: int  # of the longest conversation
    steps: int
    tokens: int  # that are decoded

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return torch.bfloat16 if self.device == "cuda" else torch.float32


def main() -> None:
    """Measure, and print a line as soon as each figure is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a tiny model, to try the script")
    small = parser.parse_args().small
    if not small and not torch.cuda.is_available():
        sys.exit("PyTorch sees no CUDA card here. `--small` tries the script on a CPU.")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"{torch.cuda.get_device_name() if device == 'cuda' else 'CPU'}, PyTorch {torch.__version__}\n")
    print("| | measured | goal on an H100 |\n|---|---|---|", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench = Bench(folder, SMALL, device, 64, 2, 8) if small else Bench(folder, SIX_BILLION, device, 2048, 3, 128)
        for part in (write, loading, training, memory, decoding):
            try:
                for line in part(bench):
                    print(line, flush=True)
            except (RuntimeError, ValueError) as error:  # the other parts are still wanted
                print(
                    f"| {part.__name__} broke | {type(error).__name__}: {str(error).splitlines()[0][:120]} | |",
                    flush=True,
                )
            _empty()
    print(f"\n{time.monotonic() - began:.0f} s in all")


def write(bench: Bench) -> Iterator[str]:
    """A published checkpoint of random numbers, one file for each few layers."""
    began = time.monotonic()
    names, shard, shards, size = sizes(bench.shape), {}, 0, 0
    (bench.folder / "config.json").write_text(json.dumps(config_of(bench.shape)), encoding="utf-8")
    where: dict[str, str] = {}
    for at, (name, dims) in enumerate(names.items(), 1):
        random = torch.empty(dims, dtype=bench.dtype, device=bench.device)
        shard[name] = (random.fill_(1.0) if name.endswith("norm.weight") else random.normal_(std=0.02)).cpu()
        size += shard[name].nbytes
        if size > 2 * GIB or at == len(names):
            shards, size = shards + 1, 0
            file = f"model-{shards:05}.safetensors"
            save_file(shard, bench.folder / file, metadata={"format": "pt"})
            where |= dict.fromkeys(shard, file)
            shard = {}
    (bench.folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    yield f"| a model was written | {time.monotonic() - began:.0f} s | |"


def loading(bench: Bench) -> Iterator[str]:
    """From the disk, whose cache is emptied as far as one may, to the device."""
    for file in bench.folder.glob("*.safetensors"):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    began = time.monotonic()
    load_model(bench.folder, dtype=bench.dtype, device=bench.device)
    _wait()
    yield f"| weights from the disk to the device | {time.monotonic() - began:.1f} s | 8 s |"


def training(bench: Bench) -> Iterator[str]:
    """Real tokens a second of both methods and of the old recipe, in turn; the best of two rounds."""
    examples = scaled(bench)
    sides: dict[str, Callable[[], float]] = {
        "old": lambda: old_rate(bench, examples),
        "ptuning_v2": lambda: our_rate(bench, "ptuning_v2", examples),
        "lora": lambda: our_rate(bench, "lora", examples),
        "shared": lambda: our_rate(bench, "ptuning_v2", *with_prompts(examples, 4)),
    }
    best = dict.fromkeys(sides, 0.0)
    for _ in range(2):
        for name, rate in sides.items():
            best[name] = max(best[name], rate())
            _empty()
    yield f"| the old recipe | {best['old']:,.0f} real tokens/s | |"
    for name in ("ptuning_v2", "lora"):
        yield f"| {name} | {best[name]:,.0f} real tokens/s = {best[name] / best['old']:.2f} x | 14,000; 3 x |"
    gain = best["shared"] / best["ptuning_v2"]
    yield f"| ptuning_v2, 4 conversations on one prompt | {best['shared']:,.0f} real tokens/s, {gain:.2f} x without | |"


def memory(bench: Bench) -> Iterator[str]:
    """The peak of PyTorch's own count over steps of one conversation as long as may be."""
    if bench.device != "cuda":
        yield "| peak memory | only on a card | |"
        return
    for said, goal, changes in (
        ("without checkpointing", 21, {}),
        ("with", 14, {"gradient_checkpointing": "on"}),
        ("4-bit base, with", 8, {"gradient_checkpointing": "on", "base_bits": "4"}),
    ):
        for method in ("ptuning_v2", "lora"):
            peak = _peak(bench, method, changes) / GIB
            yield f"| peak at {bench.length:,} tokens, {method}, {said} | {peak:.1f} GiB | {goal} GiB |"
            _empty()


def decoding(bench: Bench) -> Iterator[str]:
    """Tokens a second of the server's engine after prompts of two lengths, and the first token's time."""
    for bits, goal in ((16, 170), (8, 260), (4, None)):
        engine = Engine(AdapterPool(load_model(bench.folder, dtype=bench.dtype, device=bench.device, bits=bits)), ())
        short, long = (
            _rate(engine, bench, length) for length in (bench.length // 4, 4 * bench.length - bench.tokens - 1)
        )
        yield f"| decoding, {bits} bits, {bench.length // 4:,} tokens before | {short:.0f} tokens/s | {goal or ''} |"
        yield f"| the same with {4 * bench.length:,} | {long:.0f} tokens/s = {long / short:.2f} | 0.9 |"
        if bits == 16:
            first, again = _first_tokens(engine, bench)
            yield f"| first token of a prompt of {bench.length // 2:,} | {1000 * first:.0f} ms | 60 ms |"
            yield f"| of the next round of tools | {1000 * again:.0f} ms | 25 ms |"
        engine.end()
        del engine
        _empty()


def scaled(bench: Bench) -> list[Example]:
    """Conversations as long as ToolAlpaca's, with a sixth learned."""
    made = conversations(bench.shape.vocabulary, bench.steps * 16)
    factor = bench.length / 256
    longer = []
    for each in made:
        ids = (each.input_ids * (int(factor) + 1))[: max(8, round(len(each.input_ids) * factor))]
        asked = len(ids) - round(len(ids) * 0.16) - 1
        longer.append(Example(ids, [IGNORED] * asked + ids[asked:]))
    return longer


def our_rate(bench: Bench, method: str, examples: list[Example], prompts: Prompts | None = None) -> float:
    """Real tokens a second of the trainer, after its first step, which finds the kernels."""
    settings = _settings(bench, method, steps=bench.steps, pack_tokens=4 * bench.length)
    lines = _train(bench, settings, examples, prompts)[1:]
    return float(
        sum(line["tokens"] for line in lines) / sum(line["tokens"] / line["tokens_per_second"] for line in lines)
    )


def old_rate(bench: Bench, examples: list[Example]) -> float:
    """Real tokens a second of one step of the old recipe, after another step."""
    prefix = old_recipe.PrefixEncoder(config_of(bench.shape), max(4, bench.length // 16), projection=False)
    witness = old_recipe.ChatGLM(bench.folder, prefix, device=bench.device, kind=bench.dtype)
    samples = [old_recipe.Sample(each.input_ids, each.labels) for each in examples[:16]]
    for _ in range(2):
        _wait()
        began = time.monotonic()
        old_recipe.train(witness, samples, old_recipe.Recipe(1, bench.length))
        _wait()
    return sum(len(each.input_ids) for each in samples) / (time.monotonic() - began)


def _settings(bench: Bench, method: str, **changes: Any) -> Settings:
    given = {"prefix_length": max(4, bench.length // 16), "max_length": bench.length, "save_every": 1_000_000} | changes
    return Settings(method=method, **given)


def _train(
    bench: Bench, settings: Settings, examples: list[Example], prompts: Prompts | None = None
) -> list[dict[str, Any]]:
    bits = int(settings.base_bits)
    glm: GlmForCausalLM = load_model(bench.folder, dtype=bench.dtype, device=bench.device, bits=bits)
    METHODS[settings.method].attach(glm, settings, None)
    glm.train()
    checkpoint_layers(glm, settings)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        trainer = trainer_for(glm, settings, examples, Path(folder), prompts)
        trainer.save_checkpoint = lambda: None
        if bench.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        trainer.fit()
        lines = (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _peak(bench: Bench, method: str, changes: dict[str, Any]) -> int:
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(1, bench.shape.vocabulary, (bench.length,), generator=draw).tolist()
    asked = bench.length - round(bench.length * 0.16)
    one = Example(ids, [IGNORED] * asked + ids[asked:])
    _train(bench, _settings(bench, method, steps=2, accumulation=2, pack_tokens=bench.length, **changes), [one] * 4)
    return int(torch.cuda.max_memory_allocated())


def _prompt(bench: Bench, length: int) -> list[int]:
    draw = torch.Generator().manual_seed(length)
    return torch.randint(3, bench.shape.vocabulary, (length,), generator=draw).tolist()


def _rate(engine: Engine, bench: Bench, length: int) -> float:
    """Tokens a second from the second token on; the first answer finds the kernels."""
    best = 0.0
    for _ in range(3):
        answer = engine.generate(_prompt(bench, length), Sampling(temperature=0.0, max_tokens=bench.tokens))
        next(answer)
        began = time.monotonic()
        count = sum(1 for _ in answer)
        best = max(best, count / (time.monotonic() - began))
    return best


def _first_tokens(engine: Engine, bench: Bench) -> tuple[float, float]:
    """Seconds to the first token of a prompt, and of one that goes on from it by a sixteenth."""
    prompt = _prompt(bench, bench.length // 2)
    longer = prompt + _prompt(bench, bench.length // 16)

    def first(ids: list[int]) -> float:
        began = time.monotonic()
        next(iter(engine.generate(ids, Sampling(temperature=0.0, max_tokens=1))))
        return time.monotonic() - began

    seen = []
    for _ in range(4):
        engine.prefix_cache.clear()
        seen.append((first(prompt), first(longer)))
    return min(each[0] for each in seen), min(each[1] for each in seen)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _empty() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
