"""How soon a click shows on the page: `python -m tests.bench.click`.

Milliseconds from the click to the first frame in which the page shows what was chosen, in headless Chromium on this
machine: median and worst of ten, and the CPU time of the studio for one of them.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.browser import browser, visit
from tests.e2e.studio import studio

ROUNDS = 10
DATASETS = ("lamps.csv", "boats.csv")
_FEEDBACK = """([click, shows]) => new Promise((done, fail) => {
  const began = performance.now();
  const look = () => {
    if (document.querySelector(shows)) done(performance.now() - began);
    else if (performance.now() - began > 20_000) fail(new Error("never shown: " + shows));
    else requestAnimationFrame(look);
  };
  document.querySelector(click).click();
  requestAnimationFrame(look);
})"""
_PRESET = "[data-preset='demo/{name}']"
_KIND = "#finetune-source input[value={name}]"
_USE = "[data-key='own-{name}'] [data-act=own-use]"
_USED = "[data-key='own-{name}'].gs-on"
_ROW = "#panel-runs [data-act=open][data-run=run-0]"
_START = "#finetune-start:not([disabled])"
_STARTING = "html.gs-is-starting .gs-starting"

Way = tuple[str, str]


def main() -> None:
    """Print a line for each kind of click."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        os.environ["GLMSTUDIO_HOME"] = str(home)
        from glmstudio.rundir.run import Run
        from glmstudio.runs.stop import stop_run
        from tests.bench.page import fill

        fill(20, 0)
        (home / "data").mkdir()
        for name in DATASETS:
            (home / "data" / name).write_text("question,answer\n" + "Who keeps the lamp?,Ada keeps it.\n" * 50)
        try:
            with studio(home) as ours, browser() as chromium, visit(chromium) as visitor:
                page = visitor.open(ours.url + "#finetune")
                page.wait_for_selector(_START, timeout=60_000)
                measure(page, psutil.Process(ours.process.pid))
        finally:
            for each in (home / "runs").iterdir():
                list(stop_run(Run(each.name, each), now=True))


def measure(page: Any, process: psutil.Process) -> None:
    """Click through what needs no process of its own, and at last on Start."""
    presets = [_PRESET.format(name=name) for name in ("lora", "ptuning_v2")]
    tell("preset", page, process, [(each, f"{each}[aria-pressed=true]") for each in presets])
    shows = {
        "file": "#panel-own .gs-drop",
        "facts": "#panel-facts .gs-teachfacts",
        "sample": "#step-finetune:not(:has(.gs-drop, .gs-teachfacts))",
    }
    tell("kind of data", page, process, [(_KIND.format(name=name), shown) for name, shown in shows.items()])
    page.click(_KIND.format(name="file"))
    page.wait_for_selector(_USE.format(name=DATASETS[0]))
    uses = [(_USE.format(name=name), _USED.format(name=name)) for name in DATASETS]
    tell("own dataset", page, process, uses)
    page.click(_KIND.format(name="sample"))
    page.wait_for_selector(_START, timeout=60_000)
    opened, closed = "#panel-run [data-key='run-run-0']", "#panel-run:not(:has([data-key='run-run-0']))"
    tell("open, close a run", page, process, [(_ROW, opened), (_ROW, closed)])
    tell("Start", page, process, [(_START, _STARTING)], settled=_START)


def tell(name: str, page: Any, process: psutil.Process, ways: list[Way], settled: str = "") -> None:
    """Click the ways in turn, each a second after the last one has settled."""
    took, cpu = [], []
    for number in range(ROUNDS):
        before = process.cpu_times()
        took.append(float(page.evaluate(_FEEDBACK, list(ways[number % len(ways)]))))
        after = process.cpu_times()
        cpu.append(1000 * (after.user + after.system - before.user - before.system))
        time.sleep(1)
        if settled:
            page.wait_for_function("!document.documentElement.classList.contains('gs-is-starting')", timeout=120_000)
            page.wait_for_selector(settled, timeout=120_000)
    of_studio = f"the studio's CPU time {statistics.median(cpu):.0f} ms"
    print(f"{name:18} {statistics.median(took):6.0f} ms, at most {max(took):.0f} ms; {of_studio}", flush=True)


if __name__ == "__main__":
    main()
