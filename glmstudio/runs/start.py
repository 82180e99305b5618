"""Start a run: write its directory, then a supervisor that owns it. Returns at once; nobody has to stay."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from glmstudio.cluster.join_code import write_code
from glmstudio.config.devices import processes_on
from glmstudio.config.presets import Preset
from glmstudio.errors import StudioError
from glmstudio.files import write_json
from glmstudio.paths import paths
from glmstudio.planning.resolve import READ_NOW, RunRequest, resolve
from glmstudio.planning.training_data import Reader
from glmstudio.rundir import queue_file
from glmstudio.rundir.occupancy import refuse_held
from glmstudio.rundir.record import Attempt, Placement, RunFiles, RunRecord, folder_mark
from glmstudio.rundir.run import Run
from glmstudio.runs import queue
from glmstudio.system import process

_NAME = re.compile(r"[\w][\w .-]{0,79}", re.UNICODE)
_BALLAST_BYTES = 64 << 10


def start_run(
    preset: Preset,
    *,
    data: Path | None = None,
    name: str | None = None,
    changes: Mapping[str, Any] | None = None,
    wait: bool = False,
    beside_chat: bool = False,
) -> Run:
    """Check what would surely fail, write the run's directory, and start its supervisor.

    Where another run holds the card, `wait` puts this one into the queue; `beside_chat` starts although a chat has a
    model loaded there. Raises StudioError for a model that is not whole, data that cannot be trained on, a bad or
    taken name, wrong settings, and a card that is held; nothing is left behind then.
    """
    return start(RunRequest(preset, data, name, changes or {}), wait=wait, beside_chat=beside_chat)


def start(request: RunRequest, *, wait: bool = False, beside_chat: bool = False, read: Reader = READ_NOW) -> Run:
    """As `start_run`, also on several machines: those join with the code in the run's folder (`join_code`)."""
    known = resolve(request, read)  # may take minutes, so before anybody has to wait for this turn
    with queue_file.turn():
        queued = bool(known.plan) and must_wait(known.device, wait=wait, beside_chat=beside_chat)
        known = known.planned(alone=queued)
        settings = known.ready().settings
        with _new_folder(request.name or _free_name(request.preset)) as run:
            record = RunRecord(
                preset=request.preset.name,
                settings=dataclasses.asdict(settings),
                created=time.time(),
                command=dataclasses.replace(request, data=Path(settings.data), name=run.name).command(),
                warm_start=str(known.warm_start) if known.warm_start else None,
                cluster=request.cluster,
                placement=Placement(known.device, processes_on(known.device, settings.processes)),
                attempt=Attempt.new(),
            )
            if request.cluster:
                write_code(run.path)
            record.write(run.path)
            write_ballast(run)
            begin(run, queued=queued)
    return run


def must_wait(device: str, *, wait: bool, beside_chat: bool) -> bool:
    """Whether the run has to queue for its device. Raises StudioError where it would have to and nobody said so."""
    try:
        refuse_held(device, chat_too=not beside_chat)
    except StudioError as held:
        if not wait or held.key != "runs.device_busy":
            raise
        return True
    return False


def begin(run: Run, *, queued: bool) -> None:
    """Launch a run whose directory is written, or put it into the queue."""
    if queued:
        write_json(run.path / RunFiles.STATUS, {"state": "queued"})
        queue_file.add(run.name)
        advance()
    else:
        launch(run)


def launch(run: Run) -> None:
    """Start the supervisor of a run whose directory is written."""
    record, attempt = run.record, Attempt.new(launched=time.time())
    placement = dataclasses.replace(record.placement, folder_mark=folder_mark(run.path))
    dataclasses.replace(record, placement=placement, attempt=attempt).write(run.path)
    write_json(run.path / RunFiles.STATUS, {"state": "starting"}, parents=False)
    with (run.path / RunFiles.LOG).open("ab") as log:
        process.spawn([sys.executable, "-m", "glmstudio.runs.supervise", str(run.path)], log, attempt.run_id)


def write_ballast(run: Run) -> None:
    """Keep room on the disk for the run's last words."""
    (run.path / RunFiles.BALLAST).write_bytes(b"\0" * _BALLAST_BYTES)


def advance() -> list[str]:
    """Start every waiting run whose card is free; returns their names."""
    return queue.advance(launch)


def check_name(name: str) -> Path:
    """The folder of a run of that name. Raises StudioError for a name that no run can have, or that one has."""
    if not _NAME.fullmatch(name) or name != name.strip() or ".." in name:
        raise StudioError("runs.bad_name", name=name)
    folder = paths().runs / name
    if os.path.lexists(folder):
        raise StudioError("runs.name_taken", name=name)
    return folder


def _free_name(preset: Preset) -> str:
    base = f"{preset.name.replace('/', '-')}-{time.strftime('%m%d-%H%M')}"
    name, number = base, 2
    while (paths().runs / name).exists():
        name, number = f"{base}-{number}", number + 1
    return name


@contextlib.contextmanager
def _new_folder(name: str) -> Iterator[Run]:
    """A new run's folder, to be filled; where the system refuses that, nothing stays."""
    run = _make_folder(name)
    try:
        yield run
    except OSError as error:
        shutil.rmtree(run.path, ignore_errors=True)
        raise StudioError("runs.no_folder", folder=str(run.path), reason=error.strerror or str(error)) from error


def _make_folder(name: str) -> Run:
    folder = check_name(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()  # the one atomic step: of two clicks at once, one fails here
    except FileExistsError as error:
        raise StudioError("runs.name_taken", name=name) from error
    except OSError as error:
        raise StudioError("runs.no_folder", folder=str(folder), reason=error.strerror or str(error)) from error
    return Run(name, folder)
