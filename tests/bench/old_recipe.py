"""How much faster training is than the old recipe, and what it does not compute: `python -m tests.bench.old_recipe`.

Real tokens per CPU-second on one thread, ours (the trainer that a run uses) and the old recipe (`tests/old_recipe.py`)
in turn, the best of each; then what each processes per real token, and the peak memory of the loss. The models are
random, with the proportions of ChatGLM3-6B; conversations are as long as ToolAlpaca's, all divided by 8.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from glmstudio.config.settings import Settings
from glmstudio.data.protocol.prompt import IGNORED, Example
from glmstudio.train.batches import joined
from glmstudio.train.shared_prefix import Prompts
from glmstudio.train.trainer import Trainer
from tests import old_recipe
from tests.published import Shape, write_model
from tests.trainer_helpers import prepared, trainer_for

LENGTH, PREFIX = 256, 16  # 2,048 and 128 divided by 8
STEPS = 8  # of 16 conversations; what a training costs before its first step and after its last one weighs less then
HEADS = {"R1": 704, "R2": 16640}  # vocabularies: 3.5 % and 46 % of the multiplications are the head's
# Shares of the maximum length at the deciles 0, 1, 5, 9, 9.5 and 10 of ToolAlpaca's conversations, scaled to a mean of 0.51.
QUANTILES = ((0.0, 0.18), (0.1, 0.31), (0.5, 0.48), (0.9, 0.71), (0.95, 0.77), (1.0, 1.0))
LEARNED = 0.16  # share of the real tokens


def main() -> None:
    """Print the table of `docs/benchmarks.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loss-step", choices=["ours", "old"], help="measure the peak of one step in this process")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.loss_step:
        print(loss_step(options.loss_step))
        return
    for name, vocabulary in HEADS.items():
        with tempfile.TemporaryDirectory() as folder:
            speed(name, vocabulary, Path(folder), options.rounds)
    work()
    peaks = {side: _peak_of_a_child(side) for side in ("old", "ours")}
    ratio = peaks["ours"] / peaks["old"]
    print(f"R6 peak of the loss step: old {peaks['old'] / 1e6:.0f} MB, ours {peaks['ours'] / 1e6:.0f} MB: {ratio:.3f}")


def speed(name: str, vocabulary: int, folder: Path, rounds: int) -> None:
    """Print real tokens per CPU-second of both, and their ratio."""
    write_model(folder / "model", Shape(vocabulary=vocabulary))
    sides: dict[str, Callable[[], tuple[int, float]]] = {
        "old": lambda: old_speed(folder / "model", vocabulary),
        "ours": lambda: our_speed(folder / "model", vocabulary),
        "ours, packs of 4,096": lambda: our_speed(folder / "model", vocabulary, pack_tokens=4096),
        "ours, padded batches of 4": lambda: our_speed(folder / "model", vocabulary, packing=False, batch_size=4),
    }
    best = dict.fromkeys(sides, 0.0)
    for _ in range(rounds + 1):  # the first warms up, and counts only if it was the best
        for side, run in sides.items():
            tokens, seconds = run()
            best[side] = max(best[side], tokens / seconds)
    for side, rate in best.items():
        print(f"{name} {side:20} {rate:8.0f} real tokens per CPU-second   {rate / best['old']:.2f}")


def old_speed(model: Path, vocabulary: int) -> tuple[int, float]:
    """Real tokens and CPU-seconds of some steps of the old recipe: 16 padded samples in each."""
    set_seed(0)
    recipe = old_recipe.Recipe(STEPS, LENGTH)
    samples = [old_recipe.Sample(each.input_ids, each.labels) for each in conversations(vocabulary)]
    prefix = old_recipe.PrefixEncoder(json.loads((model / "config.json").read_text()), PREFIX, projection=False)
    witness = old_recipe.ChatGLM(model, prefix)
    began = time.process_time()
    old_recipe.train(witness, samples, recipe)
    return sum(len(sample.input_ids) for sample in samples), time.process_time() - began


def our_speed(model: Path, vocabulary: int, **changes: Any) -> tuple[int, float]:
    """The same of our trainer with its own overhead, from the first step to the saved checkpoint."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        trainer = our_trainer(model, Path(folder), conversations(vocabulary), **changes)
        began = time.process_time()
        trainer.fit()
        seconds = time.process_time() - began
        lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
    return sum(json.loads(line)["tokens"] for line in lines), seconds


def our_trainer(
    model: Path, folder: Path, examples: list[Example], prompts: Prompts | None = None, **changes: Any
) -> Trainer:
    """The trainer of a run, as `glmstudio.train.worker` makes it, with the packs that a plan takes on a CPU."""
    batch_size = changes.get("batch_size", 1)
    given: dict[str, Any] = {"pack_tokens": 1024, "accumulation": 16 // batch_size} | changes
    settings = Settings(
        prefix_length=PREFIX, max_length=LENGTH, steps=STEPS, save_every=1000, dtype="float32", seed=0, **given
    )
    return trainer_for(prepared(model, settings), settings, examples, folder, prompts)


def conversations(vocabulary: int, count: int = STEPS * 16) -> list[Example]:
    """By default as many as the steps take. Each length once, in an order that is always the same; the end of each is
    learned."""
    random = torch.Generator().manual_seed(1)
    shares = [_share((index + 0.5) / count) for index in range(count)]
    made = []
    for index in torch.randperm(count, generator=random).tolist():
        length = round(LENGTH * shares[index])
        ids = torch.randint(1, vocabulary, (length,), generator=random).tolist()
        asked = length - round(length * LEARNED)
        made.append(Example(ids, [IGNORED] * asked + ids[asked:]))
    return made


def work() -> None:
    """Print what each processes: rows of the layers per real token, rows of the head per learned token."""
    examples = conversations(HEADS["R1"])
    slots = len(examples) * LENGTH
    print(f"R4 processed / real: old {slots / sum(len(each.input_ids) for each in examples):.2f}")
    print(f"R5 rows of the head / learned: old {slots / sum(each.trained for each in examples):.1f}")
    for said, changes in (("packs", {}), ("padded batches of 4", {"packing": False, "batch_size": 4})):
        with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
            folder = Path(name)
            write_model(folder / "model", Shape(vocabulary=HEADS["R1"]))
            trainer = our_trainer(folder / "model", folder, examples, **changes)
            rows = {"processed": 0, "head": 0, "real": 0, "learned": 0}
            _count_rows(trainer.model, rows)
            trainer.fit()
        print(f"R4 processed / real: {said}: {rows['processed'] / rows['real']:.3f}")
        print(f"R5 rows of the head / learned: {said}: {rows['head'] / rows['learned']:.3f}")


def loss_step(side: str) -> int:
    """Growth of the peak resident memory, in bytes, over one forward and backward pass of 2,048 tokens of which 183 are
    learned, with ChatGLM3's vocabulary and a single layer of 64: nearly all of it is the loss's."""
    vocabulary, length, learned = 65024, 2048, 183
    ids = torch.randint(1, vocabulary, (1, length))
    labels = ids.clone()
    labels[:, :-learned] = IGNORED
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shape = Shape(vocabulary=vocabulary, hidden=64, ffn=214, layers=1, heads=2, groups=1, width=32)
        write_model(folder / "model", shape)
        if side == "ours":
            model = our_trainer(folder / "model", folder, conversations(vocabulary)).model.train()
            pack = joined([{"input_ids": ids[0], "labels": labels[0], "weight": 1 / learned}])
            del pack["tokens"]

            def step() -> None:
                model(**pack)["loss"].backward()
        else:
            prefix = old_recipe.PrefixEncoder(
                json.loads((folder / "model/config.json").read_text()), 16, projection=False
            )
            witness = old_recipe.ChatGLM(folder / "model", prefix).train()

            def step() -> None:
                witness.loss(ids, labels).backward()

        Path("/proc/self/clear_refs").write_text("5")  # the peak starts from what is resident now
        before = _resident("VmHWM")
        step()
        return _resident("VmHWM") - before


def _count_rows(scored: torch.nn.Module, rows: dict[str, int]) -> None:
    def given(_: object, __: object, batch: dict[str, torch.Tensor]) -> None:
        rows["real"] += int((batch["input_ids"] != old_recipe.PAD).sum())
        rows["learned"] += len(batch["labels"])

    def count(part: str) -> Callable[..., None]:
        def add(_: object, given: tuple[torch.Tensor], __: object) -> None:
            rows[part] += given[0].shape[:-1].numel()

        return add

    scored.register_forward_pre_hook(given, with_kwargs=True)
    scored.glm.model.norm.register_forward_hook(count("processed"))
    scored.glm.lm_head.register_forward_hook(count("head"))


def _peak_of_a_child(side: str) -> int:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.old_recipe", "--loss-step", side],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    return int(done.stdout.split()[-1])


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def _share(quantile: float) -> float:
    """The share of the maximum length at a quantile, straight between the known ones."""
    for (low, short), (high, long) in pairwise(QUANTILES):
        if quantile <= high:
            return short + (long - short) * (quantile - low) / (high - low)
    return 1.0


if __name__ == "__main__":
    main()
