"""What is true of a run, from what its files say and from who is alive; and `run.json`, read and written."""

from __future__ import annotations

from typing import Any

import pytest

from glmstudio.errors import StudioError
from glmstudio.rundir.machines import Cluster, Machine
from glmstudio.rundir.record import Attempt, Placement, RunRecord
from glmstudio.rundir.state import Liveness, RunReading, state_of
from glmstudio.system.process import Identity

ME = Identity("boot", 10, 1)
BORN = Attempt("id", "boot", monotonic=100.0, supervisor=ME)
UNBORN = Attempt("id", "boot", monotonic=100.0)
DONE = {"phase": "done", "time": 7.0}
BROKE = StudioError("runs.disk_full", folder="/x").to_json()
ALIVE = Liveness(alive=True, boot_id="boot", now=105.0)
GONE = Liveness(boot_id="boot", now=105.0)


@pytest.mark.parametrize(
    ("attempt", "files", "life", "state", "problem"),
    [
        # Whatever was written down as the end is the end, whoever is alive.
        (BORN, {"status": {"state": "finished"}}, ALIVE, "finished", None),
        (BORN, {"status": {"state": "stopped"}, "queued": True}, GONE, "stopped", None),
        (BORN, {"status": {"state": "failed", "problem": BROKE}}, GONE, "failed", "runs.disk_full"),
        (BORN, {"status": {"state": "lost"}}, GONE, "lost", None),
        # Else it is what its processes say.
        (BORN, {"status": {"state": "running"}}, Liveness(copied=True), "lost", "runs.copied"),
        (UNBORN, {"status": {"state": "queued"}, "queued": True}, GONE, "queued", None),
        (BORN, {}, ALIVE, "starting", None),
        (BORN, {"progress": {"phase": "reading"}}, ALIVE, "starting", None),
        (BORN, {"status": {"state": "starting"}, "progress": {"phase": "training"}}, ALIVE, "running", None),
        (BORN, {"progress": {"phase": ["odd"]}}, ALIVE, "running", None),
        (BORN, {"progress": {"phase": "training"}, "stop_asked": True}, ALIVE, "stopping", None),
        # Without one, what the trainer wrote last counts.
        (BORN, {"progress": DONE, "has_result": True}, GONE, "finished", None),
        (BORN, {"progress": DONE}, GONE, "lost", "runs.lost_killed"),
        (BORN, {"progress": {"phase": "stopped"}}, GONE, "stopped", None),
        (BORN, {"progress": {"phase": "failed", "problem": BROKE}}, GONE, "failed", "runs.disk_full"),
        # A supervisor needs a moment to be born, by a clock that nobody can set back.
        (UNBORN, {"status": {"state": "starting"}}, GONE, "starting", None),
        (UNBORN, {"status": {"state": "starting"}}, Liveness(boot_id="boot", now=111.0), "lost", "runs.lost_killed"),
        (UNBORN, {"status": {"state": "starting"}}, Liveness(boot_id="boot", now=99.0), "lost", "runs.lost_killed"),
        (UNBORN, {"status": {"state": "starting"}}, Liveness(boot_id="next", now=101.0), "lost", "runs.lost_reboot"),
        (Attempt("id"), {}, GONE, "lost", "runs.lost_killed"),
        (BORN, {"status": {"state": "running"}}, GONE, "lost", "runs.lost_killed"),
        (BORN, {"status": {"state": "running"}}, Liveness(boot_id="next"), "lost", "runs.lost_reboot"),
        (BORN, {"status": {"state": "running"}, "progress": {"problem": BROKE}}, GONE, "lost", "runs.disk_full"),
        (BORN, {"status": {"state": "<b>odd"}}, GONE, "lost", "runs.lost_killed"),
    ],
)
def test_the_state_of_a_run(
    attempt: Attempt, files: dict[str, Any], life: Liveness, state: str, problem: str | None
) -> None:
    found = state_of(RunRecord(attempt=attempt), RunReading(**files), life)
    assert (found.state, found.problem and found.problem.key) == (state, problem)


@pytest.mark.parametrize(
    ("last", "beat", "boot", "silent"),
    [
        ({}, 200.0, "boot", None),
        ({}, 399.0, "boot", 601.0),  # no step yet: ten minutes
        ({"step": 2, "seconds": 4.0}, 939.0, "boot", 61.0),
        ({"step": 2, "seconds": 8.0}, 939.0, "boot", None),  # twenty steps of four seconds
        ({"step": 2, "seconds": 4.0}, 939.0, "other", None),
    ],
)
def test_a_run_that_makes_no_step_for_long(last: dict[str, Any], beat: float, boot: str, silent: float | None) -> None:
    progress = {"phase": "training", "monotonic": beat, "boot_id": boot}
    record = RunRecord(settings={"steps": 6}, attempt=BORN)
    now = 1000.0 if silent or last else 700.0
    state = state_of(record, RunReading(progress=progress, last=last), Liveness(True, boot_id="boot", now=now))
    assert (state.state, state.silent) == ("running", silent)
    assert state.seconds_left == (last["seconds"] / 2 * 4 if last else None)


def test_a_record_is_read_as_it_was_written() -> None:
    whole = {
        "schema": 2, "preset": "demo/lora", "settings": {"steps": 5}, "device": "GPU-a,GPU-b", "processes": 2,
        "warm_start": None, "created": 5.0, "command": "python launcher.py train demo/lora", "run_id": "id",
        "boot": "boot", "monotonic": 1.5,
    }  # fmt: skip
    assert RunRecord.from_json(whole).to_json() == whole
    machines = (Machine("one", 1, "10.0.0.1"), Machine("two", 2, "10.0.0.2"))
    whole |= {
        "cluster": Cluster(machines).to_json(), "launched": 6.0, "place": "1:2", "supervisor": ME.to_json(),
        "agent": ME.to_json(), "argv": ["python", "-m"], "port": 29400, "resume": None,
        "resumed": [{"step": 0, "time": 1.0}], "branched_from": {"run": "first", "step": 3},
    }  # fmt: skip
    record = RunRecord.from_json(whole)
    assert record.to_json() == whole
    assert (record.placement, record.attempt.port) == (Placement("GPU-a,GPU-b", 2, "1:2"), 29400)


@pytest.mark.parametrize("odd", [None, 5, [1], "x", {"a": 1}, True, 1e400, -1])
def test_a_damaged_record_is_read_as_far_as_it_can_be(odd: Any) -> None:
    names = RunRecord().to_json().keys() | {
        "cluster",
        "branched_from",
        "probe",
        "boot",
        "monotonic",
        "launched",
        "place",
    }
    for data in (odd, dict.fromkeys(names | {"supervisor", "agent", "argv", "port", "resume", "resumed"}, odd)):
        record = RunRecord.from_json(data)
        assert RunRecord.from_json(record.to_json()) == record
