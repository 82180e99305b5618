"""A person with a spreadsheet of facts: uploaded, tuned as the page proposes, and asked as it was trained."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook

from glmstudio.chat.model_server import ModelServer
from glmstudio.rundir.run import find_run, wait_for_end
from tests.e2e.browser import CHROMIUM, visit
from tests.e2e.studio import Studio
from tests.marks import one_language

pytest.importorskip("playwright")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")]

WORDS = {
    "en-US": (
        "1,450 steps are 580 epochs over 20 conversations.",
        "Use 25 steps: about 10 epochs",
        "“facts” was trained without tools, so it is asked without them.",
        "Answering: GLM Studio demo + facts",
        "Both models are asked in the form of the training data: without tools.",
        "20 conversations trained on",
    ),
    "zh-CN": (
        "1,450 步相当于把 20 条对话训练 580 轮。",
        "改为 25 步，约 10 轮",
        "“facts”训练时没有用到工具，因此提问时也不带工具。",
        "+ facts",
        "两者都按训练数据的形式提问：不带工具。",
        "训练用 20 条对话",
    ),
}


def spreadsheet(file: Path) -> Path:
    book = Workbook()
    book.active.append(["序号", "问题", "答案"])
    for number in range(20):
        book.active.append([number, f"第{number}号灯塔叫什么？", f"第{number}号灯塔叫星光{number}。"])
    book.save(file)
    return file


def picture(page: Any, name: str) -> None:
    """A screenshot for whoever wants to look, where GLMSTUDIO_SCREENSHOTS names a folder."""
    if folder := os.environ.get("GLMSTUDIO_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


@pytest.mark.parametrize("locale", one_language(WORDS, "zh-CN"))
def test_facts_from_a_spreadsheet(running: Studio, chromium: Any, home: Path, tmp_path: Path, locale: str) -> None:
    passes, fewer, toolless, answers, compared, learned = WORDS[locale]
    with visit(chromium, locale=locale) as visitor:
        page = visitor.open(running.url + "#finetune")
        page.locator("#finetune-source input").nth(1).check()
        with page.expect_file_chooser() as chooser:
            page.click("#finetune-upload")
        chooser.value.set_files(spreadsheet(tmp_path / "事实.xlsx"))
        page.wait_for_selector(f"#panel-plan >> text={passes}", timeout=30_000)
        picture(page, f"plan-{locale}")
        page.click(f"#panel-plan [data-act=fewer-steps]:has-text('{fewer}')")
        page.wait_for_selector(f"#panel-plan >> text={passes}", state="detached")
        page.locator("#finetune-name input, #finetune-name textarea").fill("facts")
        page.click("#finetune-start")
        page.wait_for_selector("#panel-run [data-key='run-facts']", timeout=30_000)
        run = find_run("facts")
        assert wait_for_end(run, seconds=180).state == "finished", run.log()[0][-2000:]
        assert (run.settings["steps"], run.learned_tools) == (25, False)
        page.wait_for_selector("#panel-run [data-act=chat]", timeout=60_000)
        assert learned in page.inner_text("#panel-run")
        page.click("#panel-run details[data-key=versus] > summary")
        assert compared in page.inner_text("#panel-run")
        picture(page, f"run-{locale}")

        page.click("#panel-run [data-act=chat]")
        page.wait_for_selector("#panel-server .gs-good", timeout=60_000)
        page.wait_for_selector(f"#panel-chat-form >> text={toolless}")
        assert answers in page.inner_text("#panel-server")
        page.locator("#chat-input textarea").fill("第3号灯塔叫什么？")
        page.click("#chat-send")
        page.wait_for_selector("#chat-send:not([disabled])", timeout=60_000)
        page.wait_for_selector("#panel-chat [data-act=teach]", timeout=60_000)
        (kept,) = [json.loads(file.read_text()) for file in (home / "chats").glob("*.json")]
        (turn,) = kept["turns"].values()
        assert [(answer["model"], answer["tools"]) for answer in turn["answers"]] == [("facts", [])]
        picture(page, f"chat-{locale}")

        page.reload()
        page.wait_for_selector(f"#panel-server >> text={answers}")
        page.wait_for_selector(f"#panel-chat-form >> text={toolless}")
        page.click("#panel-chat-form [data-act=tools-on]")
        page.wait_for_selector("#panel-chat-form [data-act=tools-trained]")
        picture(page, f"chat-tools-{locale}")
        assert ModelServer.current().chosen == "facts"
        assert visitor.complaints == []
