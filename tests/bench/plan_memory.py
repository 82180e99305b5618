"""The memory plan against real training steps: `python -m tests.bench.plan_memory`.

Each setting runs in a fresh process: the model, the method and the trainer of a run, on a random model and
conversations of one length; two steps of two batches. Measured is the growth of the peak resident memory over what was
resident before the model was loaded and after a tiny run had loaded every library. glibc is told to give every block
above 64 KB back at once (`MALLOC_MMAP_THRESHOLD_`), else its own caches are measured; the last column is without that.

On a machine with a CUDA card it measures ChatGLM3-6B's shape with random bfloat16 weights there
(`torch.cuda.max_memory_allocated`) instead.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from glmstudio.config.settings import Settings
from glmstudio.data.protocol.prompt import IGNORED, Example
from glmstudio.glm.weights.base_weights import native_model
from glmstudio.glm.weights.model_config import native_config
from glmstudio.planning.memory import Computing, Need, WorstBatch, need
from glmstudio.planning.model_shape import shape_of
from glmstudio.train.methods import METHODS, checkpoint_layers
from tests.published import Shape, config_of, write_model
from tests.trainer_helpers import prepared, trainer_for

WIDE = Shape(vocabulary=4096, hidden=512, ffn=1712, layers=6, heads=8, groups=2, width=64)
SIX_BILLION = Shape(vocabulary=65024, hidden=4096, ffn=13696, layers=28, heads=32, groups=2, width=128)
QUIET = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


@dataclass(frozen=True)
class Case:
    """One setting to measure: `batch` conversations of `length` tokens, of which a share is learned."""

    length: int
    batch: int = 1
    settings: dict[str, Any] = field(default_factory=dict)
    learned: float = 0.16

    def made(self) -> Settings:
        """The run's settings; two batches make a step, as gradients of the first are there in the second."""
        given = {"accumulation": 2, "prefix_length": 64, "pack_tokens": self.batch * self.length} | self.settings
        return Settings(
            model="m", batch_size=self.batch, max_length=self.length, steps=2, dtype="float32", save_every=1000, **given
        )

    @property
    def rows(self) -> int:
        """The scored positions of the batch."""
        return self.batch * round(self.length * self.learned)


OFF, ON = {"gradient_checkpointing": "off"}, {"gradient_checkpointing": "on"}
CASES = [
    Case(512, settings=OFF),
    Case(1024, settings=OFF),
    Case(2048, settings=OFF),
    Case(512, 4, OFF),
    Case(1024, 2, ON),
    Case(2048, 2, ON),
    Case(1024, 1, OFF | {"prefix_projection": True, "prefix_length": 128}),
    Case(1024, 2, ON | {"prefix_projection": True, "prefix_dropout": 0.0}),
    Case(1024, 1, OFF, learned=0.9),
    Case(512, 4, OFF | {"packing": False}),
    Case(2048, 2, ON | {"checkpoint_layers": 3}),
    Case(1024, settings=OFF | {"method": "lora"}),
    Case(512, 4, ON | {"method": "lora"}),
    Case(1024, settings=OFF | {"method": "lora", "lora_targets": "all", "lora_rank": 32}),
    Case(1024, settings=OFF | {"method": "lora", "lora_targets": "all", "lora_dropout": 0.0}),
    Case(1024, settings=OFF | {"method": "full"}),
    Case(512, 4, ON | {"method": "full"}),
    Case(1024, 1, OFF | {"method": "full", "accumulation": 1}),
]
ON_A_CARD = [
    Case(2048, settings=OFF | {"prefix_length": 128}),
    Case(2048, settings=ON | {"prefix_length": 128}),
    Case(2048, settings=OFF | {"method": "lora"}),
    Case(2048, settings=ON | {"method": "lora"}),
]


def main() -> None:
    """Print the table of `docs/benchmarks.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", help="measure this setting here, and print bytes")
    parser.add_argument("--quick", action="store_true", help="leave the last column out")
    options = parser.parse_args()
    if options.child:
        print(json.dumps(_here(Case(**json.loads(options.child)))))
        return
    card = torch.cuda.is_available()
    print("| setting | planned MB | measured MB | planned / measured | glibc's own way |\n|---|---|---|---|---|")
    for case in ON_A_CARD if card else CASES:
        wanted, got = planned(case, card=card), measure(case)
        own = "" if card or options.quick else f"{measure(case, quiet=False) / 1e6:,.0f}"
        whole = wanted.total - wanted.fixed
        print(f"| {named(case)} | {whole / 1e6:,.0f} | {got / 1e6:,.0f} | {whole / got:.2f} | {own} |", flush=True)


def planned(case: Case, *, card: bool = False) -> Need:
    """What the plan says."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config_of(SIX_BILLION if card else WIDE)))
        shape = shape_of(Path(folder))
    place, dtype = ("cuda", "bfloat16") if card else ("cpu", "float32")
    largest = WorstBatch(case.batch * case.length, case.rows, case.batch)
    return need(shape, case.made(), largest, Computing(place, dtype))


def measure(case: Case, *, quiet: bool = True) -> int:
    """Bytes that a child needed above what it had before the model."""
    given = {"length": case.length, "batch": case.batch, "settings": case.settings, "learned": case.learned}
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.plan_memory", "--child", json.dumps(given)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
        env={**os.environ, **(QUIET if quiet else {})},
    )  # fmt: skip
    return int(done.stdout.splitlines()[-1])


def named(case: Case) -> str:
    """The setting in a line."""
    settings = case.made()
    words = [settings.method, f"{case.batch} x {case.length}"]
    if settings.method == "ptuning_v2":
        words.append(f"prefix {settings.prefix_length}" + (" projected" if settings.prefix_projection else ""))
    if settings.method == "lora":
        words.append(f"{settings.lora_targets} r{settings.lora_rank} dropout {settings.lora_dropout}")
    if settings.accumulation == 1:
        words.append("no accumulation")
    if case.learned > 0.5:
        words.append("nearly all learned")
    if not settings.packing:
        words.append("padded")
    if settings.checkpoint_layers:
        words.append(f"{settings.checkpoint_layers} layers")
    return ", ".join([*words, f"checkpointing {settings.gradient_checkpointing}"])


def _here(case: Case) -> int:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(sys.stderr):
        folder = Path(name)
        if torch.cuda.is_available():
            return _on_the_card(case, folder)
        tiny = Shape(vocabulary=64, hidden=32, ffn=64, layers=1, heads=2, groups=1, width=16)
        for part, shape in (("tiny", tiny), ("wide", WIDE)):
            write_model(folder / part / "model", shape)
        _train(Case(8, 1, case.settings | {"prefix_length": 4}), folder / "tiny", 64)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts from what is resident now
        before = _resident("VmRSS")
        _train(case, folder / "wide", WIDE.vocabulary)
        return _resident("VmHWM") - before


def _train(case: Case, folder: Path, vocabulary: int) -> None:
    settings = case.made()
    glm = prepared(folder / "model", settings)
    trainer = trainer_for(glm, settings, _examples(case, vocabulary), folder)
    trainer.save_checkpoint = lambda: None  # what a step needs is measured, not what a save needs
    trainer.fit()


def _on_the_card(case: Case, folder: Path) -> int:
    """Peak of PyTorch's own count, without the context (`Need.fixed`)."""
    settings = case.made()
    with torch.device("meta"):
        glm = native_model(native_config(config_of(SIX_BILLION), "6B")).to(torch.bfloat16)
    glm = glm.to_empty(device="cuda")
    with torch.device("cuda"), torch.no_grad():
        glm.model.rotary_emb = type(glm.model.rotary_emb)(config=glm.config)
        for each in glm.parameters():
            each.fill_(1.0) if each.dim() == 1 else each.normal_(std=0.02)
    METHODS[settings.method].attach(glm, settings, None)
    glm.train()
    checkpoint_layers(glm, settings)
    trainer = trainer_for(glm, settings, _examples(case, SIX_BILLION.vocabulary), folder)
    trainer.save_checkpoint = lambda: None
    torch.cuda.reset_peak_memory_stats()
    trainer.fit()
    return int(torch.cuda.max_memory_allocated())


def _examples(case: Case, vocabulary: int) -> list[Example]:
    random = torch.Generator().manual_seed(1)
    made = []
    for _ in range(4 * case.batch):
        ids = torch.randint(1, vocabulary, (case.length,), generator=random).tolist()
        asked = case.length - case.rows // case.batch
        made.append(Example(ids, [IGNORED] * asked + ids[asked:]))
    return made


def _resident(field_name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field_name))


if __name__ == "__main__":
    main()
