"""How soon the doctor answers: the first result, and the whole report, without and with what PyTorch said the last time,
and how long the check of the runs takes where there are a thousand.

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

from glmstudio.files import write_json

ROUNDS = 5
_CODE = """
import json, sys, time
from glmstudio.doctor import diagnose
begun, only = float(sys.argv[1]), json.loads(sys.argv[2])
first = []
report = diagnose(only=only, tell=lambda results: first.append(time.time() - begun))
print(json.dumps({"first": first[0], "all": time.time() - begun, "checks": len(report.results),
                  "took": report.seconds, "torch": "torch" in sys.modules}))
"""


def main() -> None:
    """Print the figures as one line of JSON."""
    figures: dict[str, float] = {}
    torch_seen = False
    with tempfile.TemporaryDirectory() as home:
        _measure(home)
        warm = [_measure(home) for _ in range(ROUNDS)]
    for name, rows in {"cold": [_cold() for _ in range(ROUNDS)], "warm": warm}.items():
        torch_seen = torch_seen or any(row["torch"] for row in rows)
        figures |= {f"{name}_{key}_s": round(min(row[key] for row in rows), 2) for key in ("first", "all")}
    with tempfile.TemporaryDirectory() as home:
        _thousand_runs(Path(home))
        figures["thousand_runs_s"] = round(min(_measure(home, ["run.dirs"])["took"] for _ in range(ROUNDS)), 2)
    print(json.dumps(figures | {"torch_in_this_process": torch_seen, "results": warm[0]["checks"]}))


def _cold() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as home:
        return _measure(home)


def _measure(home: str, only: list[str] | None = None) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", _CODE, str(time.time()), json.dumps(only)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "GLMSTUDIO_HOME": home, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


def _thousand_runs(home: Path) -> None:
    for number in range(1000):
        folder = home / "runs" / f"run-{number}"
        write_json(folder / "run.json", {"run_id": str(number), "created": float(number), "settings": {}})
        write_json(folder / "status.json", {"state": "finished"})


if __name__ == "__main__":
    main()
