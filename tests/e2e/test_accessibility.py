"""axe-core on every step of the page, with all folds open, a run live, and in the dialogs: no violation of any impact; and
the main job by the keyboard alone."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest

from glmstudio.chat.model_server import ModelServer
from glmstudio.rundir.run import find_run
from glmstudio.runs.stop import stop_run
from tests.e2e.browser import CHROMIUM, visit
from tests.e2e.studio import Studio
from tests.e2e.test_runs_page import a_run
from tests.marks import rare
from tests.run_helpers import begin

pytest.importorskip("playwright")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")]
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
STEPS = ("doctor", "model", "finetune", "chat")


def violations(page: Any) -> list[str]:
    """What axe-core finds: the rule, and the elements that break it."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{each['id']} ({each['impact']}): {node['html'][:300]} | {node.get('failureSummary', '')[:300]}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


def open_folds(page: Any) -> None:
    """Open what is folded, as far as it can be seen, until nothing more comes to light."""
    for _ in range(4):
        opened = page.evaluate(
            "() => [...document.querySelectorAll('details:not([open])')].filter((each) => each.checkVisibility())"
            ".map((each) => { each.open = true; }).length"
        )
        if not opened:
            return
        page.wait_for_timeout(1500)  # a fold may ask the studio for what it shows


def asked_before(page: Any, run: str, act: str) -> list[str]:
    """What axe-core finds while the page asks whether to do that to a run; the answer is no."""
    if not page.locator(f"#panel-run [data-key=run-{run}]").count():
        page.click(f"#panel-runs [data-act=open][data-run={run}]")
        page.wait_for_selector(f"#panel-run [data-key=run-{run}]")
    open_folds(page)
    page.click(f"#panel-run [data-act={act}]")
    page.wait_for_selector("dialog.gs-dialog[open]")
    found = violations(page)
    page.click("dialog[open] .gs-look-plain")
    page.wait_for_selector("dialog[open]", state="hidden")
    return found


@pytest.mark.parametrize(
    ("locale", "scheme"), [("en-US", "light"), ("zh-CN", "dark"), rare("en-US", "dark"), rare("zh-CN", "light")]
)
def test_no_step_breaks_a_rule(running: Studio, chromium: Any, tmp_path: Any, locale: str, scheme: str) -> None:
    a_run(tmp_path / "home", "done", 1000.0, 100)
    begin(tmp_path, "live", steps=5000)
    ModelServer.start("demo", [])
    try:
        with visit(chromium, locale=locale, scheme=scheme) as visitor:
            page = visitor.open(running.url + "#finetune")
            page.wait_for_selector("#panel-run .gs-curve", timeout=90_000)
            broken: dict[str, list[str]] = {}
            for step in STEPS:
                page.click(f".gs-rail [data-go={step}]")
                page.wait_for_timeout(2500)
                open_folds(page)
                broken[step] = violations(page)
            page.click("[data-list-keys]")
            page.wait_for_selector("dialog[open]")
            broken["shortcuts"] = violations(page)
            page.keyboard.press("Escape")
            page.click(".gs-rail [data-go=finetune]")
            for run, act in (("live", "stop-now"), ("done", "delete")):
                broken[act] = asked_before(page, run, act)
            assert not any(broken.values()), "\n".join(
                f"{step}: {each}" for step, found in broken.items() for each in found
            )
    finally:
        list(stop_run(find_run("live"), now=True))
        ModelServer.stop()
