"""Go on with a run that ended: from its newest whole checkpoint in place, from an older one as a run of its own."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

from glmstudio.config.devices import choose, processes_on
from glmstudio.errors import StudioError
from glmstudio.models import ready_model
from glmstudio.paths import paths
from glmstudio.rundir import queue_file
from glmstudio.rundir.checkpoints import Checkpoint, latest, list_checkpoints
from glmstudio.rundir.record import RunFiles, RunRecord
from glmstudio.rundir.rewind import take_back
from glmstudio.rundir.run import Run, wait_until_gone
from glmstudio.runs.start import begin, check_name, must_wait, write_ballast


@dataclass(frozen=True)
class DeviceChoice:
    """Where a run is to go on, as the settings of these names say it."""

    device: str = "auto"
    processes: int = 0


def resume_run(
    run: Run,
    *,
    step: int | None = None,
    cards: DeviceChoice | None = None,
    wait: bool = False,
    beside_chat: bool = False,
) -> Run:
    """Continue after the newest whole checkpoint, or after that of `step`; returns the run that goes on.

    The steps after an older checkpoint are not thrown away: such a run goes on under a name of its own. Losses are
    those of a run that was never interrupted, also on other `cards` and another number of them (None: those that it
    had). `wait` and `beside_chat` as for `start_run`. Raises StudioError.
    """
    ready_model(run.model)
    if not run.read_state().live:
        wait_until_gone(run)
    with queue_file.turn():
        state = run.read_state()
        if state.live or run.processes():
            raise StudioError("runs.still_going", name=run.name)
        if state.state == "finished" and step is None:
            raise StudioError("runs.complete", name=run.name)
        found = _checkpoint(run, step)
        record = _placed(run.record, cards)
        queued = must_wait(record.placement.device, wait=wait, beside_chat=beside_chat)
        newest = latest(run.path / RunFiles.CHECKPOINTS)
        try:
            if found and newest and found.step < newest.step:
                origin = {"run": run.name, "step": found.step}
                record = replace(record, created=time.time(), branched_from=origin)
                run = _branch(run, found)
            _rewind(run, found, record)
            begin(run, queued=queued)
        except OSError as error:
            raise StudioError("runs.system", folder=str(run.path), reason=error.strerror or str(error)) from error
    return run


def _checkpoint(run: Run, step: int | None) -> Checkpoint | None:
    """Where to go on; None at the very beginning, where nothing was saved yet."""
    folder = run.path / RunFiles.CHECKPOINTS
    if step is None:
        return latest(folder)
    found = next((each for each in list_checkpoints(folder) if each.step == step), None)
    if found is None or not found.whole:
        steps = ", ".join(str(each.step) for each in list_checkpoints(folder) if each.whole)
        raise StudioError("runs.no_checkpoint", name=run.name, step=step, steps=steps or "–")
    return found


def _placed(record: RunRecord, cards: DeviceChoice | None) -> RunRecord:
    """The record with the device, the number of processes, and the settings of both that were chosen."""
    if cards is None:
        return record
    device = choose(cards.device, cards.processes)
    placement = replace(record.placement, device=device, processes=processes_on(device, cards.processes))
    settings = record.settings | {"device": cards.device, "processes": cards.processes}
    return replace(record, placement=placement, settings=settings)


def _rewind(run: Run, found: Checkpoint | None, record: RunRecord) -> None:
    """Take back what was written after the checkpoint; it will be written again."""
    write_ballast(run)  # first of all: on a disk that is full still, nothing is taken back
    last = found.step if found else 0
    take_back(run.path, last)
    for name in (RunFiles.STOP, RunFiles.PROOF, RunFiles.PROGRESS):
        (run.path / name).unlink(missing_ok=True)
    resumed = (*record.resumed, {"step": last, "time": time.time()})
    replace(record, resume=found.path.name if found else None, resumed=resumed).write(run.path)


def _branch(run: Run, found: Checkpoint) -> Run:
    """A copy of the run as it was at the checkpoint, still without a record."""
    folder = _free_folder(f"{run.name}-{found.step}")
    folder.mkdir(parents=True)
    target = folder / RunFiles.CHECKPOINTS / found.path.name
    shutil.copytree(found.path, target, copy_function=_link)
    for name in (RunFiles.METRICS, RunFiles.SAMPLES, RunFiles.RECORDS, RunFiles.OPENING):
        if (run.path / name).is_file():
            shutil.copyfile(run.path / name, folder / name)
    return Run(folder.name, folder)


def _free_folder(name: str) -> Path:
    base, number = name[:70], 1
    while True:
        try:
            return check_name(base if number == 1 else f"{base}-{number}")
        except StudioError as error:
            if error.key != "runs.name_taken":
                return paths().runs / f"resumed-{time.strftime('%m%d-%H%M%S')}"
            number += 1


def _link(source: str, target: str) -> None:
    """A second name for the same bytes, which nobody changes; a copy where the disk has no such names."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
