"""How the processes of one machine meet: nobody beyond it can reach them, and what comes is never carried out."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from glmstudio.config.presets import load_preset
from glmstudio.config.settings import change
from glmstudio.files import read_table
from glmstudio.paths import ROOT, paths
from glmstudio.planning import probe
from glmstudio.rundir.launch import training_environment
from glmstudio.rundir.run import Run
from glmstudio.runs.stop import stop_run
from glmstudio.system import process
from glmstudio.train.distributed.plain_values import MOST, decoded, encoded
from glmstudio.train.distributed.rendezvous import PLACE, place
from tests.listening import beyond, listening
from tests.marks import rare, slow
from tests.run_helpers import LONG, PRESET, SMALL, begin, ended, small_data

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def watched(run_id: str, over: Any, seconds: float = 120) -> set[str]:
    """Every address at which a process with this id listened until `over()`."""
    found, end = set(), time.monotonic() + seconds
    while not over():
        assert time.monotonic() < end, found
        found |= set(listening([each.pid for each in process.with_cookie(run_id)]))
        time.sleep(0.2)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("processes", [rare(1), 2])
def test_a_run_listens_where_nobody_else_is_and_its_meeting_is_its_owners(home: Path, processes: int) -> None:
    run = begin(home, processes=processes, device="cpu", **{**LONG, "loader_processes": 1})
    found = watched(run.record.attempt.run_id, lambda: run.read_state().step >= 3)
    assert beyond(found) == set()
    assert found, "gloo listens, also for one process, at 127.0.0.1"
    file = meeting_of(run)
    assert Path(file).stat().st_mode & 0o777 == 0o600
    try:
        if processes == 2:
            assert Path(file).stat().st_size > 0, "it is not there that they met"
        as_a_stranger(file)
    finally:
        list(stop_run(run, now=True))
    assert ended(run)[0] == "stopped"
    assert not Path(file).exists()


@pytest.mark.rare
def test_nor_does_a_probe_of_two_processes(home: Path) -> None:
    settings = change(load_preset(PRESET).settings, SMALL | {"data": str(small_data(home)), "processes": 2}, source="")
    key = "the data"
    probe.start_probe(settings, "cpu", key)
    about = read_table(next((paths().state / "probes").glob("*/run.json")))
    assert about["processes"] == 2
    found = watched(about["run_id"], lambda: probe.look_probe(settings, "cpu", key).state != "running")
    known = probe.look_probe(settings, "cpu", key)
    assert known.state == "done", known.problem
    assert beyond(found) == set()
    assert found


def meeting_of(run: Run) -> str:
    """Where its processes met, as they were told."""
    ranks = [process.environment(each.pid).get(PLACE) for each in run.processes()]
    return next(each for each in ranks if each)


def as_a_stranger(file: str) -> None:
    """Another user of this machine can neither read nor write it, nor look it up."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    for line in (f"cat {file}", f"echo x >> {file}", f"ls {Path(file).parent}"):
        command = ["setpriv", "--reuid=4242", "--regid=4242", "--clear-groups", "sh", "-c", line]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        assert done.returncode != 0, line
        assert done.stdout == ""
        assert "Permission denied" in done.stderr


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("pickle", "runs.stranger"), ("object", "refused"), slow("deep", "runs.stranger"), slow("negative", "runs.stranger"),
        slow("huge", "runs.stranger"), slow("nothing", "runs.stranger"), slow("objects", "refused"),
    ],
)  # fmt: skip
def test_what_a_stranger_sends_is_not_carried_out(tmp_path: Path, how: str, said: str) -> None:
    mark, started = tmp_path / "mark", []
    with place() as file:
        for rank in range(2):
            told = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", PLACE: file, "PYTHONPATH": str(ROOT)}
            command = [sys.executable, "-m", "tests.stranger", how, str(mark)]
            variables = training_environment("cpu", 2) | told
            started.append(subprocess.Popen(command, env=variables, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        told_by = [each.communicate(timeout=60)[0] for each in started]
    assert told_by[0].startswith(said), told_by
    assert not mark.exists()


def test_plain_values_come_as_they_went() -> None:
    for value in (None, 0, -1.5, "名\ud83d\x00", ["a", ["b"]], {"x": {"y": None}}, []):
        assert decoded(encoded(value)) == value
    assert decoded(encoded((1, "a"))) == [1, "a"]


@pytest.mark.parametrize("data", [b"", pickle.dumps([1]), b"\xff\xfe", b"[1", b"[" * 100_000, b"9" * 10_000])
def test_what_is_no_value_is_told_in_words(data: bytes) -> None:
    from glmstudio.errors import StudioError

    with pytest.raises(StudioError) as told:
        decoded(data)
    assert told.value.key == "runs.stranger"
    assert json.dumps(told.value.to_json())
    assert told.value.what("en") != told.value.what("zh")
    with pytest.raises(StudioError):
        encoded("x" * MOST)


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x"])
def test_no_file_that_another_machine_sends_lies_elsewhere(tmp_path: Path, name: str) -> None:
    from glmstudio.errors import StudioError
    from glmstudio.train.distributed.checkpoint_sync import _inside

    assert _inside(tmp_path, "a/model.safetensors") == tmp_path / "a/model.safetensors"
    with pytest.raises(StudioError):
        _inside(tmp_path, name)
