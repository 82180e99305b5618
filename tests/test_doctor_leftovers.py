"""Leftover processes: real processes, orphaned for real, told apart and ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from glmstudio.doctor import StaleProcess, diagnose, end_stale
from glmstudio.doctor.stale.stale_processes import Listed, Register
from glmstudio.files import write_json
from glmstudio.paths import paths
from glmstudio.system.process import COOKIE, Identity, alive, identify
from tests.waiting import until

JOB = "TORCHELASTIC_RUN_ID"
SLEEP = "import time; time.sleep(120)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(120)"
# Starts a worker as torchrun does (a session of its own, a job id in its environment), says its number, and waits.
AGENT = f"""
import os, subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-c", {SLEEP!r}], env={{**os.environ, "{JOB}": sys.argv[1]}}, start_new_session=True)
print(worker.pid, flush=True)
time.sleep(120)
"""


@pytest.fixture
def agent(spawn: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> tuple[subprocess.Popen[str], Identity]:
    """A job as torchrun runs it: the agent, and who its worker is."""
    program = tmp_path / "torchrun"
    program.write_text(AGENT)
    started = spawn(str(program), uuid.uuid4().hex)
    assert started.stdout is not None
    worker = identify(int(started.stdout.readline()))
    assert worker is not None
    return started, worker


def listed(pid: int) -> StaleProcess | None:
    """What the doctor lists for this process now."""
    return next((process for process in diagnose(only=["proc.stale"]).stale if process.identity.pid == pid), None)


def write_run(name: str, *, state: str = "running", **facts: Any) -> Path:
    """A run's folder as its supervisor writes it."""
    folder = paths().runs / name
    ended = facts.pop("ended", None)
    write_json(folder / "run.json", facts)
    write_json(folder / "status.json", {"state": state, "ended": ended})
    return folder


# --- Telling them apart ----------------------------------------------------------------------------------------------


def test_a_healthy_job_of_someone_else_is_not_listed(home: Path, agent: tuple[subprocess.Popen[str], Identity]) -> None:
    started, worker = agent
    assert listed(worker.pid) is None
    assert listed(started.pid) is None


def test_a_worker_whose_agent_was_killed_is_listed_but_not_ticked(
    home: Path, agent: tuple[subprocess.Popen[str], Identity]
) -> None:
    started, worker = agent
    started.kill()
    started.wait()
    stale = listed(worker.pid)
    assert stale is not None
    assert (stale.kind, stale.ticked, stale.identity) == ("foreign_orphan", False, worker)
    assert (
        stale.why("en") == f"Part of a training whose launcher (torchrun or similar) is gone. Started in {os.getcwd()}."
    )
    assert "time.sleep(120)" in stale.command
    result = diagnose(only=["proc.stale"]).results[0]
    assert result.status == "warning"
    assert str(worker.pid) in result.what("en")


def test_a_run_with_its_supervisor_is_not_listed(home: Path, spawn: Callable[..., subprocess.Popen[str]]) -> None:
    cookie = uuid.uuid4().hex
    supervisor, worker = spawn("-c", SLEEP, **{COOKIE: cookie}), spawn("-c", SLEEP, **{COOKIE: cookie, JOB: "x"})
    owner = identify(supervisor.pid)
    assert owner is not None
    write_run("mine", run_id=cookie, supervisor=owner.to_json())
    assert listed(worker.pid) is None
    supervisor.kill()
    supervisor.wait()
    stale = listed(worker.pid)
    assert stale is not None
    assert (stale.kind, stale.ticked) == ("ours_orphan", True)
    assert stale.why("en") == "Belongs to the run “mine”, whose supervisor is gone."
    assert stale.why("zh") == "属于训练任务“mine”，它的管理进程已不在。"


def test_a_run_that_lives_on_by_its_agent_is_not_listed(
    home: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    cookie = uuid.uuid4().hex
    worker = spawn("-c", SLEEP, **{COOKIE: cookie})
    owner = identify(worker.pid)
    assert owner is not None
    gone = Identity(owner.boot_id, owner.pid, owner.started - 1)
    write_run("mine", run_id=cookie, supervisor=gone.to_json(), agent=owner.to_json())
    assert listed(worker.pid) is None


def test_a_run_that_starts_is_not_listed(home: Path, spawn: Callable[..., subprocess.Popen[str]]) -> None:
    cookie = uuid.uuid4().hex
    worker = spawn("-c", SLEEP, **{COOKIE: cookie})
    write_run("mine", state="starting", run_id=cookie)
    assert listed(worker.pid) is None


@pytest.mark.parametrize(("ago", "kind"), [(5, None), (60, "ours_ended")])
def test_what_is_left_of_an_ended_run_is_listed_after_a_while(
    ago: float, kind: str | None, home: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    cookie = uuid.uuid4().hex
    worker = spawn("-c", SLEEP, **{COOKIE: cookie})
    owner = identify(worker.pid)
    assert owner is not None
    write_run("mine", state="finished", ended=time.time() - ago, run_id=cookie, agent=owner.to_json())
    stale = listed(worker.pid)
    assert (stale.kind if stale else None) == kind


def test_a_run_of_another_home_is_not_listed(home: Path, spawn: Callable[..., subprocess.Popen[str]]) -> None:
    assert listed(spawn("-c", SLEEP, **{COOKIE: uuid.uuid4().hex}).pid) is None


def test_damaged_run_folders_are_passed_over(home: Path, spawn: Callable[..., subprocess.Popen[str]]) -> None:
    cookie = uuid.uuid4().hex
    for name, text in {"a": "{", "b": "[]", "c": '{"run_id": 5}', "d": '{"run_id": "x", "agent": [1]}'}.items():
        (home / "runs" / name).mkdir(parents=True)
        (home / "runs" / name / "run.json").write_text(text)
        (home / "runs" / name / "status.json").write_text("[1")
    assert listed(spawn("-c", SLEEP, **{COOKIE: cookie}).pid) is None
    assert diagnose(only=["proc.stale"]).results[0].status in ("ok", "warning")


# --- Ending them -----------------------------------------------------------------------------------------------------


def test_an_orphan_is_ended_and_noted(home: Path, agent: tuple[subprocess.Popen[str], Identity]) -> None:
    started, worker = agent
    started.kill()
    started.wait()
    stale = listed(worker.pid)
    assert stale is not None
    (result,) = end_stale([stale.token])
    assert (result.pid, result.outcome) == (worker.pid, "ended")
    assert result.text("en") == f"Process {worker.pid} has ended."
    assert not alive(worker)
    (note,) = [json.loads(line) for line in (home / "state" / "changes.jsonl").read_text().splitlines()]
    assert (note["pid"], note["kind"], note["outcome"]) == (worker.pid, "foreign_orphan", "ended")
    assert [each.outcome for each in end_stale([stale.token])] == ["expired"]


def test_one_that_ignores_the_polite_signal_is_ended_with_what_it_started(
    home: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    cookie = uuid.uuid4().hex
    stubborn, other = (spawn("-c", STUBBORN, **{COOKIE: cookie}) for _ in range(2))
    for child in (stubborn, other):
        assert child.stdout is not None
        child.stdout.readline()
    write_run("mine", state="failed", run_id=cookie)
    stale = listed(stubborn.pid)
    assert stale is not None
    (result,) = end_stale([stale.token], polite=0.3)
    assert result.outcome == "ended"
    assert stubborn.wait(5) == -signal.SIGKILL
    assert other.wait(5) == -signal.SIGKILL


def test_one_that_is_no_longer_stale_is_left_alone(home: Path, spawn: Callable[..., subprocess.Popen[str]]) -> None:
    cookie = uuid.uuid4().hex
    worker = spawn("-c", SLEEP, **{COOKIE: cookie})
    owner = identify(worker.pid)
    assert owner is not None
    write_run("mine", state="lost", run_id=cookie)
    stale = listed(worker.pid)
    assert stale is not None
    write_run("mine", state="running", run_id=cookie, supervisor=owner.to_json())  # a new studio took the run over
    (result,) = end_stale([stale.token])
    assert result.outcome == "changed"
    assert worker.poll() is None


def test_one_that_ended_by_itself_is_gone(home: Path, spawn: Callable[..., subprocess.Popen[str]]) -> None:
    cookie = uuid.uuid4().hex
    worker = spawn("-c", SLEEP, **{COOKIE: cookie})
    write_run("mine", state="lost", run_id=cookie)
    stale = listed(worker.pid)
    assert stale is not None
    worker.kill()
    worker.wait()
    assert [each.outcome for each in end_stale([stale.token])] == ["gone"]


def test_unknown_and_old_tokens_end_nothing(home: Path, spawn: Callable[..., subprocess.Popen[str]]) -> None:
    assert [(each.pid, each.outcome) for each in end_stale(["1", str(os.getpid())])] == [(None, "expired")] * 2
    identity = identify(os.getpid())
    assert identity is not None
    entry = Listed(StaleProcess("t", identity, "ours_orphan", "", 0.0, True), None)
    register = Register(lifetime=0.05)
    register.add((entry,))
    assert register.take("t") is entry
    register.add((entry,))
    time.sleep(0.1)
    assert register.take("t") is None


def test_the_workers_of_a_real_torchrun_that_was_killed(
    home: Path, spawn: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    entry = tmp_path / "entry.py"
    entry.write_text(
        f"import os\nopen(os.path.join({str(tmp_path)!r}, 'rank' + os.environ['RANK']), 'w').close()\n{SLEEP}\n"
    )
    started = spawn(
        "-m", "torch.distributed.run", "--nnodes=1", "--nproc-per-node=2", "--master-addr=127.0.0.1", "--master-port=0",
        str(entry),
    )  # fmt: skip
    until(lambda: all((tmp_path / f"rank{rank}").exists() for rank in range(2)), 60)
    workers = psutil.Process(started.pid).children(recursive=True)
    assert len(workers) == 2
    assert [listed(worker.pid) for worker in workers] == [None, None]
    started.kill()
    started.wait()
    stale = [
        process for process in diagnose(only=["proc.stale"]).stale if process.identity.pid in {w.pid for w in workers}
    ]
    assert [process.kind for process in stale] == ["foreign_orphan"] * 2
    assert [result.outcome for result in end_stale([process.token for process in stale])] == ["ended"] * 2
