"""How soon the doctor answers: the first result, and the whole report, without and with what PyTorch said the last time.

    python -m tests.bench.doctor

Each figure is the best of five new processes, from their start; it is the wait that a person has.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 5
_CODE = """
import json, sys, time
from glmstudio.doctor import diagnose
begun = float(sys.argv[1])
first = []
report = diagnose(tell=lambda results: first.append(time.time() - begun))
print(json.dumps({"first": first[0], "all": time.time() - begun, "checks": len(report.results),
                  "torch": "torch" in sys.modules}))
"""


def main() -> None:
    """Print the figures as one line of JSON."""
    figures: dict[str, float] = {}
    torch_seen = False
    for name in ("cold", "warm"):
        rows = [_measure(fresh=name == "cold") for _ in range(ROUNDS)]
        torch_seen = torch_seen or any(row["torch"] for row in rows)
        figures |= {f"{name}_{key}_s": round(min(row[key] for row in rows), 2) for key in ("first", "all")}
    print(json.dumps(figures | {"torch_in_this_process": torch_seen, "results": rows[0]["checks"]}))


_WARM = tempfile.mkdtemp(prefix="glmstudio-bench-")


def _measure(*, fresh: bool) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "GLMSTUDIO_HOME": home if fresh else _WARM, "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", _CODE, str(time.time())],
            cwd=Path(__file__).parents[2],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
    return dict(json.loads(done.stdout))


if __name__ == "__main__":
    main()
