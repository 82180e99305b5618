"""The runs in a real browser: the chart under the pointer, what can be taken along, and tables in narrow windows."""

from __future__ import annotations

import csv
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.browser import CHROMIUM, visit
from tests.e2e.studio import Studio
from tests.marks import one_language
from tests.waiting import until

pytest.importorskip("playwright")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")]
WORDS = {"en-US": ("Step 100", "Running", "Finished"), "zh-CN": ("步数 100", "进行中", "已完成")}
CHART = "#panel-run gs-chart >> nth=0"
LONG = "长名字-" * 8 + "end"
# Whether nothing scrolls sideways, and no word of a table's head is broken into a column of letters.
NARROW = """() => [
  document.documentElement.scrollWidth - document.documentElement.clientWidth,
  Math.max(0, ...[...document.querySelectorAll('#panel-run th, #panel-compare th, .gs-header')].filter((each) => !each.closest('thead') || each.closest('thead').offsetWidth > 1).map((each) => each.offsetHeight)),
  [...document.querySelectorAll('#panel-run *, #panel-compare *')].filter((each) => each.scrollWidth > each.clientWidth + 1
    && ['auto', 'scroll'].includes(getComputedStyle(each).overflowX) && !each.matches('pre')).map((each) => each.className),
]"""


def a_run(home: Path, name: str, created: float, lowest: int) -> Path:
    """A finished run of two hundred steps whose validation loss is lowest at the step `lowest`."""
    folder = home / "runs" / name
    (folder / "result").mkdir(parents=True)
    settings = {"model": "demo", "method": "lora", "steps": 200, "data": "/x/y.jsonl", "learning_rate": created / 1e4}
    record = {"run_id": name, "settings": settings, "preset": "demo/lora", "created": created, "launched": created}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "status.json").write_text(json.dumps({"state": "finished", "ended": created}))
    (folder / "result/adapter.json").write_text("{}")
    rows: list[dict[str, Any]] = [{"step": step, "loss": 1 + 100 / step} for step in range(1, 201)]
    for step in (50, 100, 150, 200):
        loss = 1 + abs(step - lowest) / 100
        rows.append({"step": step, "validation_loss": loss})
        checkpoint = folder / f"checkpoints/checkpoint-{step}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "adapter.json").write_text("{}")
        seal = {"step": step, "files": {"adapter.json": 2}, "loss": 1.5, "validation_loss": loss, "time": created}
        (checkpoint / "checkpoint.json").write_text(json.dumps(seal))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "train.log").write_text("".join(f"line {at}\n" for at in range(900)) + "RuntimeError: needle\n")
    return folder


@pytest.mark.parametrize("locale", one_language(WORDS, "zh-CN"))
def test_a_chart_tells_values_zooms_and_survives_the_clock(
    running: Studio, chromium: Any, home: Path, locale: str
) -> None:
    at_step, _, _ = WORDS[locale]
    folder = a_run(home, LONG, 2000.0, 100)
    a_run(home, "other", 1000.0, 200)
    with visit(chromium, locale=locale) as visitor:
        page = visitor.open(running.url + "#finetune")
        plot = page.locator(CHART).locator("svg")
        plot.locator(".gs-mean >> nth=0").wait_for(state="attached")
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        middle = box["x"] + 52 + (box["width"] - 66) * 99 / 199
        page.mouse.move(middle, box["y"] + 60)
        values = page.locator(CHART).locator(".values")
        until(lambda: at_step in values.inner_text(), 20, values.inner_text)
        assert ": 2 (" in values.inner_text(), "the loss at step 100"
        assert ": 1" in values.inner_text().splitlines()[-1], "the validation loss there"

        page.mouse.down()
        page.mouse.move(middle + 60, box["y"] + 60, steps=3)
        page.mouse.up()
        whole = page.locator(CHART).locator("button")
        whole.wait_for()
        page.locator(CHART).locator("input[type=checkbox]").check()
        ticks = plot.locator("text").all_text_contents()
        assert all(math.isfinite(float(each)) for each in ticks)
        page.mouse.move(middle, plot.bounding_box()["y"] + 60)
        with (folder / "metrics.jsonl").open("a") as metrics:
            metrics.write(json.dumps({"step": 201, "loss": 0.25}) + "\n")
        page.wait_for_function("document.querySelector('#panel-run gs-chart').dataset.chart.includes('0.25')")
        assert whole.is_visible(), "new figures have not undone the zoom"
        assert values.is_visible(), "nor taken away the pointer"
        assert page.locator(CHART).locator("input[type=checkbox]").is_checked()
        plot.dblclick()
        whole.wait_for(state="hidden")
        plot.focus()
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("+")
        whole.wait_for()
        page.keyboard.press("0")
        whole.wait_for(state="hidden")

        row = f"#panel-runs [data-act=open][data-run='{LONG}']"
        for count in (0, 1, 0, 1):  # the open row closes, and opens
            page.click(row)
            until(lambda count=count: page.locator("#panel-run section").count() == count, 20)
        assert visitor.complaints == []
        assert visitor.outside == set()


@pytest.mark.parametrize("locale", one_language(WORDS, "en-US"))
def test_what_a_run_left_is_found_and_taken_along_in_any_window(
    running: Studio, chromium: Any, home: Path, locale: str, tmp_path: Path
) -> None:
    a_run(home, LONG, 2000.0, 100)
    a_run(home, "other", 1000.0, 200)
    export = home / f"exports/{LONG}-peft"
    export.mkdir(parents=True)
    (export / "adapter_model.safetensors").write_bytes(b"weights")
    with visit(chromium, locale=locale) as visitor:
        page = visitor.open(running.url + "#finetune")
        page.wait_for_selector("#panel-run .gs-next [data-act=chat]")
        page.click("#panel-run [data-unfold=export]")
        page.wait_for_selector(f"#panel-run details[data-key=export][open] [data-key='exported-{LONG}-peft']")
        for link, member in {
            "/exports/": "adapter_model.safetensors",
            "tensorboard.zip": "events.out.tfevents",
        }.items():
            with page.expect_download() as told:
                page.click(f"#panel-run a[href*='{link}']")
            told.value.save_as(tmp_path / "out.zip")
            assert any(member in name for name in zipfile.ZipFile(tmp_path / "out.zip").namelist())
        with page.expect_download() as told:
            page.click("#panel-run a[href*='metrics.csv']")
        told.value.save_as(tmp_path / "out.csv")
        assert len(list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))) == 200

        page.click("#panel-run details[data-key=log] > summary")
        page.wait_for_selector("#panel-run .gs-pinned >> text=needle")
        page.fill("#panel-run [data-field=find]", "LINE 89")
        page.wait_for_selector("#panel-run .gs-log >> text=891: line 890")
        assert page.locator("#panel-run [data-field=find]").input_value() == "LINE 89"
        page.click("#panel-run details[data-key=checkpoints] > summary")
        for name in (LONG, "other"):
            page.check(f"[data-tick='{name}']")
        page.click("#panel-runs [data-act=compare]")
        page.wait_for_selector("#panel-compare gs-chart .gs-mean >> nth=1", state="attached")
        assert page.locator("#panel-compare gs-chart >> nth=0").locator(".gs-key").all_inner_texts() == [LONG, "other"]
        for width in (1280, 900, 420):
            page.set_viewport_size({"width": width, "height": 800})
            sideways, tallest, scrolling = page.evaluate(NARROW)
            assert (sideways, scrolling) == (0, []), width
            assert tallest < 120, width
        assert visitor.complaints == []
