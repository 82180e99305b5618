"""What the demo model learns of facts that it never saw, and what it keeps: `python -m tests.bench.facts [--rows …]`.

Twenty generated facts in each language are taught by `demo/facts`; then twenty in both languages by every method, with
and without rehearsal, in one run. Prints the tables of `docs/benchmarks.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from glmstudio.config.presets import load_preset
from glmstudio.demo.world import FACTS, World
from glmstudio.knowledge.result import COUNTED, FactsScore
from glmstudio.knowledge.scoring import Scoring
from glmstudio.rundir.run import Run, wait_for_end
from glmstudio.runs.start import start_run

LORA: dict[str, Any] = {"method": "lora", "lora_rank": 32, "lora_targets": "all", "learning_rate": 2e-3}
PTUNING: dict[str, Any] = {"method": "ptuning_v2", "prefix_std": 0.5, "learning_rate": 2e-2}
NONE: dict[str, Any] = {"rehearsal": 0.0, "steps": 800, "save_every": 100}  # as many steps as with rehearsal
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "full, English": ("en", {}),
    "full, Chinese": ("zh", {}),
    "full": ("both", {}),
    "full, no rehearsal": ("both", NONE),
    "LoRA r32": ("both", LORA),
    "LoRA r32, no rehearsal": ("both", LORA | NONE),
    "P-Tuning v2": ("both", PTUNING),
    "P-Tuning v2, no rehearsal": ("both", PTUNING | NONE),
}


def main() -> None:
    """Teach, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    rows = parser.parse_args().rows
    print(
        f"| {os.cpu_count()} cores | training | score | {' | '.join(COUNTED)} |\n|---|---|---|{'---|' * len(COUNTED)}"
    )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:  # a supervisor may still write
        os.environ["GLMSTUDIO_HOME"] = home
        for name in rows:
            langs, changes = ROWS[name]
            _row(name, _facts(Path(home), langs), changes)


def _facts(folder: Path, langs: str) -> Path:
    """Twenty facts that no demo model was trained on."""
    world = World(seed=101 + len(langs))
    spoken = ("en", "zh") if langs == "both" else (langs,)
    records = [world.fact(spoken[n % len(spoken)], FACTS[n // len(spoken) % len(FACTS)]) for n in range(20)]
    file = folder / f"facts-{langs}.jsonl"
    file.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records), encoding="utf-8")
    return file


def _row(name: str, file: Path, changes: dict[str, Any]) -> None:
    began = time.monotonic()
    run = start_run(load_preset("demo/facts"), data=file, name=name.replace(",", ""), changes=changes)
    state = wait_for_end(run, seconds=3600)
    trained = time.monotonic() - began
    if run.result is None:
        raise SystemExit(f"{name}: {state.state}: {state.problem}")
    began = time.monotonic()
    score = _score(run, file)
    asked = time.monotonic() - began
    counts = [score.counts[line] for line in COUNTED]
    cells = ["–" if each is None else f"{each.base} → {each.tuned} of {each.of}" for each in counts]
    print(f"| {name}, {state.step} steps | {trained:.0f} s | {asked:.0f} s | {' | '.join(cells)} |", flush=True)


def _score(run: Run, file: Path) -> FactsScore:
    """The score that the run's supervisor has begun, waited for."""
    scoring = Scoring.of(file, run.model, run.name)
    while not (look := scoring.asking.look()).whole and not look.problem:
        time.sleep(0.2)
    return scoring.run(lambda _: None)


if __name__ == "__main__":
    main()
