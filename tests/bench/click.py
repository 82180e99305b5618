"""How soon a click shows on the page: `python -m tests.bench.click`.

Milliseconds from the click to the first frame in which the page shows what was chosen, in headless Chromium on this
machine: median and worst of ten presets.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.e2e.browser import browser, visit
from tests.e2e.studio import studio

ROUNDS = 10
_FEEDBACK = """([click, shows]) => new Promise((done) => {
  const began = performance.now();
  const look = () => document.querySelector(shows) ? done(performance.now() - began) : requestAnimationFrame(look);
  document.querySelector(click).click();
  requestAnimationFrame(look);
})"""
_PRESET = "[data-preset='demo/{name}']"


def main() -> None:
    """Print a line for each kind of click."""
    with (
        tempfile.TemporaryDirectory() as folder,
        studio(Path(folder) / "home") as ours,
        browser() as chromium,
        visit(chromium) as visitor,
    ):
        page = visitor.open(ours.url + "#finetune")
        page.wait_for_selector("#finetune-start:not([disabled])", timeout=60_000)
        presets = [_PRESET.format(name=name) for name in ("lora", "ptuning_v2")]
        tell("preset", page, [(each, f"{each}[aria-pressed=true]") for each in presets])


def tell(name: str, page: Any, ways: list[tuple[str, str]]) -> None:
    """Click there and back."""
    took = []
    for number in range(ROUNDS):
        took.append(once(page, *ways[number % len(ways)]))
        time.sleep(1)
    print(f"{name:14} {statistics.median(took):6.0f} ms, at most {max(took):.0f} ms", flush=True)


def once(page: Any, click: str, shows: str) -> float:
    """Milliseconds until `shows` is there."""
    return float(page.evaluate(_FEEDBACK, [click, shows]))


if __name__ == "__main__":
    main()
