"""From landing to the first answer of a fine-tuned model, without a GPU: four clicks and no scrolling, or no mouse at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from glmstudio.chat.model_server import ModelServer
from glmstudio.rundir.run import list_runs, wait_for_end
from tests.e2e.browser import CHROMIUM, visit
from tests.e2e.studio import Studio

pytest.importorskip("playwright")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")]
READY = "#finetune-start:not([disabled])"


def click(page: Any, selector: str) -> None:
    """One click on what is in sight already: it does not scroll."""
    box = page.locator(selector).first.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def press(page: Any, selector: str) -> None:
    """Go there by the Tab key, and press Enter."""
    for _ in range(80):
        if page.evaluate(f"!!document.activeElement && document.activeElement.matches({selector!r})"):
            page.keyboard.press("Enter")
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {selector}")


def click_start(page: Any) -> None:
    click(page, "#finetune-start")


def press_start(page: Any) -> None:
    page.keyboard.press("Control+Enter")


def shorten(page: Any) -> None:
    """The preset's steps take minutes; what a browser keeps of the form makes them few for the visit that counts."""
    page.wait_for_selector(READY, timeout=60_000)
    page.locator("#panel-settings details").evaluate_all("all => all.forEach((each) => { each.open = true; })")
    page.locator("#panel-settings [data-field=steps]").fill("20")
    page.wait_for_function("(localStorage.getItem('glmstudio.kept.form') || '').includes('steps')", timeout=30_000)


@pytest.mark.parametrize(
    ("locale", "go", "start"), [("en-US", click, click_start), ("zh-CN", press, press_start)], ids=["mouse", "keyboard"]
)
def test_from_landing_to_an_answer(
    running: Studio, chromium: Any, locale: str, go: Callable[[Any, str], None], start: Callable[[Any], None]
) -> None:
    with visit(chromium, locale=locale) as visitor:
        shorten(visitor.open(running.url + "#finetune"))
        page = visitor.open(running.place)
        go(page, ".gs-rail [data-go=finetune]")
        page.wait_for_selector("[data-key=setting-steps].gs-marked", state="attached", timeout=60_000)
        page.wait_for_selector(READY, timeout=60_000)
        start(page)
        page.wait_for_selector("#panel-run [data-key^=run-]", timeout=120_000)
        (run,) = list_runs()
        assert wait_for_end(run, seconds=180).step == 20, run.log()[0][-3000:]
        page.wait_for_selector("#panel-run [data-act=chat]", timeout=60_000)
        assert page.evaluate("scrollY") == 0
        go(page, "#panel-run [data-act=chat]")
        page.wait_for_selector("#panel-server .gs-good", timeout=120_000)
        page.wait_for_selector(".gs-examples button")
        go(page, ".gs-examples button")
        page.wait_for_selector(".gs-foot", timeout=120_000)
        assert page.evaluate("scrollY") == 0
        assert ModelServer.current().chosen == run.name
        assert visitor.complaints == []
