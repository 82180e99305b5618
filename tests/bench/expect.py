"""What `launcher.py bench` expects, against the trainer of a run: `python -m tests.bench.expect`.

Random models that fit this machine: two layers of ChatGLM3-6B's width with its whole head, and six layers of 512. In
turn, in one process, because the machine has other work, too: a layer and the head as the command measures them, then
steps of the trainer. Printed: real tokens a second as expected and as trained, and the ratio of each round.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from glmstudio.config.devices import choose
from glmstudio.config.settings import Settings
from glmstudio.data.protocol.prompt import IGNORED, Example
from glmstudio.glm.load import best_dtype
from glmstudio.planning.expectation import LEARNED, METHODS, PROMPT, TOKENS, Candidate, expect
from glmstudio.planning.memory_fit import device_memory_of
from glmstudio.planning.model_shape import ModelShape
from glmstudio.train.measuring import layer_timing
from glmstudio.train.measuring.measure import free_memory, stream
from glmstudio.train.methods import METHODS as WAYS
from tests.trainer_helpers import trainer_for

MODELS = {
    "6 layers of 512, head of 4,096": (ModelShape(6, 512, 1712, 8, 2, 64, 4096), METHODS, 10, 3),
    "2 layers of 4,096, head of 65,024": (ModelShape(2, 4096, 13696, 32, 2, 128, 65024), METHODS[:2], 3, 2),
}


def main() -> None:
    """Print the table of `docs/bench.md`."""
    torch.set_num_threads(2)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(
        "| model | method | expected tokens/s | trained tokens/s | expected / trained, each round |\n|---|---|---|---|---|"
    )
    for name, (shape, methods, steps, rounds) in MODELS.items():
        speeds: dict[str, list[tuple[float, float]]] = {method: [] for method in methods}
        for _ in range(rounds):
            bench = layer_timing.LayerBench(device, best_dtype(device), free_memory(device), 1e12, 2.0)
            for method in methods:
                pair = expected(shape, method, bench), trained(shape, method, steps, bench)
                print(name, method, *pair, file=sys.stderr, flush=True)
                speeds[method].append(pair)
        for method, pairs in speeds.items():
            ours, real = (statistics.mean(column) for column in zip(*pairs, strict=True))
            each = ", ".join(f"{a / b:.2f}" for a, b in pairs)
            print(f"| {name} | {method} | {ours:,.0f} | {real:,.0f} | {each} |", flush=True)


def expected(shape: ModelShape, method: str, bench: layer_timing.LayerBench) -> float:
    """As the command says it, from one layer of the width."""
    part = layer_timing.choose_part(shape, TOKENS, bench, 1e9)
    model = layer_timing.random_model(part.shape, bench)
    each = part.factor / part.shape.layers
    found: dict[str, Any] = {"prompt": each * layer_timing.prompt_seconds(model, PROMPT, bench), "training": {}}
    for way in ("ptuning_v2", "lora"):
        if method in (way, "full"):
            taken = each * layer_timing.training_seconds(model, way, [TOKENS], bench)[0]
            found["training"] |= {way: {str(TOKENS): taken}}
    for way in ("ptuning_v2", "lora"):
        found["training"].setdefault(way, found["training"].get(method))
    found["head"] = layer_timing.head_seconds(shape, LEARNED, bench)
    table = {"stream": stream(bench), "place": 1.0, "dtype": str(bench.dtype)[6:], "models": {"m": found}}
    place = device_memory_of(choose("auto"), alone=True)
    ways = expect(Candidate("m", "m", False, 0, shape, "m"), table, place).tuning
    return next(way.tokens_per_second for way in ways if way.method == method)


def trained(shape: ModelShape, method: str, steps: int, bench: layer_timing.LayerBench) -> float:
    """Real tokens a second of the trainer, without its first step; of full fine-tuning, whose optimizer has most to do,
    in steps of 16 conversations as in a run."""
    steps, accumulation = (3, 16) if method == "full" else (steps, 1)
    settings = Settings(
        model="m", method=method, steps=steps, accumulation=accumulation, pack_tokens=TOKENS, save_every=1000,
        gradient_checkpointing="off",
    )  # fmt: skip
    glm = layer_timing.random_model(shape, bench)
    WAYS[method].attach(glm, settings, None)
    glm.train()
    ids = torch.randint(1, shape.vocab, (steps * accumulation, TOKENS)).tolist()
    examples = [Example(each, [IGNORED] * (TOKENS - LEARNED) + each[TOKENS - LEARNED :]) for each in ids]
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_for(glm, settings, examples, Path(folder))
        trainer.save_checkpoint = lambda: None
        trainer.fit()
        lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
    rows = [row for line in lines if "tokens_per_second" in (row := json.loads(line))][1:]
    return sum(row["tokens"] for row in rows) / sum(row["tokens"] / row["tokens_per_second"] for row in rows)


if __name__ == "__main__":
    main()
