"""Run directories as nobody should leave them: damaged, edited, or of another version. Each spoils only its own row."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glmstudio.config.settings import Settings
from glmstudio.errors import StudioError
from glmstudio.files import write_json
from glmstudio.rundir.record import folder_mark
from glmstudio.rundir.run import Run, find_run, list_runs
from glmstudio.runs.export import export_run
from glmstudio.runs.manage import delete_run
from glmstudio.runs.stop import stop_run
from glmstudio.system.process import COOKIE, identify
from glmstudio.train.worker import train
from glmstudio.ui.finetune import start_bar
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.runs import compare, runs_view
from glmstudio.ui.state.page_state import FinetuneState, RunsState

ROWS = '{"step": 1, "loss": 1.0, "seconds": 1, "learning_rate": 0.1, "memory": 5}\n{"step": 2, "loss": 0.5}\n'
SEAL = {"step": 5, "files": {"a": 1}}
TOLD: dict[str, dict[str, Any]] = {
    "settings that are a list": {"run.json": {"settings": [1]}},
    "settings that are none": {"run.json": {"settings": None}},
    "settings of other kinds": {"run.json": {"settings": {"nope": 1, "model": 5, "data": [1], "steps": "abc"}}},
    "steps without end": {"run.json": {"settings": {"steps": 1e400, "data": 5, "model": None}}},
    "made on no day": {"run.json": {"created": "abc"}},
    "made after the end of time": {"run.json": {"created": 1e17}},
    "other kinds": {"run.json": {"created": None, "resumed": 5, "argv": 5, "device": [1], "boot": [1]}},
    "odd processes": {"run.json": {"supervisor": None, "monotonic": "x"}, "status.json": {"state": "starting"}},
    "a status that is a list": {"status.json": [1]},
    "a state that is none": {"status.json": {"state": "<b>odd", "ended": "x"}},
    "an end that is no time": {"status.json": {"state": "finished", "ended": "x"}},
    "an unknown problem": {"status.json": {"state": "failed", "problem": {"key": "nope", "values": {}}}},
    "a problem without values": {"status.json": {"state": "failed", "problem": {"key": "runs.disk_full", "values": {}}}},
    "a problem of lists": {"status.json": {"state": "failed", "problem": {"key": "runs.disk_full", "values": [1]}}},
    "progress that is a list": {"progress.json": [1], "status.json": {"state": "running"}},
    "odd progress": {"progress.json": {"phase": [1], "monotonic": "x", "time": "y"}, "status.json": {"state": "running"}},
    "metrics that are words": {"metrics.jsonl": '{"step": "a", "loss": "b"}\n{"step": 1, "loss": {}, "seconds": "x"}\n'},
    "metrics without end": {"metrics.jsonl": '{"step": 1e400, "loss": 1e400}\n{"step": 1, "validation_loss": NaN}\n'},
    "metrics too far apart": {"metrics.jsonl": '{"step": 1, "loss": 1e308}\n{"step": 2, "loss": -1e308}\n'},
    "odd samples": {"samples.jsonl": '{"step": "a", "question": [], "answer": {}}\n{"step": 1, "answer": 5}\n'},
    "odd notes and records": {"notes.json": [1], "records.json": [1]},
    "an odd checkpoint": {
        "checkpoints/checkpoint-5/checkpoint.json": SEAL | {"time": "x", "loss": "y", "validation_loss": [1]},
        "checkpoints/checkpoint-5/a": "x",
        "checkpoints/checkpoint-6/checkpoint.json": SEAL | {"step": 6, "time": 1e17, "validation_loss": 2},
        "checkpoints/checkpoint-6/a": "x",
    },
    "an unknown proof": {"proof.json": {"run_id": "r", "key": "nope"}, "status.json": {"state": "stopped"}},
    "a proof without values": {"proof.json": {"run_id": "r", "key": "runs.stage.gone"}, "status.json": {"state": "stopped"}},
}  # fmt: skip


def make_run(folder: Path, files: dict[str, Any]) -> None:
    """A finished run, with some of its files as told."""
    about = {"run_id": "r", "settings": dataclasses.asdict(Settings()), "preset": "demo/lora", "created": 1.0}
    whole: dict[str, Any] = {"status.json": {"state": "finished", "ended": 5.0}, "result/adapter.json": {}}
    for name, told in (
        whole | {"metrics.jsonl": ROWS} | files | {"run.json": about | files.get("run.json", {})}
    ).items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(told if isinstance(told, str) else json.dumps(told), encoding="utf-8")
    clear_caches()


@pytest.mark.parametrize("files", TOLD.values(), ids=TOLD.keys())
def test_a_damaged_run_breaks_no_part_of_the_page(files: dict[str, Any], home: Path) -> None:
    make_run(home / "runs" / "odd", files)
    make_run(home / "runs" / "good", {})
    for lang in ("en", "zh"):
        assert 'data-run="good"' in runs_view.render_list(lang, RunsState())
        assert "<h2>odd</h2>" in runs_view.render_open(lang, RunsState(run="odd"))
        compare.render_compare(lang, RunsState(compared=("odd", "good")))
        start_bar.render_bar(lang, FinetuneState())
    assert {run.name for run in list_runs()} == {"odd", "good"}


def test_a_copy_of_a_run_that_goes_on_has_none_of_its_processes(
    home: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    folder = home / "runs" / "first"
    folder.mkdir(parents=True)
    stand = f"import os, time; os.chdir({str(folder)!r}); print(flush=True); time.sleep(100)"
    child = spawn("-S", "-c", stand, **{COOKIE: "of the first"})
    assert child.stdout is not None
    child.stdout.readline()
    who = identify(child.pid)
    assert who is not None
    about = {"run_id": "of the first", "supervisor": who.to_json(), "settings": {}}
    write_json(folder / "run.json", about | {"place": folder_mark(folder)})
    write_json(folder / "status.json", {"state": "running"})
    copy = Run("copy", Path(shutil.copytree(folder, folder.with_name("copy"))))
    first = Run("first", folder)

    assert (first.read_state().live, [each.pid for each in first.processes()]) == (True, [child.pid])
    state = copy.read_state()
    assert (state.state, state.problem and state.problem.key, copy.processes()) == ("lost", "runs.copied", [])
    assert [stage.key for stage in stop_run(copy, now=True)] == ["runs.stage.over"]
    delete_run(copy)
    assert child.poll() is None
    # Where a disk gives a folder another mark, and there is no second one, it is the run.
    write_json(folder / "run.json", about | {"place": "1:1"})
    assert first.read_state().live


def test_settings_of_another_version_are_told_and_missing_ones_are_the_usual(home: Path, tmp_path: Path) -> None:
    settings = dataclasses.asdict(Settings())
    make_run(home / "runs" / "newer", {"run.json": {"settings": settings | {"later": 1}}})
    assert train(home / "runs" / "newer") == 1
    told = find_run("newer").read_state().problem
    assert told is not None
    assert "There is no setting later." in told.what()
    with pytest.raises(StudioError):
        export_run(find_run("newer"), "bundle", tmp_path / "newer")
    del settings["seed"]
    make_run(home / "runs" / "older", {"run.json": {"settings": settings}})
    folder = export_run(find_run("older"), "bundle", tmp_path / "older")
    assert "seed = 42" in (folder / "preset.toml").read_text()


def test_a_run_name_that_no_disk_can_hold_is_unknown(home: Path) -> None:
    write_json(home / "runs" / "good" / "run.json", {})
    for name in ("x" * 5000, "a\0b", "..", "../runs/good", "/etc"):
        with pytest.raises(StudioError) as raised:
            find_run(name)
        assert raised.value.key == "runs.unknown"
