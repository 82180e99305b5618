"""The Fine-tune step in a real browser, with real runs: three choices, a live curve, reload, restart, stop, resume,
a queue of two, compare, export, and the chat."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from glmstudio.chat.model_server import ModelServer
from glmstudio.rundir.run import Run, find_run, wait_for_end
from tests.e2e.browser import CHROMIUM, visit
from tests.e2e.studio import ROOT, Studio, studio
from tests.marks import rare

pytest.importorskip("playwright")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")]
SAMPLE = ROOT / "glmstudio/demo/sample.jsonl"


def small_data(home: Path, *more: str) -> Path:
    """Forty conversations of the sample, and what is given besides."""
    home.mkdir(parents=True, exist_ok=True)
    file = home / "data.jsonl"
    file.write_text("\n".join([*SAMPLE.read_text(encoding="utf-8").splitlines()[:40], *more]), encoding="utf-8")
    return file


def choose(page: Any, name: str, preset: str = "demo/smoke", **settings: str) -> None:
    """Three choices, and settings where a test needs a run that takes its time."""
    page.click(f"[data-preset='{preset}']")
    page.wait_for_selector(f"[data-preset='{preset}'][aria-pressed=true]")
    if settings:
        if page.locator("#panel-settings details[open]").count() == 0:
            page.click("#panel-settings summary")
        if page.locator("#panel-settings [data-key=advanced][open]").count() == 0:
            page.click("#panel-settings [data-key=advanced] > summary")
        for field, value in settings.items():
            page.locator(f"#panel-settings [data-field={field}]").fill(value)
        page.wait_for_selector("#panel-settings tbody tr")
    page.locator("#finetune-name input, #finetune-name textarea").fill(name)
    page.wait_for_selector("#finetune-start:not([disabled])", timeout=30_000)


def start(page: Any, name: str) -> Run:
    page.click("#finetune-start")
    page.wait_for_selector(f"#panel-run [data-key='run-{name}']", timeout=30_000)
    return find_run(name)


@pytest.mark.parametrize(
    ("locale", "finished", "resume"),
    [rare("en-US", "Finished", "Resume from step"), ("zh-CN", "已完成", "从第")],
)
def test_three_choices_a_curve_a_stop_and_a_resume(
    running: Studio, chromium: Any, home: Path, locale: str, finished: str, resume: str
) -> None:
    data = small_data(home)
    with visit(chromium, locale=locale) as visitor:
        page = visitor.open(running.url + "#finetune")
        page.locator("#finetune-source input").nth(1).check()
        page.locator("#finetune-path textarea, #finetune-path input").fill(str(data))
        choose(page, "first", steps="120", save_every="100", batch_size="4")  # half a minute: it must not end by itself
        run = start(page, "first")
        page.wait_for_selector("#panel-run .gs-curve .gs-mean", timeout=60_000)
        page.reload()
        page.wait_for_selector("#panel-run .gs-curve .gs-mean")
        page.click("#panel-run [data-act=stop]")
        page.wait_for_selector("#panel-run .gs-proof", timeout=60_000)
        said = page.inner_text("#panel-run .gs-proof")
        assert "0 " in said, said
        assert ("no open port" if locale == "en-US" else "没有打开的端口") in said
        assert run.processes() == []
        stopped = run.read_state()
        assert (stopped.state, 0 < stopped.step < 120) == ("stopped", True)
        assert resume in page.inner_text("#panel-run [data-act=resume]")
        page.click("#panel-run [data-act=resume]")
        page.wait_for_selector("#panel-run [data-act=stop]", timeout=30_000)
        state = wait_for_end(run, seconds=180)
        assert (state.state, state.step) == ("finished", 120), run.log()[0][-3000:]
        page.wait_for_selector(f"#panel-run .gs-run-progress >> text={finished}", timeout=60_000)
        steps = [row["step"] for row in run.metrics()[0] if "loss" in row]
        assert steps == list(range(1, 121))
        assert visitor.complaints == []
        assert visitor.outside == set()


@pytest.mark.rare  # tests/e2e/test_main_job.py kills a studio, too
def test_a_studio_that_is_killed_finds_its_run_and_the_queue_goes_on(chromium: Any, home: Path) -> None:
    small_data(home)
    with studio(home) as first, visit(chromium) as visitor:
        page = visitor.open(first.url + "#finetune")
        choose(page, "one", steps="100", batch_size="2")
        one = start(page, "one")
        page.wait_for_selector("#finetune-start:has-text('Add to the queue')", timeout=30_000)
        choose(page, "two", steps="20", batch_size="2")
        two = start(page, "two")
        page.wait_for_selector("#panel-runs [data-key=row-two] >> text=Waiting, place 1")
        assert "It is waiting for one to finish." in page.inner_text("#panel-run")
        assert two.read_state().state == "queued"
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
        assert one.read_state().holds_device
    assert wait_for_end(one, seconds=120).state == "finished"
    assert wait_for_end(two, seconds=120).state == "finished"
    with studio(home) as second, visit(chromium) as visitor:
        page = visitor.open(second.url + "#finetune")
        page.wait_for_selector("#panel-run [data-act=chat]")
        page.check("[data-tick=one]")
        page.check("[data-tick=two]")
        page.click("#panel-runs [data-act=compare]")
        page.wait_for_selector("#panel-compare .gs-curve")
        assert page.locator("#panel-compare .gs-key").count() >= 2
        assert "Steps" in page.inner_text("#panel-compare table")
        page.click("#panel-compare [data-act=uncompare]")
        page.wait_for_selector("#panel-compare .gs-curve", state="detached")
        assert visitor.complaints == []


@pytest.mark.rare
def test_after_the_end_export_compare_with_base_and_chat(running: Studio, chromium: Any, home: Path) -> None:
    with visit(chromium) as visitor:
        page = visitor.open(running.url + "#finetune")
        choose(page, "done", steps="8", save_every="4")
        run = start(page, "done")
        page.wait_for_selector("#panel-run [data-act=chat]", timeout=90_000)
        page.wait_for_function("document.title.startsWith('● done')", timeout=30_000)
        page.click("#panel-run details[data-key=export] > summary")
        page.click("#panel-run [data-act=export][data-form=bundle]")
        page.wait_for_selector("#panel-run [data-key=exported-done-bundle]", timeout=30_000)
        bundle = home / "exports/done-bundle"
        assert json.loads((bundle / "data.json").read_text())["sha256"]
        assert (bundle / "result/prefix.safetensors").is_file()
        page.click("#panel-run details[data-key=versus] > summary")
        page.locator("#panel-run [data-field=question]").fill("What time is it in Paris?")
        page.click("#panel-run [data-act=versus]")
        page.wait_for_selector("#panel-run .gs-versus", timeout=60_000)
        assert "demo, not fine-tuned" in page.inner_text("#panel-run .gs-versus")
        page.click("#panel-run details[data-key=checkpoints] > summary")
        assert page.locator("#panel-run [data-key=checkpoints] tbody tr").count() == 2
        page.click("#panel-run [data-key=checkpoint-4] [data-act=chat]")
        page.wait_for_selector("#panel-server >> text=checkpoint-4", timeout=60_000)
        page.wait_for_selector("#panel-server .gs-good", timeout=60_000)
        assert ModelServer.current().chosen == str(run.path / "checkpoints/checkpoint-4")

        page.click(".gs-rail [data-go=finetune]")
        choose(page, "beside", steps="8")
        page.click("#finetune-start")
        page.wait_for_selector("#panel-start [data-act=unload-start]", timeout=60_000)
        assert "The chat has demo loaded there" in page.inner_text("#panel-start")
        page.click("#panel-start [data-act=unload-start]")
        page.wait_for_selector("#panel-run [data-key=run-beside]", timeout=30_000)
        assert ModelServer.current().state == "absent"
        assert wait_for_end(find_run("beside"), seconds=90).state == "finished"
        assert visitor.complaints == []


def test_bad_data_are_shown_and_the_choice_is_the_users(running: Studio, chromium: Any, home: Path) -> None:
    data = small_data(home, "not json", '{"conversations": [{"role": "user", "content": "no answer"}]}')
    with visit(chromium, locale="zh-CN") as visitor:
        page = visitor.open(running.url + "#finetune")
        page.locator("#finetune-source input").nth(1).check()
        page.locator("#finetune-path textarea, #finetune-path input").fill(str(data))
        page.wait_for_selector("#panel-data .gs-badlines >> text=第 41 行", timeout=60_000)
        assert page.locator("#finetune-start").is_disabled()
        page.click("#panel-data [data-policy=drop]")
        page.wait_for_selector("#finetune-start:not([disabled])", timeout=30_000)
        page.click("#panel-data details[data-key=data-look] > summary")
        page.click("#panel-data [data-act=record]")
        page.wait_for_selector("#panel-data h3:has-text('2')")
        assert page.locator("#panel-data .gs-tokens .gs-trained").count() > 0
        page.click("#panel-plan [data-act=measure]")
        page.wait_for_selector("#panel-plan [data-act=measure]", state="detached", timeout=30_000)
        page.wait_for_function(
            "!document.querySelector('#panel-plan dl').innerText.includes('正在测量')", timeout=60_000
        )
        assert "秒" in page.inner_text("#panel-plan dl")
        assert visitor.complaints == []


def test_a_preset_is_changed_saved_and_used(running: Studio, chromium: Any, home: Path) -> None:
    with visit(chromium) as visitor:
        page = visitor.open(running.url + "#finetune")
        choose(page, "x", steps="33")
        page.locator("#panel-settings [data-field=steps]").fill("none")
        page.locator("#panel-settings [data-field=batch_size]").fill("0")
        page.wait_for_selector("#panel-settings [role=alert] :text('The setting “Batch size” cannot be 0')")
        assert "The setting “Steps” cannot be none" in page.inner_text("#panel-settings [role=alert]")
        page.locator("#panel-settings [data-field=preset_name]").fill("demo/mine")
        page.click("#panel-settings [data-act=save-preset]")
        page.wait_for_selector("[data-preset='demo/mine'][aria-pressed=true]", timeout=30_000)
        assert "steps = 33" in (home / "presets/demo/mine.toml").read_text()
        end = time.monotonic() + 60
        while "demo/mine" not in page.locator("#panel-plan details[data-key=terminal-train]").text_content():
            assert time.monotonic() < end
        assert visitor.complaints == []
