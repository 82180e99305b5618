"""What it costs to look at a run: a poll after 100,000 steps against one after 1,000; and what a checkpoint holds.

`python -m tests.bench.poll`. CPU time, A and B in turn, best of seven.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

from glmstudio.files import write_json
from glmstudio.rundir.run import Run, find_run, wait_for_end

ROUNDS, POLLS = 7, 200


def main() -> None:
    """Print both."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["GLMSTUDIO_HOME"] = home
        runs = {steps: _run(Path(home), steps) for steps in (1_000, 100_000)}
        best = dict.fromkeys(runs, 9e9)
        for _ in range(ROUNDS):
            for steps, run in runs.items():
                best[steps] = min(best[steps], _polls(run))
        for steps, seconds in best.items():
            print(f"a poll after {steps:,} steps: {seconds / POLLS * 1e6:.0f} us of CPU")
        print(f"ratio: {best[100_000] / best[1_000]:.2f} (goal: at most 1.5)")
        _checkpoint()


def _run(home: Path, steps: int) -> Run:
    folder = home / "runs" / f"steps-{steps}"
    write_json(folder / "run.json", {"run_id": "x", "settings": {"steps": steps}, "created": 1.0})
    write_json(folder / "status.json", {"state": "finished", "ended": 2.0})
    row = {"loss": 1.0, "learning_rate": 0.1, "grad_norm": 0.5, "tokens": 1000, "tokens_per_second": 9.0, "memory": 1}
    lines = (json.dumps({"step": step, "seconds": step} | row) for step in range(1, steps + 1))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return find_run(folder.name)


def _polls(run: Run) -> float:
    _, offset = run.metrics()
    began = time.process_time()
    for _ in range(POLLS):
        run.metrics(offset)
        run.read_state()
    return time.process_time() - began


def _checkpoint() -> None:
    from glmstudio.config.presets import load_preset
    from glmstudio.runs.start import start_run

    run = start_run(load_preset("demo/ptuning_v2"), name="small", changes={"steps": 2, "batch_size": 2})
    wait_for_end(run, seconds=120)
    folder = run.path / "checkpoints/checkpoint-2"
    held = {file.name: file.stat().st_size for file in folder.iterdir()}
    numbers = 128 * 768 * 4
    print(
        f"prefix.safetensors: {held['prefix.safetensors'] / numbers:.3f} of the prefix's numbers (goal: at most 1.02)"
    )
    print(
        f"optimizer.pt: {held['optimizer.pt'] / numbers:.2f} (two numbers for each); everything: {sum(held.values()):,} bytes"
    )


if __name__ == "__main__":
    main()
