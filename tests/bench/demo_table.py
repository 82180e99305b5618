"""The demo model before and after tuning with the shipped preset: `python -m tests.bench.demo_table [--count 200]`.

Prints the table of `docs/benchmarks.md`: the share of right answers on held-out questions, and how long the tuning took.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

from glmstudio.config.presets import load_preset
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.demo.evaluate import evaluate
from glmstudio.glm.load import load_model
from glmstudio.models import find_model
from glmstudio.rundir.run import wait_for_end
from glmstudio.runs.start import start_run


def main() -> None:
    """Tune, measure both, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="questions of each kind and language")
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as home:
        os.environ["GLMSTUDIO_HOME"] = home
        folder = find_model("demo").path
        began = time.monotonic()
        run = start_run(load_preset("demo/ptuning_v2"), name="bench")
        state = wait_for_end(run, seconds=1800)
        seconds = time.monotonic() - began
        if run.result is None:
            raise SystemExit(f"{state.state}: {state.problem}")
        tokenizer = Tokenizer(folder)
        base = evaluate(load_model(folder, device="cpu"), tokenizer, count=count)
        tuned = evaluate(load_model(folder, run.result, device="cpu"), tokenizer, count=count)
    print(f"| held-out questions ({count} each) | base | tuned |\n|---|---|---|")
    for kind, share in base.items():
        print(f"| {kind} | {share:.1%} | {tuned[kind]:.1%} |")
    print(f"\n{state.steps} steps, {seconds:.0f} s from the command to the result on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
