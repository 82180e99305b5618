"""Go on with a run that ended: from its newest whole checkpoint in place, from an older one as a run of its own."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmstudio.config.devices import choose, processes_on
from glmstudio.errors import StudioError
from glmstudio.files import write_json
from glmstudio.models import ready_model
from glmstudio.paths import paths
from glmstudio.rundir import queue_file
from glmstudio.rundir.checkpoints import Checkpoint, latest, list_checkpoints
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
        where = _where(run, cards)
        queued = must_wait(where["device"], wait=wait, beside_chat=beside_chat)
        newest = latest(run.path / "checkpoints")
        try:
            if found and newest and found.step < newest.step:
                run = _branch(run, found)
            _rewind(run, found, where)
            begin(run, queued=queued)
        except OSError as error:
            raise StudioError("runs.system", folder=str(run.path), reason=error.strerror or str(error)) from error
    return run


def _checkpoint(run: Run, step: int | None) -> Checkpoint | None:
    """Where to go on; None at the very beginning, where nothing was saved yet."""
    folder = run.path / "checkpoints"
    if step is None:
        return latest(folder)
    found = next((each for each in list_checkpoints(folder) if each.step == step), None)
    if found is None or not found.whole:
        steps = ", ".join(str(each.step) for each in list_checkpoints(folder) if each.whole)
        raise StudioError("runs.no_checkpoint", name=run.name, step=step, steps=steps or "–")
    return found


def _where(run: Run, cards: DeviceChoice | None) -> dict[str, Any]:
    """What `run.json` says of the place: device, number of processes, and the settings with both."""
    settings = dict(run.settings)
    if cards is None:
        return {"device": run.device, "processes": run.world, "settings": settings}
    device = choose(cards.device, cards.processes)
    settings |= {"device": cards.device, "processes": cards.processes}
    return {"device": device, "processes": processes_on(device, cards.processes), "settings": settings}


def _rewind(run: Run, found: Checkpoint | None, where: dict[str, Any]) -> None:
    """Take back what was written after the checkpoint; it will be written again."""
    write_ballast(run)  # first of all: on a disk that is full still, nothing is taken back
    last = found.step if found else 0
    take_back(run.path, last)
    for name in ("stop.json", "proof.json", "progress.json"):
        (run.path / name).unlink(missing_ok=True)
    about = run.about
    attempts = [*about.get("resumed", []), {"step": last, "time": time.time()}]
    again = {"resume": found.path.name if found else None, "resumed": attempts}
    write_json(run.path / "run.json", about | where | again)


def _branch(run: Run, found: Checkpoint) -> Run:
    """A copy of the run as it was at the checkpoint."""
    folder = _free_folder(f"{run.name}-{found.step}")
    folder.mkdir(parents=True)
    target = folder / "checkpoints" / found.path.name
    shutil.copytree(found.path, target, copy_function=_link)
    for name in ("run.json", "metrics.jsonl", "samples.jsonl", "records.json", "opening.json"):
        if (run.path / name).is_file():
            shutil.copyfile(run.path / name, folder / name)
    about = run.about | {"created": time.time(), "branched_from": {"run": run.name, "step": found.step}}
    write_json(folder / "run.json", about)
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
