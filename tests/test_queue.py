"""The queue, and many at once: real processes that start, go on, stop and advance at the same moment."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from glmstudio.rundir import queue_file
from glmstudio.rundir.run import Run, find_run, list_runs
from glmstudio.runs import queue
from glmstudio.runs.manage import delete_run, rename_run
from glmstudio.runs.stop import stop_run
from glmstudio.system import process
from tests.run_helpers import LONG, begin, ended, problem, small_data, who
from tests.waiting import until

ROOT = Path(__file__).parents[1]
# Each process does the same at the same moment, in several threads, and prints what came of it.
_TOGETHER = """
import json, pathlib, sys, time
from concurrent.futures import ThreadPoolExecutor
from glmstudio.errors import StudioError
from glmstudio.runs.resume import resume_run
from glmstudio.rundir.run import find_run
from glmstudio.runs.start import advance
from glmstudio.runs.stop import stop_run
from tests.run_helpers import LONG, begin
folder = pathlib.Path({folder!r})
def act(number):
    try:
        return {act}
    except StudioError as error:
        return error.key
with ThreadPoolExecutor({threads}) as pool:
    print(flush=True)
    sys.stdin.read()
    print(json.dumps(list(pool.map(act, range({threads})))))
"""


def together(folder: Path, act: str, *, processes: int, threads: int) -> list[Any]:
    """What came of `act`, done at once by so many processes with so many threads each."""
    code = _TOGETHER.format(folder=str(folder), act=act, threads=threads)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(processes)
    ]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()
    for child in children:
        assert child.stdin is not None
        child.stdin.close()
    found: list[Any] = []
    for child in children:
        assert child.stdout is not None
        found += json.loads(child.stdout.read())
        assert child.wait() == 0
    return found


def wait_for_state(run: Run, *states: str) -> None:
    until(lambda: run.read_state().state in states, why=lambda: (run.read_state(), run.log()[0][-2000:]))


def supervisors(home: Path) -> list[int]:
    """Every supervisor of this home, however it came about."""
    found = []
    for run in list_runs():
        found += [each.pid for each in run.processes() if "glmstudio.runs.supervise" in _command(each.pid)]
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


@pytest.mark.slow
def test_many_at_once_start_stop_and_go_on_once(clean: Path, tmp_path: Path) -> None:
    small_data(tmp_path)
    begun = together(tmp_path, "begin(folder, **LONG).name", processes=2, threads=1)
    assert sorted(begun) == ["run", "runs.device_busy"] or sorted(begun) == ["run", "runs.name_taken"]
    (run,) = list_runs()
    # Asked to stop by four at once, while it starts.
    stopped = together(
        tmp_path, "[stage.key for stage in stop_run(find_run('run'), now=True)][-1]", processes=2, threads=2
    )
    assert set(stopped) <= {"runs.stage.gone", "runs.stage.over"}
    assert "runs.stage.gone" in stopped
    assert ended(run) == ("stopped", None)
    gone_on = together(tmp_path, "resume_run(find_run('run')).name", processes=2, threads=4)
    assert sorted(gone_on) == ["run", *["runs.still_going"] * 7]
    assert len(supervisors(clean)) == 1
    assert len(run.record.resumed) == 1
    others = together(tmp_path, "begin(folder, f'other {number}', **LONG).name", processes=2, threads=3)
    assert set(others) <= {"runs.device_busy", "runs.name_taken"}
    assert [each.name for each in list_runs()] == ["run"], "nothing is left of what did not start"


def test_different_runs_started_at_once_are_one(clean: Path, tmp_path: Path) -> None:
    small_data(tmp_path)  # all read it; who starts must not find it half written
    begun = together(tmp_path, "begin(folder, f'{time.monotonic_ns()}', **LONG).name", processes=2, threads=5)
    assert begun.count("runs.device_busy") == 9
    assert len(list_runs()) == len(supervisors(clean)) == 1


@pytest.mark.slow
def test_the_queue_outlives_failures_and_starts_one_at_a_time(clean: Path, tmp_path: Path) -> None:
    first = begin(tmp_path, "first", **LONG)
    assert problem(begin, tmp_path, "refused").key == "runs.device_busy"
    model = shutil.copytree(ROOT / "glmstudio" / "demo" / "model", tmp_path / "vanishing")
    fails = begin(tmp_path, "fails", wait=True, model=str(model))
    for name in ("renamed", "deleted", "last", "earlier"):
        assert begin(tmp_path, name, wait=True, **LONG).read_state().state == "queued"
    queue_file.move("earlier", -1)
    rename_run(find_run("renamed"), "new name")
    delete_run(find_run("deleted"))
    assert queue_file.waiting() == ["fails", "new name", "earlier", "last"]
    assert not find_run("fails").read_state().holds_device
    shutil.rmtree(model)
    assert list(stop_run(first, now=True))[-1].key == "runs.stage.gone"
    # The one that fails is followed by the next, without a studio.
    new = find_run("new name")
    wait_for_state(new, "starting", "running")
    state = fails.read_state()
    assert state.state == "failed"
    assert state.problem is not None
    assert str(model) in state.problem.what()
    # Its supervisor is killed, and with it all that would go on; nobody advances the queue now.
    supervisor = who(new).get("supervisor")
    while rest := [each for each in (supervisor, *new.processes()) if process.alive(each)]:
        for each in rest:  # again until nobody is left: it may be starting the training in this very moment
            assert each is not None
            process.send(each, signal.SIGKILL)
    assert ended(new)[0] == "lost"
    assert queue_file.waiting() == ["earlier", "last"]
    started = together(tmp_path, "advance()", processes=2, threads=10)
    assert sorted(started) == [*[[]] * 19, ["earlier"]]
    assert queue_file.waiting() == ["last"]
    assert len(supervisors(clean)) == 1
    assert find_run("last").read_state().state == "queued"
    assert [stage.key for stage in stop_run(find_run("last"))] == ["runs.stage.unqueued"]
    assert (find_run("last").read_state().state, queue_file.waiting()) == ("stopped", [])


def test_a_run_whose_folder_is_gone_leaves_the_queue(clean: Path, tmp_path: Path) -> None:
    queue_file.add("vanished")
    queue_file.add("never was")
    assert queue.advance(lambda run: pytest.fail(run.name)) == []
    assert queue_file.waiting() == []


def test_a_run_that_the_system_does_not_start_stays_in_the_queue(clean: Path, interrupted_like: list[Run]) -> None:
    def refused(run: Run) -> None:
        raise OSError(28, os.strerror(28))

    assert queue.advance(refused) == []
    assert queue_file.waiting() == [run.name for run in interrupted_like]
    launched: list[str] = []
    assert queue.advance(lambda run: launched.append(run.name)) == launched == ["a", "b"]


@pytest.fixture
def interrupted_like(home: Path) -> list[Run]:
    """Two runs that wait, as files; what launches them is the test's."""
    from glmstudio.files import write_json

    for name in ("a", "b"):
        write_json(home / "runs" / name / "run.json", {"run_id": name * 32, "settings": {}, "created": 1.0})
        write_json(home / "runs" / name / "status.json", {"state": "queued"})
        queue_file.add(name)
    return [find_run("a"), find_run("b")]
