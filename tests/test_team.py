"""Several processes that train one run: the steps of one process, saved and resumed on any number of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from glmstudio.files import read_json, write_json
from glmstudio.paths import child_environment
from glmstudio.rundir.fingerprint import difference, differs
from glmstudio.rundir.run import Run
from glmstudio.runs.resume import DeviceChoice, resume_run
from glmstudio.runs.stop import stop_run
from glmstudio.system import process
from glmstudio.train.distributed.straggler import slowest
from tests.run_helpers import LONG, begin, ended, losses, wait_for_step

# Three batches for each step: no two processes share them evenly, and the last step of an epoch has fewer.
STEADY: dict[str, Any] = {
    "steps": 12, "accumulation": 3, "batch_size": 2, "save_every": 6, "keep_checkpoints": 5, "prefix_dropout": 0.0,
    "validation_share": 0.1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "found"),
    [
        ([1.0, 1.0, 1.0, 1.4], None),
        ([1.0, 2.0], (1, 2.0)),
        ([1.0, 1.2, 3.0, 1.1], (2, 3.0 / 1.1)),
        ([0.001, 0.015], None),
        ([5.0], None),
    ],
)
def test_who_keeps_the_others_waiting(seconds: Sequence[float], found: tuple[int, float] | None) -> None:
    assert slowest(seconds) == (pytest.approx(found) if found else None)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("data", "Process 2 on node3 does not have the same data: b there, a here."),
        ("torch", "Process 2 on node3 does not have the same version of torch: b there, a here."),
        ("program", "Process 2 on node3 does not have the same version of the studio: b there, a here."),
    ],
)
def test_a_process_that_is_not_like_the_first_one_is_named(name: str, what: str) -> None:
    found = difference({"x": "1", name: "a"}, {"x": "1", name: "b"})
    assert found is not None
    error = differs(2, "node3", found)
    assert (error.what(), error.fix()) == (what, "Make it the same on all machines, then start again.")
    assert difference({"x": "1"}, {"x": "1"}) is None


def close(found: Run, wanted: Run, within: float) -> None:
    mine, theirs = losses(found), losses(wanted)
    assert [step for step, _ in mine] == [step for step, _ in theirs]
    assert max(abs(a - b) for (_, a), (_, b) in zip(mine, theirs, strict=True)) < within


def validations(run: Run) -> list[float]:
    return [row["validation_loss"] for row in run.metrics()[0] if "validation_loss" in row]


@pytest.mark.slow  # 19 s
def test_two_processes_give_the_losses_of_one(home: Path) -> None:
    one, two = (begin(home, name, wait=True, processes=n, **STEADY) for name, n in (("one", 1), ("two", 2)))
    assert ended(one, 120) == ended(two, 120) == ("finished", None), two.log()[0][-3000:]
    assert (two.record.placement.processes, two.record.attempt.argv[4]) == (2, "--nproc-per-node=2")
    close(two, one, 1e-5)
    assert validations(two) == pytest.approx(validations(one), abs=1e-5)
    assert [(row["rank"], row["step"]) for row in two.ranks()] == [(0, 10), (1, 10)]
    assert sum(row["tokens"] for row in two.metrics()[0] if "tokens" in row) == sum(
        row["tokens"] for row in one.metrics()[0] if "tokens" in row
    )


@pytest.mark.slow
def test_what_two_processes_saved_goes_on_as_one_or_three(home: Path) -> None:
    one, two = (begin(home, name, wait=True, processes=n, **STEADY) for name, n in (("one", 1), ("two", 2)))
    assert ended(one, 120) == ended(two, 120) == ("finished", None), two.log()[0][-3000:]
    for processes in (1, 3):
        again = resume_run(two, step=6, cards=DeviceChoice("auto", processes))
        assert (again.record.placement.processes, again.settings["processes"]) == (processes, processes)
        assert ended(again, 120) == ("finished", None), again.log()[0][-3000:]
        close(again, one, 1e-5)


@pytest.mark.slow
def test_a_process_that_is_killed_is_named_and_nothing_is_left(home: Path) -> None:
    run = begin(home, processes=2, **LONG)
    wait_for_step(run, 3)
    os.kill(worker(run, 1).pid, signal.SIGKILL)
    assert ended(run) == ("failed", "runs.in_rank")
    problem = run.read_state().problem
    assert problem is not None
    assert (problem.values["cause"].key, problem.values["rank"]) == ("runs.killed", 1)


@pytest.mark.slow
def test_a_slow_process_is_named_while_the_run_goes_on(home: Path) -> None:
    """It is stopped for a moment again and again, as a card that is too hot would be."""
    run = begin(home, processes=2, **LONG)
    wait_for_step(run, 1)
    slow = psutil.Process(worker(run, 1).pid)
    end = time.monotonic() + 60
    while (found := run.read_state().slow) is None:
        assert time.monotonic() < end, run.ranks()
        slow.suspend()
        time.sleep(0.12)
        slow.resume()
        time.sleep(0.03)
    assert (found.key, found.values["rank"]) == ("runs.slow_rank", 1)
    list(stop_run(run, now=True))
    assert ended(run)[0] == "stopped"


@pytest.mark.slow
def test_a_process_with_other_data_stops_all_and_is_named(home: Path) -> None:
    """As by a Slurm script of one's own: two machines, each with a folder and a file of its own, nobody in between."""
    run = begin(home, "run", steps=1)
    assert ended(run) == ("finished", None)
    lines = Path(run.data).read_text(encoding="utf-8").splitlines(keepends=True)
    (home / "other.jsonl").write_text("".join(lines[:-1]), encoding="utf-8")
    port, started = process.free_port(), []
    for rank, data in enumerate((run.data, str(home / "other.jsonl"))):
        folder = home / f"rank{rank}"
        write_json(folder / "run.json", {"settings": run.settings | {"data": data}})
        meeting = {"RANK": rank, "LOCAL_RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [sys.executable, "-m", "glmstudio.train", str(folder)]
        variables = child_environment() | {name: str(value) for name, value in meeting.items()}
        started.append(subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True))
    said = [each.communicate(timeout=60)[1] for each in started]

    assert [each.returncode for each in started] == [1, 1], said
    problem = read_json(home / "rank0/progress.json")["problem"]
    assert (problem["key"], problem["values"]["rank"]) == ("runs.rank_differs", 1)
    assert all(" does not have the same data: " in each for each in said)


def worker(run: Run, rank: int) -> process.Identity:
    """The process of that rank."""
    found = [each for each in run.processes() if process.environment(each.pid).get("RANK") == str(rank)]
    assert len(found) == 1, found
    return found[0]
