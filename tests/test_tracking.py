"""Experiment trackers: what they get, what they never get, and that no run depends on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from glmstudio.config.presets import load_preset
from glmstudio.files import read_table, write_json
from glmstudio.paths import ROOT
from glmstudio.rundir.run import Run, find_run, wait_for_end, wait_until_gone
from glmstudio.runs.start import start_run
from glmstudio.runs.tracking import TRACKERS, tracking_problem
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.runs import runs_view
from glmstudio.ui.state.page_state import RunsState
from tests.hostile_text import HOSTILE, harmless
from tests.run_helpers import small_data

# A tracker that writes down what it is given.
RECORDER = """
import json, os, pathlib
kept = {"log": []}
def write(): pathlib.Path(os.environ["KEPT"]).write_text(json.dumps(kept))
def init(**given): kept["init"] = given; write()
def log(values, step): kept["log"].append([step, values]); write()
def finish(): kept["finished"] = True; write()
"""


def a_run(home: Path, tracker: str, **more: Any) -> Run:
    """The folder of a run that was measured."""
    folder = home / "runs/mine"
    private = {"data": "/home/anna/data.jsonl", "validation": "/home/anna/v.jsonl", "sample_prompt": "my secret"}
    settings = {"model": "demo", "steps": 3, "report_to": tracker, **private}
    write_json(folder / "run.json", {"run_id": "1", "settings": settings, "created": 1.5, **more})
    write_json(folder / "status.json", {"state": "finished", "ended": 5.0})
    rows = [{"step": 1, "loss": 3.0, "seconds": 1.0}, {"step": 2, "loss": 2.0}, {"step": 2, "validation_loss": 2.5}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    clear_caches()
    return find_run("mine")


def track(run: Run, path: str, **variables: str) -> dict[str, Any]:
    """Track to the end in a process, as the supervisor has it done; returns what it left for the page."""
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    argv = [sys.executable, "-m", "glmstudio.runs.tracking", str(run.path)]
    subprocess.run(argv, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, timeout=240, check=False)
    return read_table(run.path / "tracker.json")


def test_a_tracker_gets_every_figure_and_nothing_private(home: Path, tmp_path: Path) -> None:
    (tmp_path / "trackio.py").write_text(RECORDER)
    told = track(a_run(home, "trackio"), str(tmp_path), KEPT=str(tmp_path / "kept.json"))
    text = (tmp_path / "kept.json").read_text()
    kept = json.loads(text)

    assert told == {}
    assert kept["log"] == [[1, {"train/loss": 3.0}], [2, {"train/loss": 2.0}], [2, {"eval/loss": 2.5}]]
    assert kept["init"] == {
        "project": "glm-studio", "config": {"model": "demo", "steps": 3, "report_to": "trackio"}, "name": "mine",
    }  # fmt: skip
    assert kept["finished"]
    assert "anna" not in text


def test_a_resumed_run_sends_only_what_is_new(home: Path, tmp_path: Path) -> None:
    (tmp_path / "trackio.py").write_text(RECORDER)
    run = a_run(home, "trackio", resume="x", resumed=[{"step": 2}])
    track(run, str(tmp_path), KEPT=str(tmp_path / "kept.json"))

    assert json.loads((tmp_path / "kept.json").read_text())["log"] == []


@pytest.mark.parametrize(
    ("source", "key"),
    [
        (None, "runs.tracker_missing"),
        ("raise ImportError('half installed')", "runs.tracker_failed"),
        (f"import sys\ndef init(**_): sys.exit({HOSTILE!r})", "runs.tracker_failed"),
        ("def init(**_): pass\ndef log(*_, **__): raise OSError('no network')", "runs.tracker_failed"),
    ],
)
def test_a_tracker_that_fails_is_told_on_the_page(home: Path, tmp_path: Path, source: str | None, key: str) -> None:
    if source:
        (tmp_path / "swanlab.py").write_text(source)
    run = a_run(home, "swanlab")
    track(run, str(tmp_path))
    problem = tracking_problem(run)
    html = runs_view.render_open("en", RunsState(run="mine"))

    assert problem is not None
    assert problem.key == key
    assert "The run itself is not affected" in html
    assert harmless(html)


@pytest.mark.slow
def test_a_run_finishes_whatever_its_tracker_does(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb.py").write_text("import os\ndef init(**_): os._exit(9)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    changes = {"steps": 3, "batch_size": 2, "report_to": "wandb", "save_every": 3}
    run = start_run(load_preset("demo/smoke"), data=small_data(tmp_path), name="mine", changes=changes)

    assert wait_for_end(run, seconds=180).state == "finished", run.log()[0][-2000:]
    assert wait_until_gone(run), run.processes()


@pytest.mark.rare
@pytest.mark.parametrize("name", list(TRACKERS))
def test_the_real_trackers_take_the_figures_without_a_network(home: Path, tmp_path: Path, name: str) -> None:
    pytest.importorskip(name)
    run = a_run(home, name)
    offline = {"WANDB_MODE": "offline", "SWANLAB_MODE": "offline", "TRACKIO_DIR": str(tmp_path / "trackio")}
    told = track(run, os.environ.get("PYTHONPATH", ""), **offline, HOME=str(tmp_path))

    assert told == {}
    files = [file for folder in (run.path, tmp_path) for file in folder.rglob("*") if file.is_file()]
    assert any(file.suffix in (".wandb", ".swanlab", ".db") or "swanlog" in str(file) for file in files), files
