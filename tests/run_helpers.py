"""What the tests of runs share: a small real run, who is who in it, and what must hold once it ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil

from glmstudio.config.presets import load_preset
from glmstudio.errors import StudioError
from glmstudio.files import read_table, write_text
from glmstudio.paths import SAMPLE
from glmstudio.rundir.record import RunFiles
from glmstudio.rundir.run import Run, wait_for_end, wait_until_gone
from glmstudio.rundir.state import RunState
from glmstudio.runs.start import start_run
from glmstudio.system import process
from tests.waiting import until

PRESET = "demo/ptuning_v2"
STEPS = 80  # more than two epochs
SMALL: dict[str, Any] = {
    "steps": STEPS, "batch_size": 2, "prefix_length": 4, "max_length": 256, "save_every": 5, "keep_checkpoints": 2,
    "prefix_dropout": 0.1, "validation_auto": False,
}  # fmt: skip
LONG = {"steps": 100_000, "save_every": 50_000}


def small_data(folder: Path) -> Path:
    """Sixty conversations of the sample."""
    file = folder / "data.jsonl"
    if not file.exists():
        write_text(file, "".join(SAMPLE.read_text(encoding="utf-8").splitlines(keepends=True)[:60]))
    return file


def begin(folder: Path, name: str = "run", *, wait: bool = False, **changes: Any) -> Run:
    """Start a small run on a device of its own home."""
    return start_run(load_preset(PRESET), data=small_data(folder), name=name, changes=SMALL | changes, wait=wait)


def wait_for_step(run: Run, step: int, seconds: float = 180) -> RunState:
    """The state once the run has made the step; it must not end before."""

    def made() -> bool:
        state = run.read_state()
        assert state.live or state.step >= step, (state, run.log()[0][-3000:])
        return state.step >= step

    until(made, seconds, lambda: (run.read_state(), run.log()[0][-3000:]))
    return run.read_state()


def about_of(run: Run) -> dict[str, Any]:
    """The run's `run.json`, as it was written."""
    return read_table(run.path / RunFiles.RECORD)


def who(run: Run) -> dict[str, process.Identity]:
    """The run's processes by their part: supervisor, agent (torchrun), rank, loader."""
    attempt = run.record.attempt
    found = {"supervisor": attempt.supervisor, "agent": attempt.agent}
    parts = {name: each for name, each in found.items() if each is not None}
    for child, parent in (("rank", "agent"), ("loader", "rank")):
        if parent in parts:
            for each in psutil.Process(parts[parent].pid).children():
                identity = process.identify(each.pid)
                if identity in run.processes():
                    parts[child] = identity
    return parts


def ended(run: Run, seconds: float = 60) -> tuple[str, str | None]:
    """State and problem once the run has ended, with nothing of it left."""
    state = wait_for_end(run, seconds=seconds, every=0.1)
    assert not state.live, (state, run.log()[0][-3000:])
    assert wait_until_gone(run), run.processes()
    return state.state, state.problem.key if state.problem else None


def losses(run: Run) -> list[tuple[int, float]]:
    """Step and loss of every line that has one."""
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]


def same(found: list[Any], wanted: list[Any]) -> None:
    """Every step exactly once, in order, with the losses of the other run."""
    assert [step for step, _ in found] == [step for step, _ in wanted]
    worst = max(abs(a - b) for (_, a), (_, b) in zip(found, wanted, strict=True))
    assert worst < 1e-6, f"the losses differ by {worst}"


def problem(call: Any, *arguments: Any, **more: Any) -> StudioError:
    """The StudioError that the call raises."""
    try:
        call(*arguments, **more)
    except StudioError as error:
        return error
    raise AssertionError("nothing was raised")
