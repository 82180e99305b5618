"""What one tick of the open page costs with many runs and conversations: python -m tests.bench.page

CPU time of a refresh in which nothing happened, in milliseconds: the median of seven, a second apart, after three; of
all four steps, as after a click, of each step as it is open, and of an open run. Each home has its own process.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

STEPS = ("", "doctor", "model", "finetune", "chat")
HOMES = ((0, 0), (300, 0), (1000, 0), (0, 200), (1000, 200))


def main() -> None:
    """Print a line for each home."""
    print(f"{'runs':>6}{'chats':>7}", *(f"{name or 'all':>9}" for name in (*STEPS, "open run")))
    for runs, chats in HOMES:
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {"GLMSTUDIO_HOME": folder}
            command = [sys.executable, "-m", "tests.bench.page", str(runs), str(chats)]
            told = json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
        print(f"{runs:>6}{chats:>7}", *(f"{time:>9.1f}" for time in told.values()), flush=True)


def measure(runs: int, chats: int) -> None:
    """Fill the home, build the page, and print the two times as JSON."""
    from glmstudio.ui.framework.live import PageRenderer
    from glmstudio.ui.shell.page import build_page
    from glmstudio.ui.state.page_state import PageState, RunsState

    fill(runs, chats)
    kept: list[PageRenderer] = []
    real = PageRenderer.connect
    PageRenderer.connect = lambda self, *given: (kept.append(self), real(self, *given))[1]  # type: ignore[method-assign,assignment]
    build_page()
    opened = PageState(runs=RunsState("run-0"))
    times = {step: tick(kept[0], PageState(runs=RunsState("")), step) for step in STEPS}
    print(json.dumps(times | {"open run": tick(kept[0], opened, "finetune")}))


def tick(page: object, state: object, step: str) -> float:
    """Milliseconds of CPU time for a refresh a second after the last one; of all four steps where none is named."""
    seen: object = {}
    times = []
    for _ in range(10):
        time.sleep(1)
        began = time.process_time()
        seen, *_ = page._refresh("en", state, seen, step)  # type: ignore[attr-defined]
        times.append(time.process_time() - began)
    return statistics.median(times[3:]) * 1000


def fill(runs: int, chats: int) -> None:
    """So many finished runs with results and curves, and so many conversations."""
    from glmstudio.chat import history
    from glmstudio.chat.conversation import Conversation
    from glmstudio.files import write_json
    from glmstudio.paths import paths

    for number in range(runs):
        folder = paths().runs / f"run-{number}"
        settings = {"model": "demo", "method": "lora", "steps": 100, "data": "facts.jsonl", "device": "cpu"}
        about = {"preset": "demo/lora", "settings": settings, "created": 1e9 + number, "run_id": f"{number:032x}"}
        write_json(folder / "run.json", about | {"boot": "b", "port": 29500, "device": "cpu"})
        write_json(folder / "status.json", {"state": "finished", "ended": 1e9 + number + 60})
        write_json(folder / "progress.json", {"phase": "done"})
        write_json(folder / "records.json", {"used": 20, "trained": 20, "with_tools": 0})
        write_json(folder / "result" / "adapter.json", {"base": "demo"})
        rows = (json.dumps({"step": step, "loss": 5 / step, "seconds": step / 2}) for step in range(1, 101))
        (folder / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    for number in range(chats):
        dialogue = Conversation()
        for turn in range(5):
            dialogue.ask(f"question {number} {turn}", dialogue.tip)
        history.write(dialogue)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(int(sys.argv[1]), int(sys.argv[2]))
    else:
        main()
