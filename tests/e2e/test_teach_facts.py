"""Facts from a spreadsheet's clipboard: pasted, given other wordings, asked of the model first, saved, and learned."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from glmstudio.knowledge.exam import read_facts
from glmstudio.rundir.run import find_run, wait_for_end
from tests.e2e.browser import CHROMIUM, visit
from tests.e2e.studio import Studio, studio
from tests.marks import one_language

pytest.importorskip("playwright")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")]

ROWS = "问题\t答案\n" + "".join(f"第{n}号灯塔叫什么？\t第{n}号灯塔叫星光{n}。\n" for n in range(20))
WORDS = {
    "en-US": (
        "Save and use 20 facts",
        "of 20 are already known.",
        " steps, 6 epochs over ",
        "20 facts saved; the next run uses them",
        "A question without an answer.",
    ),
    "zh-CN": (
        "保存并使用 20 条知识",
        "20 条中已经知道",
        "条对话训练 6 轮，其中",
        "已保存 20 条知识，下次训练会用",
        "有问题，没有答案。",
    ),
}


def picture(page: Any, name: str) -> None:
    """Screenshots for whoever wants to look, wide and narrow, where GLMSTUDIO_SCREENSHOTS names a folder."""
    if folder := os.environ.get("GLMSTUDIO_SCREENSHOTS"):
        for width in (1280, 900):
            page.set_viewport_size({"width": width, "height": 800})
            page.wait_for_timeout(400)
            page.screenshot(path=f"{folder}/{name}-{width}.png", full_page=True)
        page.set_viewport_size({"width": 1280, "height": 800})


def paste(page: Any, field: str, text: str) -> None:
    """As a person does: copied elsewhere, Ctrl+V in the cell."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("(text) => navigator.clipboard.writeText(text)", text)
    page.locator(f"[data-field='{field}']").focus()
    page.keyboard.press("Control+V")


def teach(page: Any) -> None:
    page.locator("#finetune-source input").nth(2).check()
    page.wait_for_selector("[data-field='fact.1.question']")


@pytest.mark.parametrize("locale", one_language(WORDS, "en-US"))
def test_facts_are_pasted_worded_asked_and_learned(running: Studio, chromium: Any, home: Path, locale: str) -> None:
    save, known, through, saved, unanswered = WORDS[locale]
    with visit(chromium, locale=locale) as visitor:
        page = visitor.open(running.url + "#finetune")
        teach(page)
        picture(page, f"empty-{locale}")
        paste(page, "fact.1.question", ROWS)
        page.wait_for_selector(f"[data-act=save-facts]:has-text('{save}')")
        assert page.locator("[data-field='fact.1.question']").input_value() == "第0号灯塔叫什么？"
        page.locator("[data-field='fact.21.question']").fill("一半")
        page.wait_for_selector(f".gs-below >> text={unanswered}")
        page.click("[data-key=fact-21] [data-act=delete]")
        page.wait_for_selector("[data-key=fact-21] [data-act=delete]", state="detached")

        page.click("[data-act=wordings]")
        page.wait_for_selector("[data-key=below-1] .gs-proposal")
        picture(page, f"wordings-{locale}")
        page.locator("[data-field='proposed.1.0']").fill("第0座灯塔的名字是？")
        page.click("[data-key=below-1] [data-act=accept][data-place='0']")
        page.wait_for_function(
            "document.querySelector(\"[data-field='fact.1.wordings']\").value === '第0座灯塔的名字是？'"
        )
        page.click("[data-key=below-2] [data-act=drop-row]")
        page.click("[data-act=accept-all]")
        page.wait_for_selector(".gs-proposal", state="detached")

        page.click("[data-act=ask]")
        page.wait_for_selector(".gs-askfirst .gs-bar")
        picture(page, f"asking-{locale}")
        page.wait_for_selector(f".gs-askfirst >> text={known}", timeout=90_000)
        page.click("[data-act=save-facts]")
        page.wait_for_selector(f"#panel-facts >> text={saved}")
        page.wait_for_selector(f"#panel-plan >> text={through}", timeout=30_000)
        picture(page, f"saved-{locale}")

        page.reload()
        page.wait_for_selector(f"#panel-facts >> text={saved}")
        page.wait_for_selector(f".gs-askfirst >> text={known}")
        assert page.locator("#finetune-source input").nth(2).is_checked()
        assert page.locator("[data-field='fact.20.answer']").input_value() == "第19号灯塔叫星光19。"
        page.click("#panel-settings summary")
        page.locator("#panel-settings [data-field=steps]").fill("7")
        page.locator("#finetune-name input, #finetune-name textarea").fill("taught")
        page.wait_for_selector("#panel-plan dl dd:text-is('7')", timeout=60_000)
        page.click("#finetune-start")
        page.wait_for_selector("#panel-run [data-key='run-taught']", timeout=30_000)
        run = find_run("taught")
        assert wait_for_end(run, seconds=240).state == "finished", run.log()[0][-2000:]
        facts = read_facts(run.settings["data"])
        assert (run.settings["steps"], len(facts)) == (7, 20)
        assert facts[0].wordings[0] == "第0座灯塔的名字是？"
        assert facts[1].wordings == ()
        page.wait_for_selector("#panel-run .gs-verdict-said", timeout=120_000)
        assert re.search(r"\b0\b", page.inner_text("#panel-run .gs-verdict-said")), "seven steps teach nothing"
        picture(page, f"result-{locale}")
        page.click("#panel-run .gs-facts-score [data-copy]")
        report = page.evaluate("navigator.clipboard.readText()")
        assert report.startswith("## taught\n")
        assert page.inner_text("#panel-run .gs-verdict-said") in report
        assert visitor.complaints == []
        assert visitor.outside == set()


def test_typing_is_never_lost(chromium: Any, home: Path) -> None:
    with studio(home) as first, visit(chromium) as visitor:
        page = visitor.open(first.url + "#finetune")
        teach(page)
        page.keyboard.press("Tab")
        page.locator("[data-field='fact.1.question']").press_sequentially(
            "Who runs the harbour, and since when?", delay=70
        )
        page.keyboard.press("Tab")
        page.keyboard.type("Ada Lin, since 1907.", delay=40)
        page.wait_for_timeout(2500)
        assert page.evaluate("document.activeElement.dataset.field") == "fact.1.answer"
        assert page.locator("[data-field='fact.1.question']").input_value() == "Who runs the harbour, and since when?"
        page.keyboard.type(" And so on")
        page.keyboard.press("Tab")
        page.wait_for_selector("[data-key=fact-1] [data-act=delete]")
        page.wait_for_timeout(500)
        assert visitor.complaints == []
    with studio(home) as second, visit(chromium) as visitor:
        page = visitor.open(second.url + "#finetune")
        page.wait_for_selector("[data-field='fact.2.question']")
        assert page.locator("[data-field='fact.1.answer']").input_value() == "Ada Lin, since 1907. And so on"


def test_a_table_with_other_columns_is_understood_by_asking(
    running: Studio, chromium: Any, home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "other.csv"
    file.write_text("Nr;Stichwort;Text\n" + "".join(f"{n};Who is {n}?;It is {n}.\n" for n in range(8)))
    with visit(chromium, locale="zh-CN") as visitor:
        page = visitor.open(running.url + "#finetune")
        teach(page)
        with page.expect_file_chooser() as chooser:
            page.click("[data-pick=facts-files]")
        chooser.value.set_files(file)
        page.wait_for_selector("[data-field='column.1']")
        page.locator("[data-field='column.1']").select_option("question")
        page.locator("[data-field='column.2']").select_option("answer")
        picture(page, "columns-zh-CN")
        page.click("[data-act=columns]")
        page.wait_for_selector("[data-key=fact-8]")
        assert page.locator("[data-field='fact.8.answer']").input_value() == "It is 7."
        assert not list((home / "cache/uploads").rglob("other.csv")), "what was sent is not kept"
        assert visitor.complaints == []
