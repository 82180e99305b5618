"""What stands in the form is what is trained, whether or not a second button was pressed."""

from __future__ import annotations

from typing import Any

import pytest

from glmstudio.rundir.run import find_run
from tests.e2e.browser import CHROMIUM, visit
from tests.e2e.studio import Studio

pytest.importorskip("playwright")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")]


def unfold(page: Any, panel: str) -> None:
    if page.locator(f"#panel-{panel} details[open]").count() == 0:
        page.click(f"#panel-{panel} summary")


def test_start_takes_what_was_typed_a_moment_ago(running: Studio, chromium: Any) -> None:
    with visit(chromium) as visitor:
        page = visitor.open(running.url + "#finetune")
        page.locator("#finetune-name input, #finetune-name textarea").fill("typed")
        page.wait_for_selector("#finetune-start:not([disabled])", timeout=30_000)
        unfold(page, "settings")
        page.locator("#panel-settings [data-field=steps]").fill("none")
        page.click("#finetune-start")
        page.wait_for_selector("#panel-start [role=alert]")
        assert "The setting “Steps” cannot be none" in page.inner_text("#panel-start")
        page.locator("#panel-settings [data-field=steps]").fill("7")
        page.locator("#panel-settings [data-field=method]").select_option("lora")
        page.click("#finetune-start")
        page.wait_for_selector("#panel-run [data-key=run-typed]", timeout=30_000)
        run = find_run("typed")
        assert (run.settings["steps"], run.settings["method"]) == (7, "lora")
        assert visitor.complaints == []


@pytest.mark.rare  # tests/e2e/test_start_in_sight.py does the same with other settings
def test_settings_count_as_they_are_typed_and_reset_shows_the_preset_again(running: Studio, chromium: Any) -> None:
    with visit(chromium, locale="zh-CN") as visitor:
        page = visitor.open(running.url + "#finetune")
        page.wait_for_selector("#finetune-start:not([disabled])", timeout=30_000)
        unfold(page, "settings")
        steps = page.locator("#panel-settings [data-field=steps]")
        preset = steps.input_value()
        steps.fill("300")
        page.wait_for_selector("#panel-settings tbody tr")  # nothing was pressed
        page.wait_for_selector("#panel-plan dl >> text=300", timeout=30_000)
        page.click("#panel-settings [data-act=reset]")
        page.wait_for_selector("#panel-settings tbody tr", state="detached")
        page.wait_for_function(f"document.querySelector('#panel-settings [data-field=steps]').value === '{preset}'")
        assert visitor.complaints == []


def test_a_list_of_machines_that_was_not_taken_starts_nothing(running: Studio, chromium: Any) -> None:
    with visit(chromium) as visitor:
        page = visitor.open(running.url + "#finetune")
        page.locator("#finetune-name input, #finetune-name textarea").fill("machines")
        page.wait_for_selector("#finetune-start:not([disabled])", timeout=30_000)
        unfold(page, "machines")
        page.locator("#panel-machines [data-field=address_2]").fill("10.0.0.2")
        page.click("#finetune-start")
        page.wait_for_selector("#panel-start >> text=The list of machines was changed and is not in use yet.")
        assert page.locator("#panel-run [data-key=run-machines]").count() == 0
        assert visitor.complaints == []
