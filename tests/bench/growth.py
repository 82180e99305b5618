"""How what training costs grows: with the number of records, and with their length. `python -m tests.bench.growth`.

Real tokens per CPU-second of the trainer on one thread, all sides in turn, the best of five. Records come from a token
store as in a run; preparing them again, with the tokens cached, is timed, too. Lengths are compared after the products
of queries, keys and values, which alone may grow with the square, are taken off: they are timed by themselves.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional

from glmstudio.config.settings import Settings
from glmstudio.data.protocol.prompt import IGNORED, Example
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.data.store import Store, prepare
from glmstudio.models.library import Model
from glmstudio.train.batches import Examples
from glmstudio.train.distributed.context import DistributedContext
from glmstudio.train.run_reporter import RunReporter
from glmstudio.train.strategies.base import ShardingStrategy
from glmstudio.train.trainer import Trainer, TrainingJob
from tests.adapters import BASE
from tests.bench.chat_cache import machine
from tests.bench.data_check import write
from tests.published import Shape, write_model
from tests.trainer_helpers import Listed, prepared

ROUNDS, STEPS, TOKENS = 5, 3, 8192
RECORDS = (1_000, 100_000)
LENGTHS = (128, 256, 512, 1024, 2048)


def main() -> None:
    """Print both tables and the machine."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["GLMSTUDIO_HOME"] = str(folder / "home")  # where tokens are cached
        shape = Shape(vocabulary=Tokenizer(BASE).size)
        write_model(folder / "model", shape)
        _by_records(folder)
        _by_length(folder, shape)
    print(f"\n{machine()}, one thread, PyTorch {torch.__version__}")


def _by_records(folder: Path) -> None:
    """Also seconds of CPU time to tokenise, and to open again what is cached."""
    stores: dict[int, Store] = {}
    print("| records | tokenised, tokens per CPU-second | opened again / tokenised | trained |\n|---|---|---|---|")
    told = {}
    for count in RECORDS:
        source = folder / f"{count}.jsonl"
        write(source, count)
        first, stores[count] = _seconds(source)
        again, _ = _seconds(source)
        told[count] = f"{stores[count].lengths.sum() / first:,.0f} | 1/{first / again:,.0f}"
    chosen = {count: store.select("fix", 2048) for count, store in stores.items()}
    examples = {count: Examples(stores[count], each.rows, each.ends) for count, each in chosen.items()}
    best = _best({count: partial(_rate, folder, each) for count, each in examples.items()})
    for count, rate in best.items():
        print(f"| {count:,} | {told[count]} | {rate:,.0f} = {rate / best[RECORDS[0]]:.2f} |", flush=True)


def _by_length(folder: Path, shape: Shape) -> None:
    sides = {length: partial(_rate, folder, _alike(length, shape)) for length in LENGTHS}
    best = _best(sides)
    attention = {length: min(_attention(length, shape) for _ in range(ROUNDS)) for length in LENGTHS}
    print("\n| tokens of a conversation | tokens per CPU-second | after attention | |\n|---|---|---|---|")
    rest = {length: 1 / (1 / rate - attention[length]) for length, rate in best.items()}
    for length, rate in best.items():
        print(f"| {length:,} | {rate:,.0f} | {rest[length]:,.0f} | {rest[length] / rest[LENGTHS[0]]:.2f} |", flush=True)


def _best(sides: dict[int, partial[float]]) -> dict[int, float]:
    rounds = [{name: side() for name, side in sides.items()} for _ in range(ROUNDS)]
    return {name: max(each[name] for each in rounds) for name in sides}


def _seconds(source: Path) -> tuple[float, Store]:
    began = time.process_time()
    store = prepare(source, BASE)
    return time.process_time() - began, store


def _alike(length: int, shape: Shape) -> Listed:
    draw = random.Random(length)
    made = []
    for _ in range(STEPS * TOKENS // length):
        ids = [draw.randrange(3, shape.vocabulary) for _ in range(length)]
        asked = length - round(length * 0.16)
        made.append(Example(ids, [IGNORED] * asked + ids[asked:]))
    return Listed(made)


def _rate(folder: Path, examples: Examples) -> float:
    """Real tokens per CPU-second of some steps of about 8,192 tokens, the start and the save included."""
    mean = float(examples.lengths.mean())
    settings = Settings(
        prefix_length=16, prefix_dropout=0.0, max_length=2048, accumulation=max(1, round(TOKENS / mean)), steps=STEPS,
        pack_tokens=2048, save_every=1000, dtype="float32",
    )  # fmt: skip
    glm = prepared(folder / "model", settings)
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        place, context = Path(name), DistributedContext()
        (place / "run.json").write_text("{}")
        base, strategy = Model("m", "m", place, "local", 0, None), ShardingStrategy(settings, context)
        reporter = RunReporter(place, settings.steps, context)
        job = TrainingJob(settings, base, place, examples, None, reporter, lambda step: None, context, strategy)
        trainer = Trainer(glm, job)
        began = time.process_time()
        trainer.fit()
        seconds = time.process_time() - began
        lines = (place / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return float(sum(json.loads(line)["tokens"] for line in lines) / seconds)


def _attention(length: int, shape: Shape) -> float:
    """CPU-seconds for each token of the products that attention is, over all layers, forward and backward."""
    count, seen = max(1, 2048 // length), length + 16
    query = torch.randn(1, shape.heads, seen, shape.width, requires_grad=True)
    pair = [torch.randn(1, shape.groups, seen, shape.width, requires_grad=True) for _ in range(2)]
    began = time.process_time()
    for _ in range(count):
        mixed = functional.scaled_dot_product_attention(query, *pair, is_causal=True, enable_gqa=True)
        mixed.sum().backward()
    return shape.layers * (time.process_time() - began) / (count * length)


if __name__ == "__main__":
    main()
