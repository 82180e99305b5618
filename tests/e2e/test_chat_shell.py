"""The chat and its frame by keyboard: where the focus is, what becomes of a question, and what survives a reload."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glmstudio.chat.model_server import ModelServer
from tests.e2e.browser import browser, visit
from tests.e2e.studio import Studio, studio
from tests.e2e.test_chat_page import ask, choose, permit, wait_for_feet
from tests.marks import one_language

pytestmark = pytest.mark.slow
WORDS = {
    "en": ("What time is it in Paris?", "What is 37*12?", "Skip to the open step", "Asked after this answer", "8 bits"),
    "zh": ("巴黎现在几点？", "37*12 等于多少？", "跳到当前步骤", "这个回答之后再问", "8 位"),
}
TOOL = '''
def tide(harbour: str) -> str:
    """Tells the tide."""
    return "high"
'''
BOX = "#chat-input textarea"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    home = tmp_path_factory.mktemp("chat") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLMSTUDIO_HOME", str(home))
        with studio(home) as found:
            yield found
        ModelServer.stop()


def focus(page: Any) -> str:
    inside = "document.activeElement.closest('.gs-skip, #chat-input, .gs-call, dialog')"
    found: str = page.evaluate(f"(({inside} || {{}}).id || ({inside} || {{}}).className || '')")
    return found


def in_view(page: Any, selector: str) -> bool:
    box = page.locator(selector).bounding_box()
    return bool(box and box["y"] >= 0 and box["y"] + box["height"] <= page.viewport_size["height"])


@pytest.mark.parametrize("lang", one_language(WORDS, "zh"))
def test_the_chat_by_keyboard(running: Studio, lang: str, tmp_path: Path) -> None:
    clock, sums, skip, queued, eight = WORDS[lang]
    with browser() as chromium, visit(chromium, locale="zh-CN" if lang == "zh" else "en-US") as visitor:
        page = visitor.open(running.url + "#chat")
        the_frame(page, skip)
        if page.locator("#panel-server [data-act=load]").count():
            page.click("#panel-server [data-act=load]")
        page.wait_for_selector("#panel-server .gs-chip.gs-good", timeout=90_000)
        page.focus(".gs-rail [data-go=chat]")
        tabs_to_the_box(page)

        permit(page, "get_time", "ask")
        permit(page, "calculator", "always")
        page.evaluate("scrollTo(0, 0)")
        ask(page, clock)
        assert page.input_value(BOX) == ""
        page.wait_for_selector(".gs-allow", timeout=60_000)
        assert "gs-call" in focus(page)
        assert in_view(page, ".gs-allow")
        page.fill(BOX, sums)
        page.press(BOX, "Enter")
        page.wait_for_selector(f".gs-queued:has-text('{queued}')")
        picture(page, f"queued-{lang}")
        page.focus(".gs-allow [data-act=run]")
        page.keyboard.type(" ")
        wait_for_feet(page, 2)
        assert "444" in page.inner_text(".gs-model-says >> nth=-1")
        assert page.locator(".gs-queued").count() == 0
        assert focus(page) == "chat-input"

        nothing_is_lost(page, sums)
        kept_with_its_name(page)
        a_tool_file(page, tmp_path)
        choose(page, "chat-model", "demo")
        choose(page, "chat-bits", eight)
        page.wait_for_timeout(1500)  # what is still on its way would be told as aborted
        page.reload()
        page.wait_for_function(f"(document.querySelector('#chat-bits input') || {{}}).value?.startsWith('{eight}')")
        assert visitor.outside == set()
        lost = [each for each in visitor.complaints if "ERR_FAILED" not in each and "Failed to fetch" not in each]
        assert lost == []


def the_frame(page: Any, skip: str) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == skip
    page.keyboard.press("Enter")
    assert focus(page) == "chat-input"
    page.keyboard.type("?")
    assert (page.input_value(BOX), page.locator("dialog[open]").count()) == ("?", 0)
    page.fill(BOX, "")
    page.focus(".gs-rail [data-go=chat]")
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open] kbd")
    picture(page, "keys")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog[open]", state="detached")
    assert page.evaluate("document.activeElement.dataset.go") == "chat"


def tabs_to_the_box(page: Any) -> None:
    for _ in range(3):
        page.keyboard.press("Tab")
        if focus(page) == "chat-input":
            return
    raise AssertionError(page.evaluate("document.activeElement.outerHTML"))


def nothing_is_lost(page: Any, question: str) -> None:
    """A question that the network swallows, and one that no model is there for, come back into the box."""
    where = "**/gradio_api/run/**"

    def swallow(route: Any) -> None:
        route.abort() if "37*12" in (route.request.post_data or "") else route.continue_()

    page.route(where, swallow)
    ask(page, question)
    assert page.input_value(BOX) == ""
    page.keyboard.type("and then")
    # gradio loads the page anew when it has lost a request.
    page.wait_for_function(f"(document.querySelector('{BOX}') || {{}}).value?.includes('37*12')", timeout=60_000)
    assert page.input_value(BOX) == f"{question}\nand then"
    page.unroute(where)
    page.click("#panel-server [data-act=unload]")
    page.wait_for_selector("#panel-server [data-act=load]")
    page.fill(BOX, question)
    page.press(BOX, "Enter")
    page.wait_for_selector("#panel-chat-problem .gs-problem")
    page.wait_for_function(f"document.querySelector('{BOX}').value.includes('37*12')")
    page.fill(BOX, "")


def kept_with_its_name(page: Any) -> None:
    page.click("[data-key=history] > summary")
    page.fill(".gs-named input", "About Paris")
    page.click(".gs-named [data-act=rename]")
    page.wait_for_selector(".gs-conversations li:has-text('About Paris')")
    page.click(".gs-named [data-act=pin]")
    page.wait_for_selector(".gs-conversations li .gs-pin")
    assert page.evaluate(
        "document.querySelector('#chat-side').scrollHeight > document.querySelector('#chat-side').clientHeight"
    )
    assert page.evaluate("document.querySelector('#chat-side').clientHeight") <= page.viewport_size["height"]


def a_tool_file(page: Any, folder: Path) -> None:
    (folder / "tides.py").write_text(TOOL)
    with page.expect_file_chooser() as chooser:
        page.click("[data-pick=chat-tool-file]")
    chooser.value.set_files(str(folder / "tides.py"))
    page.wait_for_selector(".gs-toolfile code:has-text('tide(harbour: string)')")
    picture(page, "tool-file")
    page.click(".gs-toolfile [data-act=tool-add]")
    page.wait_for_selector("[data-key=tool-tide] [data-value=ask][aria-pressed=true]", state="attached")


def picture(page: Any, name: str) -> None:
    """A screenshot for whoever wants to look, where GLMSTUDIO_SCREENSHOTS names a folder."""
    if folder := os.environ.get("GLMSTUDIO_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png")
