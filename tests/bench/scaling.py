"""What more cards and machines bring: measured on two small processes, and on paper up to 64 cards.

    .venv/bin/python -m tests.bench.scaling

Measured: tokens for each second of one process with one thread, and of two such processes, on the same steps, in turn.
On paper: the time of a step is its arithmetic on one card plus what must be sent, by the rule of a ring: every byte
passes each link 2 (N - 1) / N times where it is added up (DDP), and 3 (N - 1) / N times where weights are collected
twice and gradients once (FSDP, ZeRO-3). Nothing overlaps, so it is a lower bound.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path

from glmstudio.config.settings import Settings
from glmstudio.planning.memory import trained
from glmstudio.planning.model_shape import ModelShape

SIX_BILLION = ModelShape(28, 4096, 13696, 32, 2, 128, 65024)
ROUNDS, STEPS = 3, 24
FLOPS = 312e12 * 0.4  # an A100's peak in bfloat16 (NVIDIA's data sheet), and a usual share of it
LINKS = {"NVLink, 300 GB/s": 300e9, "PCIe 4, 25 GB/s": 25e9, "Ethernet, 10 Gbit/s": 1.25e9}
LATENCY = 20e-6  # seconds for each of the ring's 2 (N - 1) hops
CARDS = (1, 2, 4, 8, 16, 32, 64)


def measure(method: str) -> tuple[list[float], list[float]]:
    """Tokens a second of one process, and of two, of each round."""
    from tests.run_helpers import begin, ended

    speeds: dict[int, list[float]] = {1: [], 2: []}
    for number in range(ROUNDS):
        for processes, found in speeds.items():
            run = begin(
                Path(os.environ["GLMSTUDIO_HOME"]), f"{method}-{processes}-{number}", processes=processes, method=method,
                steps=STEPS, batch_size=8, accumulation=4, save_every=10_000, learning_rate=1e-4, prefix_length=64,
                max_length=512,
            )  # fmt: skip
            assert ended(run, 600) == ("finished", None), run.log()[0][-2000:]
            rows = [row for row in run.metrics()[0] if "tokens" in row][2:]
            found.append(
                sum(row["tokens"] for row in rows) / sum(row["tokens"] / row["tokens_per_second"] for row in rows)
            )
    return speeds[1], speeds[2]


def step_seconds(cards: int, *, sent: float, tokens: int, link: float, divided: bool, passes: int = 6) -> float:
    """A step of `tokens` in all on so many cards; `sent` bytes of gradients (or weights) go around."""
    compute = passes * SIX_BILLION.parameters * tokens / FLOPS / cards
    rounds = (3 if divided else 2) * (cards - 1) / cards
    return compute + rounds * sent / link + 2 * (cards - 1) * LATENCY


def paper() -> list[str]:
    """A table for each way: the speed-up over one card at 64 x 2,048 tokens a step."""
    tokens = 64 * 2048
    ways = {
        "LoRA, DDP": (4.0 * trained(SIX_BILLION, Settings(method="lora")), False, 4),
        "P-Tuning v2, DDP": (4.0 * trained(SIX_BILLION, Settings(method="ptuning_v2")), False, 4),
        "full, FSDP2 or ZeRO-3": (2.0 * SIX_BILLION.parameters, True, 8),
    }
    lines = ["| way | link | " + " | ".join(str(cards) for cards in CARDS) + " |", "|---|---|" + "--:|" * len(CARDS)]
    for way, (sent, divided, passes) in ways.items():
        for name, link in LINKS.items():
            times = [
                step_seconds(n, sent=sent, tokens=tokens, link=link, divided=divided, passes=passes) for n in CARDS
            ]
            lines.append(f"| {way} | {name} | " + " | ".join(f"{times[0] / each:.1f}" for each in times) + " |")
    return lines


def main() -> None:
    """Print both."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as home:
        os.environ["GLMSTUDIO_HOME"] = home
        print(
            "| method | numbers that learn | 1 process, tokens/s | 2 processes, tokens/s | gain |\n|---|--:|--:|--:|--:|"
        )
        for method in ("ptuning_v2", "lora", "full"):
            one, two = measure(method)
            gain = statistics.median(b / a for a, b in zip(one, two, strict=True))
            spread = " to ".join(
                f"{each:.2f}"
                for each in sorted(
                    (
                        min(b / a for a, b in zip(one, two, strict=True)),
                        max(b / a for a, b in zip(one, two, strict=True)),
                    )
                )
            )
            print(
                f"| {method} | {_learned(method):,} | {statistics.median(one):,.0f} | {statistics.median(two):,.0f} | {gain:.2f} ({spread}) |"
            )
    print("\n".join(["", *paper()]))


def _learned(method: str) -> int:
    from glmstudio.paths import DEMO
    from glmstudio.planning.model_shape import shape_of

    return trained(shape_of(DEMO / "model"), Settings(method=method, prefix_length=64))


if __name__ == "__main__":
    main()
