"""Start a run: write its directory, then a supervisor that owns it. Returns at once; nobody has to stay."""

from __future__ import annotations

import dataclasses
import re
import shlex
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glmstudio import process
from glmstudio.data.records import check_file
from glmstudio.errors import StudioError
from glmstudio.files import write_json
from glmstudio.models import list_models, ready_model
from glmstudio.models.library import DEMO_NAME
from glmstudio.paths import DEMO, paths
from glmstudio.runs.presets import Preset, Settings, change
from glmstudio.runs.run import Run

SAMPLE = DEMO / "sample.jsonl"
_NAME = re.compile(r"[\w][\w .-]{0,79}", re.UNICODE)


def start_run(
    preset: Preset,
    *,
    data: Path | None = None,
    name: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Run:
    """Check what would surely fail, write the run's directory, and start its supervisor.

    Raises StudioError for a model that is not whole, data that cannot be trained on, a bad or taken name, and wrong
    settings; nothing is left behind then.
    """
    settings = change(preset.settings, changes or {}, source="--set")
    settings = dataclasses.replace(settings, data=str(_data(settings, data)))
    model = ready_model(settings.model)
    if settings.model not in {known.name for known in list_models()}:
        settings = dataclasses.replace(settings, model=str(model.path))  # the run's folder is not where we stand
    _check_data(settings)
    run = _make_folder(name or _free_name(preset))
    command = [sys.executable, "-m", "glmstudio.runs.supervise", str(run.path)]
    run_id = uuid.uuid4().hex
    about = {
        "schema": 1,
        "run_id": run_id,
        "preset": preset.name,
        "settings": dataclasses.asdict(settings),
        "created": time.time(),
        "command": command_line(preset, data=Path(settings.data), name=run.name, changes=changes),
    }
    write_json(run.path / "run.json", about)
    write_json(run.path / "status.json", {"state": "starting"})
    log = (run.path / "train.log").open("ab")
    with log:
        process.spawn(command, log, run_id)
    return run


def command_line(
    preset: Preset, *, data: Path | None = None, name: str | None = None, changes: Mapping[str, Any] | None = None
) -> str:
    """The same start, as one types it."""
    parts = ["python", "launcher.py", "train", preset.name]
    if data is not None and data != SAMPLE:
        parts += ["--data", str(data)]
    if name:
        parts += ["--name", name]
    for key, value in (changes or {}).items():
        parts += ["--set", f"{key}={value}"]
    return shlex.join(parts)


def _data(settings: Settings, data: Path | None) -> Path:
    chosen = str(data or settings.data)
    if not chosen and settings.model != DEMO_NAME:
        raise StudioError("runs.needs_data", model=settings.model)
    return SAMPLE if chosen in ("", "sample") else Path(chosen).expanduser().resolve()


def _check_data(settings: Settings) -> None:
    check = check_file(settings.data)
    if not check.records:
        raise StudioError("data.file_empty", file=settings.data)
    if check.problems and not settings.skip_bad_records:
        first = check.problems[0]
        raise StudioError(
            "data.file_problems", file=settings.data, count=len(check.problems), line=first.line, reason=first.reason
        )


def _free_name(preset: Preset) -> str:
    base = f"{preset.name.replace('/', '-')}-{time.strftime('%m%d-%H%M')}"
    name, number = base, 2
    while (paths().runs / name).exists():
        name, number = f"{base}-{number}", number + 1
    return name


def _make_folder(name: str) -> Run:
    if not _NAME.fullmatch(name) or name != name.strip() or ".." in name:
        raise StudioError("runs.bad_name", name=name)
    folder = paths().runs / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()  # the one atomic step: of two clicks at once, one fails here
    except FileExistsError as error:
        raise StudioError("runs.name_taken", name=name) from error
    except OSError as error:
        raise StudioError("runs.no_folder", folder=str(folder), reason=error.strerror or str(error)) from error
    return Run(name, folder)
