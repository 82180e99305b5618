"""A healthy run is nobody else's to end: not by a copy of its folder, not by a word that this version does not know."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from glmstudio.doctor.stale.stale_processes import find_stale
from glmstudio.files import read_json, write_json
from glmstudio.rundir.copies import is_copy
from glmstudio.rundir.record import RunRecord
from glmstudio.rundir.run import Run
from glmstudio.runs.stop import stop_run
from glmstudio.system import process
from glmstudio.system.process_table import read_table as read_processes
from tests.run_helpers import LONG, begin, ended, wait_for_step, who


@pytest.mark.slow
def test_neither_a_copy_in_another_home_nor_an_unknown_word_ends_a_run(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(home, "live", **LONG)
    wait_for_step(run, 1)
    own = {each.pid for each in run.processes()}

    # An older studio beside a newer one.
    write_json(run.path / "status.json", {"state": "paused"})
    assert not own & stale()
    assert run.read_state().state == "running"

    # `cp -a` into another home, with the supervisor alive, and after somebody has killed it.
    for number in range(2):
        other = tmp_path / f"other{number}"
        (other / "runs").mkdir(parents=True)
        subprocess.run(["cp", "-a", str(run.path), str(other / "runs/live")], check=True)
        with monkeypatch.context() as there:
            there.setenv("GLMSTUDIO_HOME", str(other))
            copy = Run("live", other / "runs/live")
            assert is_copy(copy.path, copy.record)
            assert [stage.key for stage in stop_run(copy, now=True)] == ["runs.stage.over"]
            assert not own & stale()
        assert own == {each.pid for each in run.processes()}
        if not number:
            supervisor = who(run)["supervisor"]
            process.send(supervisor, signal.SIGKILL)
            own -= {supervisor.pid}

    # One that was moved is the run itself.
    moved = run.path.rename(run.path.with_name("moved"))
    assert not is_copy(moved, RunRecord.read(moved))
    moved.rename(run.path)
    assert [stage.key for stage in stop_run(run, now=True)][-1] == "runs.stage.gone"
    assert ended(run)[0] == "stopped"


def stale() -> set[int]:
    """The numbers of the processes that the doctor would end."""
    return {each.process.identity.pid for each in find_stale(read_processes())}


@pytest.mark.slow
def test_the_supervisor_of_a_folder_that_was_moved_goes_along(home: Path) -> None:
    run = begin(home, "first", **LONG)
    wait_for_step(run, 1)
    moved = run.path.with_name("second")
    run.path.rename(moved)
    about = read_json(moved / "run.json")
    assert not is_copy(moved, RunRecord.from_json(about))
    shutil.copytree(moved, run.path)  # now the copy has the old name
    assert is_copy(run.path, RunRecord.from_json(about))
    assert not is_copy(moved, RunRecord.from_json(about))
    list(stop_run(Run("second", moved), now=True))
    assert process.with_cookie(about["run_id"]) == []
