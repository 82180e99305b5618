"""The page in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.browser import CHROMIUM, browser, visit
from tests.e2e.studio import Studio, studio

pytest.importorskip("playwright")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")

STEPS = ("doctor", "model", "finetune", "chat")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with studio(tmp_path_factory.mktemp("home")) as started:
        yield started


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as started:
        yield started


@pytest.mark.parametrize("width", [1280, 900])
@pytest.mark.parametrize(("locale", "first"), [("en-US", "Doctor"), ("zh-CN", "体检")])
def test_every_step_in_the_browsers_language(
    running: Studio, chromium: Any, width: int, locale: str, first: str
) -> None:
    with visit(chromium, locale=locale, width=width) as visitor:
        page = visitor.open(running.url)

        assert page.inner_text(".gs-rail b >> nth=0") == first
        for step in STEPS:
            page.click(f".gs-rail [data-go={step}]")
            page.wait_for_selector(f"#step-{step}", state="visible")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, step
            assert page.locator(".gs-step:visible").count() == 1
        assert visitor.outside == set()
        assert visitor.complaints == []


def test_the_language_is_switched_without_losing_what_was_typed(running: Studio, chromium: Any) -> None:
    with visit(chromium) as visitor:
        page = visitor.open(running.url + "#finetune")
        page.get_by_label("Name").fill("my-run")
        page.click("[data-lang=zh]")
        page.wait_for_selector("#finetune-start:has-text('开始微调')")

        assert page.locator("#finetune-name textarea, #finetune-name input").input_value() == "my-run"
        assert page.evaluate("document.documentElement.dataset.step") == "finetune"
        assert page.evaluate("document.documentElement.lang") == "zh-CN"
        page.reload()
        page.wait_for_selector("#finetune-start:has-text('开始微调')")


def test_dark_is_remembered(running: Studio, chromium: Any) -> None:
    with visit(chromium) as visitor:
        page = visitor.open(running.url)
        assert page.evaluate("document.documentElement.dataset.theme") == "light"
        page.click("[data-theme-toggle]")
        page.reload()
        page.wait_for_selector(".gs-rail")

        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert page.evaluate("document.body.classList.contains('dark')")


def test_the_doctor_runs_by_itself_and_again(running: Studio, chromium: Any) -> None:
    with visit(chromium) as visitor:
        page = visitor.open(running.url + "#doctor")
        page.wait_for_selector("#panel-doctor [data-act=check]", timeout=20_000)
        page.wait_for_selector(".gs-rail [data-go=doctor]:not(:has(.gs-running))")
        page.click("#panel-doctor [data-act=check]")
        page.wait_for_selector("#panel-doctor [data-act=check]", timeout=20_000)

        assert page.locator("#panel-doctor .gs-check").count() > 5


def test_a_folder_that_is_no_model_is_answered_at_once(running: Studio, chromium: Any, tmp_path: Any) -> None:
    with visit(chromium) as visitor:
        page = visitor.open(running.url + "#model")
        page.get_by_label("I have the folder already").fill(str(tmp_path))
        page.click("#model-add")
        page.wait_for_selector("#panel-folder .gs-problem", timeout=5_000)

        assert str(tmp_path) in page.inner_text("#panel-folder")


def test_the_rail_works_by_keyboard(running: Studio, chromium: Any) -> None:
    with visit(chromium) as visitor:
        page = visitor.open(running.url + "#doctor")
        page.locator(".gs-rail [data-go=doctor]").focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")

        assert page.evaluate("document.documentElement.dataset.step") == "model"
