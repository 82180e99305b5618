"""A text and a PDF as training data, and a file of questions, in a real browser."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook

from tests.documents import pdf
from tests.e2e.browser import CHROMIUM, visit
from tests.e2e.studio import Studio

pytest.importorskip("playwright")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")]


def choose(page: Any, file: Path) -> None:
    page.locator("#finetune-source input").nth(1).check()
    with page.expect_file_chooser() as chooser:
        page.click("#finetune-upload")
    chooser.value.set_files(file)
    page.wait_for_function(
        f"document.querySelector('#finetune-path textarea, #finetune-path input').value.endsWith('{file.name}')"
    )


def picture(page: Any, name: str) -> None:
    """A screenshot for whoever wants to look, where GLMSTUDIO_SCREENSHOTS names a folder."""
    if folder := os.environ.get("GLMSTUDIO_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def test_a_text_and_a_pdf_are_looked_at_before_they_are_learned(running: Studio, chromium: Any, tmp_path: Path) -> None:
    text = tmp_path / "town.txt"
    text.write_text("\n\n".join(f"{n}. The library of the town has {n} books. Read them." for n in range(300)))
    document = tmp_path / "town.pdf"
    document.write_bytes(pdf(["The library of the town holds many books.", "It was built in 1912."] * 3))
    with visit(chromium) as visitor:
        page = visitor.open(running.url + "#finetune")
        for file in (text, document):
            choose(page, file)
            page.wait_for_selector("#panel-data .gs-good", timeout=60_000)
            page.click("[data-key=data-look] > summary")
            page.wait_for_selector("[data-key=data-record] .gs-trained")
            assert page.locator("[data-key=data-record] .gs-cut").count() == 1, "only in the legend"
            assert "library of the town" in page.locator(".gs-tokens").inner_text()
            picture(page, file.name)
            page.reload()
            page.wait_for_selector("html:not(.gs-wait) .gs-rail [aria-current]")
        assert visitor.complaints == []
        assert visitor.outside == set()


def test_a_file_of_questions_is_answered_below_the_chat(running: Studio, chromium: Any, tmp_path: Path) -> None:
    file = tmp_path / "questions.csv"
    file.write_text("问题\n" + "".join(f"37 * {n} 等于多少？\n" for n in range(12)), encoding="utf-8")
    with visit(chromium, locale="zh-CN") as visitor:
        page = visitor.open(running.url + "#chat")
        page.click("[data-key=answers] > summary")
        page.click("[data-key=answers] [data-act=answers]")
        page.wait_for_selector("#panel-chat-problem :text('没有选择问题文件')")
        page.fill("[data-key=answers] [data-field=file]", str(file))
        page.click("[data-key=answers] [data-act=answers]")
        page.wait_for_selector("[data-key=answers] [data-act=answers-stop]")
        page.wait_for_selector("[data-key=answers] a[href$='.xlsx']", timeout=120_000)
        assert page.locator("[data-key=answers] tbody tr").count() == 10
        with page.expect_download() as waiting:
            page.click("[data-key=answers] a[href$='.xlsx']")
        rows = list(load_workbook(io.BytesIO(waiting.value.path().read_bytes())).active.iter_rows(values_only=True))
        assert rows[0] == ("line", "question", "base")
        assert [row[1] for row in rows[1:]] == [f"37 * {n} 等于多少？" for n in range(12)]
        assert all(row[2] for row in rows[1:])
        picture(page, "answers")
        assert visitor.complaints == []
