"""What the live look at the cards costs: CPU time of one refresh, and its share of a core at the page's pace.

    python -m tests.bench.doctor_gpu

Eight cards of a stand-in for NVIDIA's library, each with four programs; a real library adds its own time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from glmstudio.ui.state.checkup import CARDS_S
from tests.fakes.nvml import FakeDriver

ROUNDS = 200
_CODE = f"""
import json, time
from glmstudio.doctor import diagnose
diagnose(only=["gpu.driver"])
begun = time.process_time()
for _ in range({ROUNDS}):
    cards = diagnose(only=["gpu.driver"]).gpus
print(json.dumps({{"cards": len(cards), "ms": 1000 * (time.process_time() - begun) / {ROUNDS}}}))
"""


def main() -> None:
    """Print the figures as one line of JSON."""
    with tempfile.TemporaryDirectory() as folder:
        held = ",".join(f"{pid}:1000" for pid in (1, os.getpid(), os.getppid(), 2))
        lines = [f"NVIDIA A100|81920|{1000 * index}|50|40|1|1|{held}|cap=80" for index in range(8)]
        scene = FakeDriver(Path(folder)).environment("driver=550.54.14 cuda=12040 v2=1\n" + "\n".join(lines) + "\n")
        done = subprocess.run(
            [sys.executable, "-c", _CODE],
            cwd=Path(__file__).parents[2],
            env={**os.environ, **scene, "GLMSTUDIO_HOME": folder},
            capture_output=True,
            text=True,
            check=True,
        )
    figures = json.loads(done.stdout)
    share = figures["ms"] / 1000 / CARDS_S
    print(json.dumps({**figures, "ms": round(figures["ms"], 2), "share_of_a_core": round(share, 4)}))


if __name__ == "__main__":
    main()
