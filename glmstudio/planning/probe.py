"""How long a step takes and how much memory it holds: a few real steps, the longest batch first, in a child process.

    state/probes/<key>/    looks like a run, so that the trainer is the very one that will do the work

The key names everything that the figures depend on, so a probe is never made twice.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from glmstudio.config.devices import processes_on
from glmstudio.config.settings import Settings
from glmstudio.errors import StudioError
from glmstudio.files import read_table
from glmstudio.paths import paths
from glmstudio.rundir.launch import launch_line, training_environment
from glmstudio.rundir.reasons import reason
from glmstudio.rundir.record import Attempt, Placement, RunFiles, RunRecord
from glmstudio.rundir.run import Run
from glmstudio.system import process
from glmstudio.system.portable.signals import KILL

STEPS = 3
_GRACE = 5.0
_IRRELEVANT = (
    "steps",
    "save_every",
    "keep_checkpoints",
    "sample_prompt",
    "report_to",
    "validation",
    "validation_share",
    "validation_auto",
    "seed",
)


@dataclass(frozen=True)
class Probe:
    """What a probe found; `state` is one of absent, running, done, failed. Memory in bytes."""

    state: str
    tokens_per_second: float | None = None
    memory: int | None = None
    problem: StudioError | None = None


def start_probe(settings: Settings, device: str, data_key: str) -> None:
    """Begin a probe in the background, unless it is going on or done."""
    folder = _place(settings, device, data_key)
    if look_probe(settings, device, data_key).state in ("running", "done"):
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in (RunFiles.METRICS, RunFiles.PROGRESS, RunFiles.LOG):
        (folder / name).unlink(missing_ok=True)
    short = dataclasses.replace(settings, steps=STEPS, save_every=10_000_000, validation="", validation_share=0.0)
    attempt, processes = Attempt.new(), processes_on(device, settings.processes)
    placement = Placement(device, processes)
    record = RunRecord(settings=dataclasses.asdict(short), probe=True, placement=placement, attempt=attempt)
    record.write(folder)
    command = [sys.executable, "-m", "glmstudio.train", str(folder)]
    if processes > 1:
        command = launch_line("glmstudio.train", str(folder), processes=processes)
    with (folder / RunFiles.LOG).open("ab") as log:
        child = process.spawn(command, log, attempt.run_id, variables=training_environment(device, processes))
    attempt = dataclasses.replace(attempt, agent=process.identify(child.pid))
    dataclasses.replace(record, attempt=attempt).write(folder)


def look_probe(settings: Settings, device: str, data_key: str) -> Probe:
    """What is known by now."""
    folder = _place(settings, device, data_key)
    run = Run("probe", folder)
    record, progress = run.record, read_table(folder / RunFiles.PROGRESS)
    if not record.settings:
        return Probe("absent")
    if progress.get("phase") == "done":
        rows = [row for row in run.metrics()[0] if "loss" in row]
        later = rows[1:] or rows  # the first step warms everything up
        speed = sum(row["tokens"] for row in later) / max(
            1e-9, sum(row["tokens"] / row["tokens_per_second"] for row in later)
        )
        return Probe("done", speed, max(int(row.get("memory") or 0) for row in rows))
    if progress.get("problem"):
        return Probe("failed", problem=StudioError.from_json(progress["problem"]))
    if process.alive(record.attempt.agent):
        return Probe("running")
    return Probe("failed", problem=reason(folder / RunFiles.LOG))


def end_probes() -> None:
    """End every probe that goes on, and forget it: the GPU is wanted for the real thing."""
    for file in (paths().state / "probes").glob(f"*/{RunFiles.RECORD}"):
        identity = RunRecord.read(file.parent).attempt.agent
        if identity is not None and process.send(identity, KILL):
            end = time.monotonic() + _GRACE
            while process.alive(identity) and time.monotonic() < end:
                time.sleep(0.05)
            shutil.rmtree(file.parent, ignore_errors=True)


def _place(settings: Settings, device: str, data_key: str) -> Path:
    kept = {name: value for name, value in dataclasses.asdict(settings).items() if name not in _IRRELEVANT}
    text = json.dumps([kept, device, data_key], sort_keys=True)
    return paths().state / "probes" / hashlib.sha256(text.encode()).hexdigest()[:16]
