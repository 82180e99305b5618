"""Runs that survive anything: real runs, real faults. After each one the state is true, nothing is left, and the run
goes on to the losses of a run that was never interrupted."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from glmstudio.cli import main
from glmstudio.files import read_json, write_json
from glmstudio.paths import DEMO
from glmstudio.rundir import state as run_state
from glmstudio.rundir.checkpoints import SEAL, latest, list_checkpoints
from glmstudio.rundir.run import Run, find_run, list_runs, wait_until_gone
from glmstudio.runs.resume import resume_run
from glmstudio.runs.stop import stop_run
from glmstudio.system import process
from tests.marks import rare
from tests.run_helpers import LONG, STEPS, about_of, begin, ended, losses, problem, same, wait_for_step, who
from tests.waiting import until

ROOT = Path(__file__).parents[1]


def hit(run: Run, part: str, number: int) -> None:
    """Signal one part of the run."""
    assert process.send(who(run)[part], number), part


def shown(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What `runs list --json` prints."""
    capsys.readouterr()
    assert main(["runs", "list", "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


def finish(run: Run, reference: Callable[..., list[tuple[int, float]]], steps: int = STEPS) -> None:
    """Go on to the end: the losses are those of the run that was never interrupted."""
    if not run.read_state().live:
        resume_run(run)
    assert ended(run, 240) == ("finished", None), run.log()[0][-3000:]
    same(losses(run), reference(steps))


KILLED = {"rank": "runs.killed", "agent": "runs.killed", "loader": "runs.loader_killed"}


def begun_at(run: Run) -> int:
    """The step after which this attempt goes on."""
    return int(run.record.resumed[-1]["step"]) if run.record.resumed else 0


def kill(run: Run, part: str) -> None:
    """Kill one part, a step after the last save; then go on."""
    wait_for_step(run, begun_at(run) + 1)
    hit(run, part, signal.SIGKILL)
    if part == "supervisor":
        # The training goes on; whoever ends it then, nobody is left to write that down.
        before = run.read_state()
        assert (before.state, before.problem) == ("running", None)
        wait_for_step(run, before.step + 1)
        hit(run, "agent", signal.SIGKILL)
        assert ended(run) == ("lost", "runs.lost_killed")
    else:
        assert ended(run) == ("failed", KILLED[part]), (part, run.log()[0][-3000:])
    newest = latest(run.path / "checkpoints")
    resume_run(run)
    assert run.record.resume == (newest.path.name if newest else None)


def move_away(run: Run, elsewhere: Path) -> None:
    """Move the run's directory away while it goes on, and put it back once it has ended; then go on."""
    wait_for_step(run, begun_at(run) + 1)
    run_id = run.record.attempt.run_id
    run.path.rename(elsewhere)
    wait_for_none(run_id)
    assert list(run.path.parent.iterdir()) == [], "no ghost comes back"
    elsewhere.rename(run.path)
    state = run.read_state()
    assert state.problem is not None
    assert (state.state, state.problem.what()) == (
        "failed", f"The folder {run.path} was moved or deleted during the run, so the run ended.",
    )  # fmt: skip
    resume_run(run)


def wait_for_none(run_id: str) -> None:
    """Until no process carries the run id."""
    until(lambda: not process.with_cookie(run_id), why=lambda: process.with_cookie(run_id))


@pytest.mark.slow
def test_whatever_is_killed_or_moved_nothing_is_lost(
    clean: Path, reference: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begin(tmp_path, loader_processes=1)
    for part in ("rank", "loader", "agent", "supervisor"):
        kill(run, part)
    move_away(run, tmp_path / "away")
    assert [row["state"] for row in shown(capsys)] in (["starting"], ["running"])
    assert len(run.record.resumed) == 5
    finish(run, reference)
    assert shown(capsys) == [{"name": "run", "state": "finished", "step": STEPS, "steps": STEPS}]


@pytest.mark.rare
@pytest.mark.parametrize("wanted", [7, 20])
def test_killed_many_times_at_random_moments(wanted: int, clean: Path, reference: Any, tmp_path: Path) -> None:
    dice, kills, steps = random.Random(20), 0, 30 * wanted
    run = begin(tmp_path, steps=steps, loader_processes=1)
    while kills < wanted:
        step = begun_at(run)
        if dice.random() < 0.75:
            wait_for_step(run, min(steps - 1, step + dice.randint(1, 8)))
            time.sleep(dice.uniform(0, 0.2))
        else:
            time.sleep(dice.uniform(0, 4))  # while it starts, or reads
        while run.read_state().live:
            if not (left := run.processes()):
                continue  # it is hardly born
            victim = dice.choice(left)
            supervises = "glmstudio.runs.supervise" in psutil.Process(victim.pid).cmdline()
            kills += process.send(victim, signal.SIGKILL)
            if not supervises:  # without a supervisor the training goes on
                break
        state, _ = ended(run, 20)
        if state == "finished":
            break
        assert state in ("failed", "lost"), run.log()[0][-3000:]
        resume_run(run)
    assert kills >= wanted, "it finished too early to be hit often enough"
    finish(run, reference, steps)


@pytest.mark.rare
def test_signals_end_a_run_that_says_so_in_any_home(
    home: Path, reference: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLMSTUDIO_HOME", str(home / "我的 工作 间"))
    run = begin(tmp_path, "第 一 次")
    for part, number in (
        ("supervisor", signal.SIGTERM), ("agent", signal.SIGTERM), ("rank", signal.SIGTERM),
        ("agent", signal.SIGHUP), ("rank", signal.SIGHUP),
    ):  # fmt: skip
        wait_for_step(run, begun_at(run) + 1)
        hit(run, "supervisor", signal.SIGHUP)  # a terminal that closes
        hit(run, "supervisor", signal.SIGINT)
        hit(run, part, number)
        assert ended(run) == ("failed", "runs.ended_from_outside"), (part, number, run.log()[0][-3000:])
        told = run.read_state().problem
        assert told is not None
        assert told.what() == f"The training was ended from outside with the signal {number.name}.", part
        resume_run(run)
    finish(run, reference)


@pytest.mark.slow
@pytest.mark.parametrize("how", [rare(signal.SIGINT), signal.SIGKILL])
def test_a_run_outlives_whoever_started_it(clean: Path, tmp_path: Path, how: signal.Signals) -> None:
    code = (
        "import sys, time; from pathlib import Path; from tests.run_helpers import begin\n"
        f"begin(Path({str(tmp_path)!r})); print('begun', flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )  # fmt: skip
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"begun\n"
    os.killpg(parent.pid, how)
    assert parent.wait() == -how
    run = find_run("run")
    wait_for_step(run, 3)
    assert run.read_state().state == "running"


@pytest.mark.slow
@pytest.mark.parametrize("when", ["starting", "training"])
def test_a_run_deleted_in_the_middle_leaves_nothing(clean: Path, tmp_path: Path, when: str) -> None:
    run = begin(tmp_path, **LONG)
    if when == "training":
        wait_for_step(run, 2)
    run_id = run.record.attempt.run_id
    while run.path.exists():  # it writes a file while its folder is emptied
        shutil.rmtree(run.path, ignore_errors=True)
    wait_for_none(run_id)
    assert list(clean.joinpath("runs").iterdir()) == []
    assert list_runs() == []


@pytest.mark.slow  # 12 s
def test_a_run_that_hangs_says_so_and_is_ended(clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_state, "_SILENT", 3.0)
    run = begin(tmp_path, **LONG)
    wait_for_step(run, 20)
    assert run.read_state().silent is None
    hit(run, "rank", signal.SIGSTOP)
    time.sleep(5.5)  # the heartbeat before it may be 2 s old
    state = run.read_state()
    assert state.state == "running"
    assert state.silent is not None
    assert state.silent > 3
    hit(run, "agent", signal.SIGSTOP)
    stages = list(stop_run(run, now=True))
    assert [stage.key for stage in stages] == ["runs.stage.asking", "runs.stage.gone"], (
        "who is suspended is woken first"
    )
    proof = read_json(run.path / "proof.json")
    assert (proof["processes"], proof["port"], proof["port_free"]) == (0, None, True)
    assert proof["memory"] > 100e6
    text = stages[-1].text()
    assert text.startswith("Nothing of the run is left: 0 processes, no open port, ")
    assert text.endswith(" of memory were freed.")
    assert ended(run) == ("stopped", None)


@pytest.mark.slow
def test_ranks_that_ignore_the_signal_are_ended_in_time(
    clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = tmp_path / "deaf"
    deaf.mkdir()
    (deaf / "sitecustomize.py").write_text(
        "import os, signal, time\n"
        "def hang(*_):\n    while True:\n        time.sleep(1)\n"
        "if 'RANK' in os.environ:\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    signal.signal(signal.SIGUSR1, hang)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(deaf))
    run = begin(tmp_path, **LONG)
    wait_for_step(run, 2)
    hit(run, "rank", signal.SIGUSR1)
    began = time.monotonic()
    stages = [stage.key for stage in stop_run(run, now=True)]
    assert time.monotonic() - began > 20, "the rank was not deaf"
    assert stages[-1] == "runs.stage.gone"
    assert ended(run) == ("stopped", None)


@pytest.mark.slow
def test_stop_and_save_takes_a_step_and_a_save(clean: Path, tmp_path: Path) -> None:
    run = begin(tmp_path, **LONG)
    before = wait_for_step(run, 3)
    stages = list(stop_run(run))
    assert [stage.key for stage in stages] == ["runs.stage.saving", "runs.stage.gone"]
    state = run.read_state()
    assert (state.state, state.problem) == ("stopped", None)
    assert state.step - before.step < 1000, "it ended after the step that it was at, not after all of them"
    newest = latest(run.path / "checkpoints")
    assert newest is not None
    assert newest.step == state.step
    assert run.result is not None
    assert read_json(run.path / "proof.json")["processes"] == 0
    assert [stage.key for stage in stop_run(run)] == ["runs.stage.over"]
    # A step taken back: the same run again, without its last save, has the step before it to go on from.
    assert problem(resume_run, run, step=state.step + 1).key == "runs.no_checkpoint"


def test_a_worker_whose_torchrun_is_gone_does_not_begin(tmp_path: Path) -> None:
    told = {"RANK": "0", process.COOKIE: "f" * 32}  # this process, its parent, does not carry that
    done = subprocess.run(
        [sys.executable, "-m", "glmstudio.train", str(tmp_path)], cwd=ROOT, env=os.environ | told, timeout=60
    )
    assert done.returncode == -signal.SIGKILL


def spoil(folder: Path, how: str) -> None:
    """Cut a checkpoint short, or change its bytes."""
    if how == "truncated":
        os.truncate(folder / "optimizer.pt", 100)
    elif how == "unsealed":
        (folder / SEAL).unlink()
    elif how == "empty":
        for file in folder.iterdir():
            file.unlink()
    elif how == "link":
        real = folder.rename(folder.with_name("elsewhere"))
        folder.symlink_to(real)
    elif how == "dangling":
        (folder / "optimizer.pt").unlink()
        (folder / "optimizer.pt").symlink_to("/nowhere")
    elif how == "renumbered":
        step = int(folder.name.removeprefix("checkpoint-"))
        folder.rename(folder.with_name(f"checkpoint-{step + 1}"))
    else:
        file = folder / how
        file.write_bytes(b"\xa5" * file.stat().st_size)


CUT = ["truncated", "unsealed", "empty", "link", "dangling", "renumbered"]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that was killed a while after two saves."""
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLMSTUDIO_HOME", str(folder / "home"))
        run = begin(folder)
        wait_for_step(run, 12)
        hit(run, "rank", signal.SIGKILL)
        assert ended(run) == ("failed", "runs.killed")
        for each in list_checkpoints(run.path / "checkpoints"):
            if not each.whole:  # it was killed at a save
                shutil.rmtree(each.path)
        assert len(list_checkpoints(run.path / "checkpoints")) == 2
    return run.path


def copy_of(interrupted: Path, home: Path) -> Run:
    shutil.copytree(interrupted, home / "runs" / "run", symlinks=True)
    return find_run("run")


@pytest.mark.slow
@pytest.mark.parametrize("how", CUT)
def test_a_checkpoint_cut_short_is_not_gone_on_from(clean: Path, interrupted: Path, how: str) -> None:
    run = copy_of(interrupted, clean)
    older, newer = list_checkpoints(run.path / "checkpoints")
    spoil(newer.path, how)
    found = latest(run.path / "checkpoints")
    assert found is not None
    assert found.step == older.step


@pytest.mark.slow
def test_a_run_goes_on_from_the_checkpoint_before_a_broken_one(clean: Path, interrupted: Path, reference: Any) -> None:
    run = copy_of(interrupted, clean)
    older, newer = list_checkpoints(run.path / "checkpoints")
    spoil(newer.path, "link")  # and nothing is written through the link
    elsewhere = newer.path.with_name("elsewhere")
    before = {file.name: file.read_bytes() for file in elsewhere.iterdir()}
    resume_run(run)
    assert run.record.resume == older.path.name
    finish(run, reference)
    assert {file.name: file.read_bytes() for file in elsewhere.iterdir()} == before


@pytest.mark.rare
def test_a_damaged_checkpoint_is_refused_and_an_older_one_works(clean: Path, interrupted: Path, reference: Any) -> None:
    run = copy_of(interrupted, clean)
    older, newer = list_checkpoints(run.path / "checkpoints")
    spoil(newer.path, "optimizer.pt")
    resume_run(run)
    assert ended(run) == ("failed", "runs.checkpoint_broken")
    told = run.read_state().problem
    assert told is not None
    assert told.what() == f"The checkpoint {newer.path} is damaged: optimizer.pt differs from what was written."
    assert "Traceback" not in run.log()[0].split("is damaged")[0].rpartition("checkpoint")[2]
    other = resume_run(run, step=older.step)
    assert (other.name, other.record.branched_from) == (f"run-{older.step}", {"run": "run", "step": older.step})
    finish(other, reference)


@pytest.mark.slow
def test_a_model_that_vanished_is_named(clean: Path, interrupted: Path, tmp_path: Path) -> None:
    run = copy_of(interrupted, clean)
    about = about_of(run)
    gone = str(tmp_path / "gone")
    write_json(run.path / "run.json", about | {"settings": about["settings"] | {"model": gone}})
    rows = (run.path / "metrics.jsonl").read_bytes()
    error = problem(resume_run, run)
    assert gone in error.what()
    assert (run.path / "metrics.jsonl").read_bytes() == rows
    assert run.read_state().state == "failed"


def test_after_a_reboot_no_process_is_looked_for(
    clean: Path, interrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(interrupted, clean)
    about = about_of(run)
    for name in ("supervisor", "agent"):
        about[name] = about[name] | {"boot_id": "another boot", "pid": os.getpid()}
    write_json(run.path / "run.json", about)
    write_json(run.path / "status.json", {"state": "running"})
    (run.path / "progress.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(process, "with_cookie", lambda _: pytest.fail("a scan of all processes"))
        state = run.read_state()
    assert state.problem is not None
    assert (state.state, state.problem.what()) == ("lost", "The machine was restarted during this run.")
    # It was restarted before the supervisor could write who it is.
    for name in ("supervisor", "agent"):
        del about[name]
    write_json(run.path / "run.json", about | {"boot": "another boot"})
    told = run.read_state().problem
    assert told is not None
    assert told.key == "runs.lost_reboot"


@pytest.mark.slow
def test_a_clock_that_was_set_back_changes_no_state(clean: Path, interrupted: Path, tmp_path: Path) -> None:
    run = copy_of(interrupted, clean)
    later = time.time() + 1e6
    progress = read_json(run.path / "progress.json")
    write_json(run.path / "run.json", about_of(run) | {"created": later, "launched": later})
    write_json(run.path / "progress.json", progress | {"time": later})
    write_json(run.path / "status.json", {"state": "running"})
    assert ended(run) == ("lost", "runs.lost_killed")
    live = begin(tmp_path, "live", **LONG)
    about = about_of(live)
    write_json(live.path / "run.json", about | {"created": later, "launched": later})
    assert live.read_state().state == "starting"
    assert [stage.key for stage in stop_run(live, now=True)][-1] == "runs.stage.gone"
    assert wait_until_gone(live)


@pytest.mark.slow
def test_a_loss_that_runs_away_stops_the_run_with_its_last_checkpoint(clean: Path, tmp_path: Path) -> None:
    changes = {"method": "full", "learning_rate": 1.0, "max_grad_norm": 1e6, "warmup_steps": 200, "steps": 300}
    run = begin(tmp_path, save_every=10, keep_checkpoints=9, **changes)
    assert ended(run, 120) == ("failed", "runs.loss_exploded"), (run.read_state(), run.log()[0][-2000:])
    told = run.read_state().problem
    assert told is not None
    assert told.values["loss"] > 2 * told.values["best"] + 2
    saved = list_checkpoints(run.path / "checkpoints")
    assert [each.step for each in saved] == list(range(10, told.values["step"], 10))[-9:], "the last nine before it"
    assert all(each.whole for each in saved)


@pytest.mark.slow
def test_a_model_whose_numbers_break_is_stopped_before_the_step(clean: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    model = shutil.copytree(DEMO / "model", tmp_path / "broken")
    tensors = load_file(model / "model.safetensors")
    tensors["transformer.encoder.final_layernorm.weight"][0] = float("nan")
    save_file(tensors, model / "model.safetensors")
    run = begin(tmp_path, model=str(model))
    assert ended(run, 120) == ("failed", "runs.gradient_not_finite")
    state = run.read_state()
    assert state.problem is not None
    assert (state.step, state.problem.what()) == (
        0, "The gradient at step 1 is not finite, so the run was stopped before it could do harm.",
    )  # fmt: skip
