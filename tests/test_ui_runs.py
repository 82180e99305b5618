"""The runs on the page without a browser: their order, their states in words, and the machine under them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from glmstudio.files import write_json
from glmstudio.rundir.run import find_run
from glmstudio.runs.manage import leave_queue
from glmstudio.system import process
from glmstudio.ui.framework.stacking_table import table
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.runs import runs_view
from glmstudio.ui.shell import frame
from glmstudio.ui.state.page_state import PageState, RunsState
from glmstudio.ui.state.runwatch import WATCH, newest_first
from glmstudio.words import LANGUAGES
from tests.e2e.studio import ROOT
from tests.fakes.nvml import FakeDriver
from tests.hostile_text import HOSTILE, harmless

STRIP = """
import sys
from glmstudio.doctor import diagnose
from glmstudio.rundir.run import find_run
from glmstudio.rundir.state import RunState
from glmstudio.ui.runs.hardware_strip import render_hardware
from glmstudio.ui.state.checkup import CHECKUP
from glmstudio.ui.state.runwatch import RunSnapshot
report = diagnose(only=("gpu.driver",))
CHECKUP._put(report=report, gpus=report.gpus)
known = RunSnapshot(find_run("mine"), RunState(sys.argv[1]), "", "", "", False)
print(render_hardware("en", known))
"""


def a_run(home: Path, name: str, state: str, created: float = 1.0, **more: Any) -> None:
    """A run with that state and no more than its record."""
    settings = {"model": "demo", "method": "lora", "steps": 8, "data": "/x/y.jsonl"}
    write_json(home / "runs" / name / "run.json", {"settings": settings, "created": created, "run_id": name} | more)
    write_json(home / "runs" / name / "status.json", {"state": state})
    clear_caches()


def test_a_run_that_left_the_queue_is_neither_on_top_nor_open(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WATCH, "advance", lambda: None)  # whoever looks would start it
    a_run(home, "older", "finished", 5.0)
    a_run(home, "queued", "queued", 9.0)
    write_json(home / "state/queue.json", ["queued"])
    clear_caches()
    assert [known.name for known in newest_first()] == ["queued", "older"]
    leave_queue(find_run("queued"))
    clear_caches()

    assert [known.name for known in newest_first()] == ["older", "queued"]
    shown = runs_view.shown(RunsState())
    assert shown is not None
    assert shown.name == "older"
    assert "Not started" in runs_view.render_list("en", RunsState())
    assert "Resume from the start" in runs_view.render_open("en", RunsState(run="queued"))


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("state", ["finished", "failed", "stopped", "running"])
def test_the_row_the_rail_and_the_run_say_the_same_state(
    home: Path, lang: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = process.identify(os.getpid())
    assert me is not None
    alive = {"supervisor": me.to_json()} if state == "running" else {}
    a_run(home, "mine", state, launched=1.0, **alive)
    if state == "running":
        monkeypatch.setattr(process, "with_cookie", lambda _: [me])
        write_json(home / "runs/mine/progress.json", {"phase": "training"})
    for stopping in (False, True) if state == "running" else (False,):
        if stopping:
            monkeypatch.setitem(WATCH._stages, "mine", None)
        clear_caches()
        words = runs_view.state_words(lang, newest_first()[0])
        assert frame.steps(lang)[2].words == words
        assert f"<span>{words}</span>" in runs_view.render_list(lang, RunsState())
        assert f"<span>{words}</span>" in runs_view.render_open(lang, RunsState())
        assert (f'data-busy="{words}"' in frame.render_rail(lang, PageState())) == (state == "running")


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize(
    ("state", "has_result", "first"),
    [
        ("finished", True, "chat"),
        ("stopped", False, "resume"),
        ("stopped", True, "chat"),
        ("failed", False, "resume"),
        ("running", False, "resume"),  # with nobody there any more: it is lost
    ],
)
def test_after_each_end_one_action_comes_first(home: Path, lang: str, state: str, has_result: bool, first: str) -> None:
    a_run(home, "mine", state, launched=1.0)
    if has_result:
        write_json(home / "runs/mine/result/adapter.json", {})
    clear_caches()
    opened = runs_view.render_open(lang, RunsState())
    buttons = re.findall(r'<button[^>]*gs-look-primary[^>]*data-act="(\w+)"', opened.partition("<details")[0])
    assert buttons == [first]
    assert ('data-act="resume"' in opened) == (state != "finished")
    assert ('data-unfold="versus"' in opened, 'data-unfold="export"' in opened) == (has_result, has_result)


def test_each_gpu_of_a_run_is_shown_with_what_it_does(tmp_path: Path, home: Path) -> None:
    a_run(home, "mine", "running", device="GPU-fake-0001")
    driver = FakeDriver(tmp_path)
    scene = "driver=580.65.06 cuda=13000 v2=1\nRTX|24564|1000|3|40|20000|450000\nRTX|24564|20480|97|88|333000|450000\n"
    html = {
        state: subprocess.run(
            [sys.executable, "-c", STRIP, state],
            env={**os.environ, "GLMSTUDIO_HOME": str(home), **driver.environment(scene)},
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout
        for state in ("running", "finished")
    }  # fmt: skip

    assert html["finished"].strip() == ""
    assert "GPU 0" not in html["running"], "it belongs to somebody else"
    for told in ("GPU 1", "/ 24.0 GiB", "busy 97 %", "88 °C", "333 W", "hot: it may slow down", 'role="meter"'):
        assert told in html["running"], (told, html["running"])


def test_a_table_keeps_its_heads_beside_its_cells() -> None:
    html = table(["a", HOSTILE], [[1, HOSTILE], ["long " * 9, "x"]], keys=["one", "two"])

    assert harmless(html)
    assert 'data-key="two"><td data-label="a" class="gs-long">long' in html
