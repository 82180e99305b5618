"""The form of the Fine-tune step: Start in sight, the run that it makes, settings, and what a reload keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glmstudio.rundir.run import Run
from glmstudio.runs.stop import stop_run
from glmstudio.system.process import free_port
from tests.e2e.browser import CHROMIUM, visit
from tests.e2e.studio import studio
from tests.marks import rare

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")]
NAME = "#finetune-name input, #finetune-name textarea"
READY = "#finetune-start:not([disabled])"


def in_sight(page: Any, selector: str, ratio: float = 1) -> None:
    playwright.expect(page.locator(selector)).to_be_in_viewport(ratio=ratio, timeout=60_000)


def field(page: Any, name: str) -> Any:
    return page.locator(f"#panel-settings [data-field={name}]")


def test_from_landing_to_a_running_training_without_scrolling(chromium: Any, home: Path) -> None:
    try:
        with studio(home) as running, visit(chromium) as visitor:
            page = visitor.open(running.url)
            page.click(".gs-rail [data-go=finetune]")
            page.wait_for_selector(READY, timeout=60_000)
            in_sight(page, "#finetune-start")
            page.click("#finetune-start")
            assert "gs-is-starting" in page.evaluate("document.documentElement.className"), "it answers at once"
            page.wait_for_selector("#panel-run [data-key^=run-]", timeout=120_000)
            in_sight(page, "#panel-run h2")
            page.wait_for_function("!document.documentElement.classList.contains('gs-is-starting')")
            assert page.evaluate("scrollY") == 0
            assert "training goes on" in page.inner_text("#panel-start")

            # From below, the next one comes into view.
            page.locator(NAME).fill("second")
            page.locator(NAME).press("Tab")
            page.wait_for_selector(READY, timeout=60_000)
            page.evaluate("scrollTo(0, document.body.scrollHeight)")
            in_sight(page, "#finetune-start")
            page.click("#finetune-start")
            page.wait_for_selector("#panel-run [data-key=run-second]", timeout=120_000)
            in_sight(page, "#panel-run h2")
            assert visitor.complaints == []
    finally:
        for folder in (home / "runs").glob("*"):
            list(stop_run(Run(folder.name, folder), now=True))


@pytest.mark.parametrize(("locale", "width", "word"), [("en-US", 1280, "rate"), rare("zh-CN", 420, "学习率")])
def test_settings_are_found_marked_reset_and_kept(
    chromium: Any, home: Path, tmp_path: Path, locale: str, width: int, word: str
) -> None:
    with visit(chromium, locale=locale, width=width) as visitor:
        port = str(free_port())
        with studio(home, "--port", port) as first:
            page = visitor.open(first.url + "#finetune")
            page.wait_for_selector(READY, timeout=60_000)
            in_sight(page, "#finetune-start")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing scrolls sideways"
            radios = "#finetune-source input[type=radio]"
            assert len(set(page.eval_on_selector_all(radios, "all => all.map((each) => each.name)"))) == 1
            assert page.get_by_role("radiogroup").first.get_attribute("aria-labelledby")

            page.click("[data-preset='demo/lora']")
            page.wait_for_selector("[data-preset='demo/lora'][aria-pressed=true]", timeout=30_000)
            page.click("#panel-settings summary")
            page.fill("[data-find-setting]", word)
            playwright.expect(field(page, "learning_rate")).to_be_visible()
            playwright.expect(field(page, "warmup_steps")).to_be_visible()
            playwright.expect(field(page, "steps")).to_be_hidden()
            page.fill("[data-find-setting]", "")
            field(page, "steps").fill("33")
            field(page, "seed").fill("7")
            page.wait_for_selector("[data-key=setting-seed].gs-marked", timeout=30_000)
            page.click("[data-key=setting-seed] [data-act=reset-one]")
            page.wait_for_selector("[data-key=setting-seed]:not(.gs-marked)", timeout=30_000)
            assert field(page, "seed").input_value() == "42"
            page.locator(NAME).fill("kept")
            page.wait_for_function("(localStorage.getItem('glmstudio.kept.form') || '').includes('kept')")
            page.reload()
            look_again(page)
        with studio(home, "--port", port) as second:
            page = visitor.open(second.url + "#finetune")
            look_again(page)
            page.locator(radios).nth(1).check()
            page.locator("#finetune-path textarea, #finetune-path input").fill(str(tmp_path / "nothing.jsonl"))
            page.wait_for_selector("#panel-start :text('nothing.jsonl')", timeout=60_000)
            in_sight(page, "#panel-start :text('nothing.jsonl')")
            assert page.locator("#finetune-start").is_disabled()
        assert [each for each in visitor.complaints if "ERR_CONNECTION" not in each and "403" not in each] == []


def look_again(page: Any) -> None:
    """The form is as it was left."""
    page.wait_for_selector("[data-preset='demo/lora'][aria-pressed=true]", timeout=60_000)
    page.wait_for_selector("[data-key=setting-steps].gs-marked", state="attached", timeout=30_000)
    assert field(page, "steps").input_value() == "33"
    playwright.expect(page.locator(NAME)).to_have_value("kept")
