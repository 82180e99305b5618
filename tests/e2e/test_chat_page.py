"""The chat as a person uses it, in a real browser with the real demo model and a real run's result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glmstudio.chat.model_server import ModelServer
from glmstudio.data.records import Record, read_records
from glmstudio.rundir.run import list_runs, wait_for_end
from tests.e2e.browser import browser, visit
from tests.e2e.studio import Studio, studio
from tests.marks import one_language
from tests.run_helpers import begin

pytestmark = pytest.mark.slow
WORDS = {
    "en": ("What is 37*12?", "What time is it in Paris?", "How many miles is 5 km?", "Always", "Refused"),
    "zh": ("37*12 等于多少？", "巴黎现在几点？", "5 公里是多少英里？", "直接运行", "已拒绝"),
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio with one finished run and the demo model loaded."""
    folder = tmp_path_factory.mktemp("chat")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLMSTUDIO_HOME", str(folder / "home"))
        run = begin(folder, "tuned", steps=3)
        assert wait_for_end(run, seconds=240).state == "finished", run.log()[0][-2000:]
        with studio(folder / "home") as found:
            yield found
        ModelServer.stop()
        assert [run.name for run in list_runs()] == ["tuned"]


def ask(page: Any, question: str) -> None:
    page.locator("#chat-input textarea").fill(question)
    page.keyboard.press("Enter")


def turns(page: Any) -> int:
    count: int = page.locator(".gs-foot").count()
    return count


def wait_for_feet(page: Any, count: int) -> None:
    page.wait_for_function(f"document.querySelectorAll('.gs-foot').length >= {count}", timeout=60_000)


@pytest.mark.parametrize("lang", one_language(WORDS, "zh"))
def test_three_rounds_of_tools_with_approval_stop_and_edit(running: Studio, lang: str) -> None:
    sums, clock, miles, _, refused = WORDS[lang]
    with browser() as chromium, visit(chromium, locale="zh-CN" if lang == "zh" else "en-US") as visitor:
        page = visitor.open(running.url + "#chat")
        if page.locator("#panel-server [data-act=load]").count():
            page.click("#panel-server [data-act=load]")
        page.wait_for_selector("#panel-server .gs-chip.gs-good", timeout=90_000)
        if page.locator("#chat-clear:not([disabled])").count():
            page.click("#chat-clear")
        page.wait_for_selector(".gs-examples")
        permit(page, "calculator", "always")
        permit(page, "get_time", "ask")
        permit(page, "convert_unit", "ask")

        ask(page, sums)
        wait_for_feet(page, 1)
        assert "444" in page.inner_text(".gs-model-says >> nth=-1")

        ask(page, clock)
        page.click(".gs-allow [data-act=run]", timeout=60_000)
        wait_for_feet(page, 2)
        assert page.locator(".gs-call.gs-good").count() == 2

        ask(page, miles)
        page.wait_for_selector(".gs-allow [data-act=refuse]", timeout=60_000)
        page.click(".gs-allow [data-act=refuse]")
        wait_for_feet(page, 3)
        assert refused in page.inner_text(".gs-call >> nth=2")

        page.click(".gs-steps [data-act=edit] >> nth=0")
        page.fill(".gs-edit textarea", sums.replace("37", "3"))
        page.click(".gs-edit [data-act=edit-send]")
        page.wait_for_selector(".gs-model-says:has-text('36')", timeout=60_000)
        page.wait_for_selector(".gs-steps .gs-number:has-text('2/2')")
        page.click(".gs-steps [data-act=look] >> nth=0")
        page.wait_for_selector(".gs-model-says:has-text('444')")
        page.wait_for_timeout(1500)  # what is still on its way would be told as aborted
        page.reload()
        page.wait_for_selector(".gs-model-says:has-text('444')")
        teach(page, running)
        export(page)

        page.click("#chat-clear")
        page.wait_for_selector(".gs-examples")
        ask(page, miles)
        page.fill(".gs-allow textarea", "3.107", timeout=60_000)
        page.click(".gs-allow [data-act=answer]")
        wait_for_feet(page, 1)
        assert "3.107" in page.inner_text(".gs-model-says >> nth=-1")
        ask(page, miles)
        page.wait_for_selector(".gs-allow", timeout=60_000)
        page.keyboard.press("Escape")
        wait_for_feet(page, 2)
        assert visitor.complaints == []
        assert visitor.outside == set()


def permit(page: Any, tool: str, value: str) -> None:
    if page.locator("[data-key=tools]").get_attribute("open") is None:
        page.click("[data-key=tools] > summary")
    button = f"#panel-chat-tools [data-tool={tool}][data-value={value}]"
    page.click(button)
    page.wait_for_selector(f"{button}[aria-pressed=true]")


def teach(page: Any, running: Studio) -> None:
    page.click(".gs-after [data-act=teach] >> nth=0")
    page.fill(".gs-teach textarea >> nth=-1", "It is 444.")
    page.fill(".gs-teach [data-field=name]", "taught")
    page.click(".gs-teach [data-act=teach-keep]")
    page.wait_for_selector("#panel-chat-problem .gs-good")
    *_, record = read_records(running.home / "data" / "taught.jsonl")
    assert isinstance(record, Record)
    assert record.messages[-1].content == "It is 444."
    page.click("#panel-chat-problem [data-act=train-kept]")
    page.wait_for_selector("#panel-own [data-key='own-taught.jsonl'] .gs-good")
    assert page.evaluate("location.hash") == "#finetune"
    page.click(".gs-rail [data-go=chat]")


def export(page: Any) -> None:
    page.click("[data-key=history] > summary")
    with page.expect_download() as saved:
        page.click("#panel-chat-history a[href$='.json']")
    file = saved.value.path()
    assert json.loads(Path(file).read_text(encoding="utf-8"))["format"] == "glmstudio-chat-1"
    before = page.locator(".gs-conversations li").count()
    with page.expect_file_chooser() as chooser:
        page.click("[data-pick=chat-import]")
    chooser.value.set_files({"name": "talk.json", "mimeType": "application/json", "buffer": Path(file).read_bytes()})
    page.wait_for_function(f"document.querySelectorAll('.gs-conversations li').length > {before}")


def test_two_columns_and_a_score(running: Studio) -> None:
    with browser() as chromium, visit(chromium) as visitor:
        page = visitor.open(running.url + "#chat")
        if page.locator("#panel-server [data-act=load]").count():
            page.click("#panel-server [data-act=load]")
        page.wait_for_selector("#panel-server .gs-chip.gs-good", timeout=90_000)
        if page.locator("#chat-clear:not([disabled])").count():
            page.click("#chat-clear")
        choose(page, "chat-adapter", "tuned")
        choose(page, "chat-rival", "Base model")
        ask(page, "Who are you?")
        page.wait_for_selector(".gs-columns .gs-column >> nth=1", timeout=60_000)
        wait_for_feet(page, 2)
        heads = page.locator(".gs-column header").all_inner_texts()
        assert heads[0].startswith("Base model\nno adapter in use")
        assert heads[1].startswith("tuned\nprefix of 4 tokens, ")

        page.click("#panel-chat-score [data-key=score] > summary")
        page.select_option("#panel-chat-score select", "20")
        page.click("#panel-chat-score [data-act=score]")
        page.wait_for_selector("#panel-chat-score .gs-score", timeout=180_000)
        assert page.locator("#panel-chat-score .gs-score tbody tr").count() == 4
        page.click("#panel-server [data-act=unload]")
        page.wait_for_selector("#panel-server .gs-chip.gs-waiting")
        assert visitor.complaints == []


def choose(page: Any, name: str, words: str) -> None:
    page.click(f"#{name} input")
    page.click(f"#{name} [role=option]:has-text('{words}'), ul[role=listbox] [role=option]:has-text('{words}')")
