"""What the tests of engines share: small full fine-tunings in a folder, trained here or by torchrun, and their losses."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from glmstudio.config.settings import Settings, change
from glmstudio.files import read_json, write_json
from glmstudio.paths import ROOT
from glmstudio.rundir.launch import launch_line, training_environment
from glmstudio.train.worker import train
from tests.run_helpers import small_data

STEPS, SAVED = 10, 4
SMALL: dict[str, Any] = {
    "method": "full", "steps": STEPS, "batch_size": 2, "accumulation": 3, "max_length": 96, "save_every": SAVED,
    "learning_rate": 1e-3, "gradient_checkpointing": "on", "device": "cpu", "bad_records": "fix", "validation_share": 0.2,
}  # fmt: skip
TOLERANCE = 1e-4


def run(folder: Path, *, after: Path | None = None, **changes: Any) -> Path:
    """A run that is to be trained; `after` goes on from that run's checkpoint of step `SAVED`."""
    settings = change(Settings(data=str(small_data(folder.parent))), SMALL | changes, source="")
    name = f"checkpoint-{SAVED}" if after else None
    if after:
        shutil.copytree(after / "checkpoints" / name, folder / "checkpoints" / name)
    write_json(folder / "run.json", {"settings": dataclasses.asdict(settings), "warm_start": None, "resume": name})
    return folder


def alone(folder: Path) -> dict[int, float]:
    """Train it in this process; the loss of each step."""
    assert train(folder) == 0, read_json(folder / "progress.json")
    return losses(folder)


def together(
    processes: int, *folders: Path, die: int | None = None, python: str = sys.executable, **variables: str
) -> int:
    """Train them one after another with torchrun; its exit status."""
    arguments = [*map(str, folders), *(["--die", str(die)] if die else [])]
    command = launch_line("tests.torchrun_worker", *arguments, processes=processes)
    environment = training_environment("cpu", processes) | {"PYTHONPATH": str(ROOT)} | variables
    done = subprocess.run(
        [python, *command[1:]], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert die or done.returncode == 0, done.stderr[-6000:]
    return done.returncode


def losses(folder: Path) -> dict[int, float]:
    """Step to loss."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


def alike(folder: Path, wanted: dict[int, float], *, since: int = 1) -> None:
    """Every step from `since` to the last one, with the losses of the run that one process made."""
    found = losses(folder)
    assert sorted(found) == list(range(since, STEPS + 1))
    worst = max(abs(found[step] - wanted[step]) for step in found)
    assert worst < TOLERANCE, f"the losses of {folder.name} differ by {worst}"
