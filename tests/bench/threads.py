"""Two trainings on the same cores, with threads that spin while they wait (OpenMP's usual way) and with ours, which sleep.

`python -m tests.bench.threads`. Seconds for each step of the demo model, alone and two at once, A and B in turn.
"""

from __future__ import annotations

import os
import tempfile
from unittest.mock import patch

from glmstudio.config.presets import load_preset
from glmstudio.rundir.run import Run, wait_for_end
from glmstudio.runs import start

STEPS, WARM = 40, 5


def main() -> None:
    """Print a table."""
    print(f"{'threads that wait':20}{'alone':>10}{'two at once':>14}")
    for policy in ("ACTIVE", "PASSIVE") * 2:
        alone, beside = _step_seconds(policy, 1), _step_seconds(policy, 2)
        print(f"{ {'ACTIVE': 'spin', 'PASSIVE': 'sleep'}[policy]:20}{alone:8.3f} s{beside:12.3f} s")


def _step_seconds(policy: str, count: int) -> float:
    variables = {"OMP_WAIT_POLICY": policy, "GLMSTUDIO_HOME": tempfile.mkdtemp()}
    with patch.dict(os.environ, variables), patch.object(start, "refuse_held"):
        runs = [_run(index) for index in range(count)]
        for run in runs:
            wait_for_end(run, seconds=600)
    spans = []
    for run in runs:
        times = [row["seconds"] for row in run.metrics()[0] if "loss" in row]
        spans.append((times[-1] - times[WARM]) / (len(times) - 1 - WARM))
    return sum(spans) / len(spans)


def _run(index: int) -> Run:
    changes = {"steps": STEPS, "save_every": 10_000}
    return start.start_run(load_preset("demo/ptuning_v2"), name=f"run-{index}", changes=changes)


if __name__ == "__main__":
    main()
