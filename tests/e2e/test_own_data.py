"""A person with a table of their own: dropped or chosen, with known columns or not, edited, and in training."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from glmstudio.rundir.run import find_run, wait_for_end
from glmstudio.runs.stop import stop_run
from tests.e2e.browser import CHROMIUM, visit
from tests.e2e.studio import Studio

pytest.importorskip("playwright")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")]

ROWS = [f"第{n}号灯塔叫什么？,第{n}号灯塔叫星光{n}。" for n in range(30)]
DROP = """([name, text]) => {
    const carried = new DataTransfer();
    carried.items.add(new File([text], name));
    document.querySelector("#step-finetune").dispatchEvent(
        new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true }));
}"""


def picture(page: Any, name: str) -> None:
    """A screenshot for whoever wants to look, where GLMSTUDIO_SCREENSHOTS names a folder."""
    if folder := os.environ.get("GLMSTUDIO_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def test_a_known_table_is_chosen_edited_and_in_training(
    running: Studio, chromium: Any, home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "lamps.csv"
    file.write_text("\n".join(["问题,答案", *ROWS]), encoding="utf-8")
    clicks = 0
    with visit(chromium) as visitor:
        page = visitor.open(running.url)
        page.click(".gs-rail [data-go=finetune]")
        page.locator("#finetune-source input").nth(1).check()
        with page.expect_file_chooser() as chooser:
            page.click("#finetune-upload")
        clicks += 3
        chooser.value.set_files(file)
        page.wait_for_selector("#panel-own [data-key='own-lamps.csv'] .gs-good")
        assert "“lamps.csv” was added and is chosen for the next run." in page.inner_text("#panel-own [role=status]")
        assert "Records: 30" in page.inner_text("[data-key='own-lamps.csv']")
        assert page.locator(".gs-drop[data-busy]").count() == 0
        picture(page, "own-known-en")

        with page.expect_download() as template:
            page.click(".gs-drop a[download$='.csv']")
        assert Path(template.value.path()).read_bytes().startswith(b"\xef\xbb\xbfquestion,answer\r\n")

        page.click("[data-key='own-lamps.csv'] [data-act=own-rows]")
        page.wait_for_selector("[data-field='row.0.question']")
        page.fill("[data-field='row.0.answer']", "It is called Dawn.")
        page.click("[data-act=row-page]:has-text('Next')")
        page.wait_for_selector("[data-field='row.29.question']")
        page.fill("[data-field='row.new0.question']", "Who keeps them?")
        page.fill("[data-field='row.new0.answer']", "Ada keeps them.")
        picture(page, "own-rows-en")
        page.click("[data-act=row-delete][data-row='28']")
        page.wait_for_selector("[data-key='own-lamps.jsonl']")
        page.wait_for_function("document.querySelector(\"[data-field='row.new0.question']\").value === ''")
        kept = [json.loads(line) for line in (home / "data/lamps.jsonl").read_text(encoding="utf-8").splitlines()]
        assert kept[0] == {"问题": "第0号灯塔叫什么？", "答案": "It is called Dawn."}
        assert kept[28:] == [
            {"问题": "第29号灯塔叫什么？", "答案": "第29号灯塔叫星光29。"},
            {"问题": "Who keeps them?", "答案": "Ada keeps them."},
        ]
        page.click("[data-act=own-close]")
        page.wait_for_selector("[data-key=own-rows]", state="detached")

        page.wait_for_selector("#finetune-start:not([disabled])", timeout=60_000)
        page.click("#finetune-start")
        clicks += 1
        page.wait_for_selector("#panel-run [data-key^='run-']", timeout=60_000)
        assert clicks <= 7
        page.click("[data-key='own-lamps.jsonl'] [data-act=own-delete]")
        page.click("dialog button:has-text('Delete')")
        page.wait_for_selector("#panel-own >> text=is in use by the run")
        picture(page, "own-refused-en")
        (run,) = [find_run(each.name) for each in (home / "runs").iterdir()]
        list(stop_run(run, now=True))
        wait_for_end(run, seconds=60)
        assert visitor.complaints == []


def test_a_dropped_table_of_unknown_columns_is_in_training_after_three_clicks(
    running: Studio, chromium: Any, home: Path
) -> None:
    text = "\n".join(["编号,客户的话,我们怎么说", *(f"{n},{row}" for n, row in enumerate(ROWS))])
    with visit(chromium, locale="zh-CN") as visitor:
        page = visitor.open(running.url)
        page.click(".gs-rail [data-go=finetune]")
        page.wait_for_selector("#finetune-source")
        page.evaluate(DROP, ["灯塔.csv", text])
        page.wait_for_selector("[data-key=own-columns] select")
        page.wait_for_selector("#panel-start >> text=还不知道“灯塔.csv”各列的含义")
        picture(page, "own-columns-zh")
        page.select_option("#panel-own [data-field=question]", "1")
        page.select_option("#panel-own [data-field=answer]", "2")
        page.click("[data-act=own-columns]")
        page.wait_for_selector("#panel-own >> text=已采用 30 条记录。")
        page.wait_for_selector("#finetune-start:not([disabled])", timeout=60_000)
        picture(page, "own-ready-zh")
        assert page.input_value("#finetune-path textarea, #finetune-path input").endswith("灯塔.jsonl")
        page.click("#finetune-start")
        page.wait_for_selector("#panel-run [data-key^='run-']", timeout=60_000)
        page.evaluate(DROP, ["灯塔.csv", text])
        page.wait_for_selector("#panel-own >> text=“灯塔.jsonl”已经在这里，内容相同")
        for run in [find_run(each.name) for each in (home / "runs").iterdir()]:
            list(stop_run(run, now=True))
            wait_for_end(run, seconds=60)
        assert visitor.complaints == []
