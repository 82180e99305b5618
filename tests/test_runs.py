"""Runs with real torchrun on the demo model: they finish, survive, stop, fail in plain words, and leave nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from glmstudio.cli import main
from glmstudio.config.presets import load_preset
from glmstudio.errors import StudioError
from glmstudio.files import read_json, write_json
from glmstudio.paths import DEMO, SAMPLE
from glmstudio.planning.resolve import RunRequest
from glmstudio.rundir.run import find_run, list_runs, wait_for_end, wait_until_gone
from glmstudio.runs.start import start_run
from glmstudio.runs.stop import stop_run
from glmstudio.system import process

PRESET = "demo/ptuning_v2"


def test_a_run_finishes_and_leaves_both_formats(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(DEMO / "model", home / "mine")
    monkeypatch.chdir(home)  # the model's folder is found from wherever it was named
    changes = {"model": "mine", "steps": 6, "save_every": 4, "gradient_checkpointing": "on"}
    run = start_run(load_preset(PRESET), name="first run", changes=changes)
    assert run.model == str(home / "mine")
    assert run.read_state().live
    state = wait_for_end(run, seconds=180)
    assert (state.state, state.step, state.steps, state.problem) == ("finished", 6, 6, None), run.log()[0][-3000:]
    assert run.result == run.path / "result"
    assert (run.path / "result/official/pytorch_model.bin").is_file()
    assert sorted(folder.name for folder in (run.path / "checkpoints").iterdir()) == ["checkpoint-4", "checkpoint-6"]
    rows, offset = run.metrics()
    assert [row["step"] for row in rows if "validation_loss" in row] == [4, 6], "the sample is enough to validate"
    rows = [row for row in rows if "loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(row["tokens"] > 0 and row["loss"] > 0 and row["grad_norm"] > 0 for row in rows)
    assert run.metrics(offset) == ([], offset)
    assert run.record.attempt.argv[1:6] == (
        "-m",
        "glmstudio.train.distributed.torchrun",
        "--nnodes=1",
        "--nproc-per-node=1",
        "-m",
    )
    assert "port" not in read_json(run.path / "run.json")
    assert wait_until_gone(run)
    assert list_runs() == [run]
    with pytest.raises(StudioError, match="There is already a run named first run"):
        start_run(load_preset(PRESET), name="first run")


def test_lost_runs_are_told_apart(home: Path) -> None:
    folder = home / "runs/old"
    gone = {"boot_id": "another boot", "pid": 999_999, "started": 1}
    write_json(folder / "run.json", {"run_id": "x" * 32, "settings": {"steps": 9}, "created": 1.0, "supervisor": gone})
    write_json(folder / "status.json", {"state": "running"})
    state = find_run("old").read_state()
    assert state.state == "lost"
    assert state.problem is not None
    assert state.problem.what() == "The machine was restarted during this run."
    mine = process.identify(os.getpid())
    assert mine is not None
    write_json(
        folder / "run.json", {"run_id": "x" * 32, "created": 1.0, "supervisor": gone | {"boot_id": mine.boot_id}}
    )
    state = find_run("old").read_state()
    assert state.problem is not None
    assert state.problem.key == "runs.lost_killed"


def test_half_written_files_do_not_confuse_a_reader(home: Path) -> None:
    folder = home / "runs/half"
    write_json(folder / "run.json", {"run_id": "", "settings": {"steps": 9}, "created": time.time()})
    (folder / "status.json").write_text('{"state": "fini')
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0, "seconds": 1}\n{"step": 2, "lo')
    run = find_run("half")
    assert run.read_state().step == 1
    rows, offset = run.metrics()
    assert [row["step"] for row in rows] == [1]
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('ss": 1.5}\n')
    assert run.metrics(offset)[0] == [{"step": 2, "loss": 1.5}]


@pytest.mark.parametrize(
    ("written", "read"), [(0.25, 0.25), (None, None), (7, None), ("x", None), (float("nan"), None)]
)
def test_how_far_a_validation_is(home: Path, written: object, read: float | None) -> None:
    me = process.identify(os.getpid())
    assert me is not None
    folder = home / "runs/long"
    about = {"run_id": "x" * 32, "settings": {"steps": 9}, "created": 1.0, "supervisor": me.to_json()}
    write_json(folder / "run.json", about)
    write_json(folder / "progress.json", {"phase": "training", "validating": written})
    state = find_run("long").read_state()
    assert (state.state, state.validating) == ("running", read)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "..", " x", "x\n", "a" * 99, "-x"])
def test_a_bad_name_is_refused(home: Path, name: str) -> None:
    if name:
        with pytest.raises(StudioError, match="cannot be used for a run"):
            start_run(load_preset(PRESET), name=name)
    with pytest.raises(StudioError, match="There is no run named"):
        find_run(name)
    assert not (home / "runs").exists() or not list((home / "runs").iterdir())


def test_bad_data_is_refused_before_anything_starts(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text('{"prompt": "x", "response": "y"}\n{}\n')
    with pytest.raises(StudioError) as caught:
        start_run(load_preset(PRESET), data=file)
    assert caught.value.what() == (
        f"1 records of {file} cannot be used; the first is on line 2: The record has no list of messages under "
        "“conversations”."
    )
    assert not (home / "runs").exists()


def test_two_clicks_at_once_start_one_run(home: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def click(_: int) -> bool:
        try:
            start_run(load_preset(PRESET), name="same", changes={"steps": 1})
        except StudioError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(click, range(4))) == [False, False, False, True]
    assert list(stop_run(find_run("same"), now=True))[-1].key == "runs.stage.gone"


def test_the_command_is_the_same_start(home: Path) -> None:
    preset = load_preset(PRESET)
    assert RunRequest(preset, SAMPLE).command() == "python launcher.py train demo/ptuning_v2"
    typed = RunRequest(preset, Path("/a b/c.jsonl"), "x", {"steps": 3}).command()
    assert typed == "python launcher.py train demo/ptuning_v2 --data '/a b/c.jsonl' --name x --set steps=3"


def test_runs_commands_print_their_contract(home: Path) -> None:
    folder = home / "runs/old"
    write_json(folder / "run.json", {"run_id": "x", "settings": {"steps": 9}, "created": 1.0})
    write_json(folder / "status.json", {"state": "finished"})
    done = subprocess.run(
        [sys.executable, "-m", "glmstudio", "runs", "list", "--json"],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == [{"name": "old", "state": "finished", "step": 0, "steps": 9}]
    assert read_json(folder / "status.json") == {"state": "finished"}


@pytest.mark.parametrize("phase", ["stopped", "failed"])
def test_the_trainers_last_word_counts_without_a_supervisor(home: Path, phase: str) -> None:
    folder = home / "runs/alone"
    write_json(folder / "run.json", {"run_id": "x" * 32, "settings": {"steps": 9}, "created": 1.0})
    write_json(folder / "status.json", {"state": "running"})
    write_json(folder / "progress.json", {"phase": phase})
    assert find_run("alone").read_state().state == phase


def test_what_the_system_refuses_is_told_without_a_stack_trace(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = home / "in.json"
    whole = {"input": "a", "intermediate_steps": [], "Final Thought": "b", "output": "c"}
    write_json(source, [{"NLDocumentation": "x", "Instances": [whole]}])
    assert main(["data", "convert", "toolalpaca", str(source), str(home)]) == 1
    assert capsys.readouterr().err.startswith("error: The system refused an operation: Is a directory.")


def test_a_real_model_is_not_trained_on_the_sample_by_accident(home: Path) -> None:
    with pytest.raises(StudioError) as stopped:
        start_run(load_preset("chatglm3-6b/ptuning_v2"))
    assert stopped.value.what("en") == (
        "No data was chosen for chatglm3-6b, and the bundled sample is made for the demo model."
    )
    assert not (home / "runs").exists()
