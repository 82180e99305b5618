"""Four widths of window: nothing scrolls sideways or is cut, and whatever is clicked is at least 24 pixels large."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glmstudio.rundir.run import find_run
from glmstudio.runs.stop import stop_run
from tests.e2e.browser import CHROMIUM, visit
from tests.e2e.studio import Studio
from tests.e2e.test_runs_page import a_run
from tests.marks import one_language
from tests.run_helpers import LONG, begin

pytest.importorskip("playwright")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")]
WIDTHS = (420, 900, 1280, 1920)
SCHEMES = {"en-US": "light", "zh-CN": "dark"}
# What is wrong on the page as it is drawn. A box or a radio button counts with its label; what is only there for screen
# readers is one pixel large.
WRONG = """() => {
  const wide = document.documentElement.clientWidth, wrong = [];
  const name = (each) => each.outerHTML.slice(0, 160);
  if (document.documentElement.scrollWidth > wide) wrong.push(`sideways: ${document.documentElement.scrollWidth}`);
  for (const each of document.querySelectorAll("button, a[href], input, select, textarea, summary, [role=button]")) {
    if (!each.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    const label = each.matches("[type=checkbox], [type=radio]") && each.closest("label");
    const { left, right, width, height } = (label || each).getBoundingClientRect();
    if (width < 2 || each.matches("p a, .gs-skip")) continue;
    if (width < 23.5 || height < 23.5) wrong.push(`small: ${Math.round(width)} x ${Math.round(height)} ${name(each)}`);
    if (right > wide + 1 || left < -1) wrong.push(`outside: ${name(each)}`);
  }
  for (const each of document.querySelectorAll(".gs-slot *")) {
    const { overflowX, overflowY } = getComputedStyle(each), { width } = each.getBoundingClientRect();
    if (width < 2 || !each.checkVisibility()) continue;
    const hides = (how) => ["hidden", "clip"].includes(how);
    if (hides(overflowX) && each.scrollWidth > each.clientWidth + 1) wrong.push(`cut: ${name(each)}`);
    if (hides(overflowY) && each.scrollHeight > each.clientHeight + 2) wrong.push(`cut below: ${name(each)}`);
  }
  for (const area of document.querySelectorAll("textarea")) {
    if (!area.checkVisibility() || area.value) continue;
    if (area.scrollHeight > area.clientHeight + 2) wrong.push(`cut placeholder: ${name(area)}`);
  }
  for (const chart of document.querySelectorAll("gs-chart")) {
    if (!chart.checkVisibility()) continue;
    const { left, right } = chart.getBoundingClientRect();
    for (const text of chart.shadowRoot.querySelectorAll("text")) {
      const at = text.getBoundingClientRect();
      if (at.left < left - 1 || at.right > right + 1) wrong.push(`cut in a chart: ${text.textContent}`);
    }
  }
  return [...new Set(wrong)];
}"""


@pytest.mark.parametrize("locale", one_language(SCHEMES, "en-US"))
def test_nothing_is_cut_or_too_small(running: Studio, chromium: Any, home: Path, tmp_path: Path, locale: str) -> None:
    for number, name in enumerate(("lamps-1", "lamps-2"), 1):
        a_run(home, name, 1000.0 * number, 100)
    begin(tmp_path, "live", **LONG)
    wrong: dict[tuple[str, int], list[str]] = {}
    try:
        with visit(chromium, locale=locale, scheme=SCHEMES[locale]) as visitor:
            page = visitor.open(running.url + "#finetune")
            page.wait_for_selector("#panel-run .gs-curve", timeout=120_000)
            page.click("#panel-run details[data-key=rate] > summary")
            for step in ("running", "finished", "compared", "doctor", "model", "chat"):
                show(page, step)
                for width in WIDTHS:
                    page.set_viewport_size({"width": width, "height": 800})
                    page.wait_for_timeout(300)
                    wrong[step, width] = page.evaluate(WRONG)
            assert visitor.complaints == []
    finally:
        list(stop_run(find_run("live"), now=True))
    assert {place: found for place, found in wrong.items() if found} == {}


def show(page: Any, step: str) -> None:
    """Bring it on the page: a step, or a state of the Fine-tune step."""
    if step == "finished":
        page.click("#panel-runs [data-act=open][data-run=lamps-1]")
        page.wait_for_selector("#panel-run [data-key=run-lamps-1]")
    elif step == "compared":
        for name in ("lamps-1", "lamps-2"):
            page.check(f"[data-tick='{name}']")
        page.click("#panel-runs [data-act=compare]")
        page.wait_for_selector("#panel-compare gs-chart")
    elif step != "running":
        page.click(f".gs-rail [data-go={step}]")
        page.wait_for_selector(f"#step-{step}", state="visible")
        page.wait_for_timeout(1000)
