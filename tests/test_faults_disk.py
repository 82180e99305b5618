"""A disk that becomes full while a run goes on: real small disks, real runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.namespaces import python_on_small_disk
from tests.run_helpers import same

_CAN = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0
pytestmark = pytest.mark.skipif(sys.platform != "linux" or not _CAN, reason="needs the right to mount a disk")

_FULL = """
import json, os, pathlib
from glmstudio.errors import StudioError
from glmstudio.paths import paths
from glmstudio.rundir.checkpoints import list_checkpoints
from glmstudio.runs.resume import resume_run
from tests.run_helpers import begin, ended, losses, wait_for_step

home, told = paths().home, {}
def fill():
    with (home / "filler").open("ab", buffering=0) as file:
        try:
            while True:
                file.write(b"0" * 65536)
        except OSError:
            pass

run = begin(pathlib.Path(FOLDER), save_every=EVERY)
wait_for_step(run, 12)
fill()
told["end"] = ended(run)
told["what"] = run.read_state().problem.what()
told["step"] = run.read_state().step
told["checkpoints"] = [(each.step, each.whole) for each in list_checkpoints(run.path / "checkpoints")]
told["left"] = sorted(file.name for file in run.path.iterdir() if file.name.startswith("."))
fill()
rows = (run.path / "metrics.jsonl").read_bytes()
try:
    resume_run(run)
    told["again"] = ended(run)
except StudioError as error:
    told["again"] = error.what()
    told["kept"] = (run.path / "metrics.jsonl").read_bytes() == rows
try:
    begin(pathlib.Path(FOLDER), "other")
except StudioError as error:
    told["start"] = error.key
told["other"] = (run.path.parent / "other").exists()
(home / "filler").unlink()
resume_run(run)
told["finished"] = ended(run, 240)
told["losses"] = losses(run)
print(json.dumps(told))
"""


def on_full_disk(folder: Path, every: int, reference: Any) -> dict[str, Any]:
    code = _FULL.replace("FOLDER", repr(str(folder))).replace("EVERY", str(every))
    told: dict[str, Any] = python_on_small_disk(code, folder / "home", size="200m")
    assert told["end"] == ["failed", "runs.disk_full"], json.dumps(told)
    run = folder / "home" / "runs" / "run"
    assert told["what"] == f"The disk is full, so the run in {run} could not continue."
    assert told["left"] == [], "temporary files stay behind"
    # Going on, or starting, on the full disk loses nothing and leaves nothing.
    assert told["again"] == f"The system refused something that the run in {run} needs: No space left on device."
    assert told["kept"] is True
    assert (told["start"], told["other"]) == ("runs.disk_small", False)
    assert told["finished"] == ["finished", None]
    same(told["losses"], reference())
    return told


@pytest.mark.slow
def test_a_disk_that_is_full_at_a_save(tmp_path: Path, reference: Any) -> None:
    told = on_full_disk(tmp_path, 5, reference)
    steps = [step for step, whole in told["checkpoints"] if whole]
    assert len(told["checkpoints"]) == len(steps), "what was begun and not finished is gone"
    assert steps[-1] >= told["step"] - 5


@pytest.mark.rare
def test_a_disk_that_is_full_between_saves(tmp_path: Path, reference: Any) -> None:
    told = on_full_disk(tmp_path, 1000, reference)
    assert told["checkpoints"] == []
