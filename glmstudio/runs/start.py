"""Start a run: write its directory, then a supervisor that owns it. Returns at once; nobody has to stay."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shlex
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from glmstudio.cluster.join_code import write_code
from glmstudio.config.devices import choose, processes_on
from glmstudio.config.presets import Preset
from glmstudio.config.settings import Settings, change
from glmstudio.data.store import Store, prepare
from glmstudio.errors import StudioError
from glmstudio.files import read_table, write_json
from glmstudio.models import list_models, ready_model
from glmstudio.models.library import DEMO_NAME
from glmstudio.paths import FACTS, SAMPLE, paths
from glmstudio.planning.engines import problem as engine_problem
from glmstudio.planning.plan import DeviceMemory, device_memory_of, make_plan
from glmstudio.planning.training_data import training_data
from glmstudio.rundir import queue_file
from glmstudio.rundir.copies import folder_mark
from glmstudio.rundir.machines import Cluster
from glmstudio.rundir.occupancy import refuse_held
from glmstudio.rundir.run import BALLAST, Run, find_run
from glmstudio.runs import queue
from glmstudio.system import process

_NAME = re.compile(r"[\w][\w .-]{0,79}", re.UNICODE)
_BALLAST_BYTES = 64 << 10


@dataclasses.dataclass(frozen=True)
class RunRequest:
    """What somebody wants to train: a preset, its data (None: as the preset says), a name, other settings, and the
    machines (None: this one alone)."""

    preset: Preset
    data: Path | None = None
    name: str | None = None
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    cluster: Cluster | None = None

    def settings(self) -> Settings:
        """All settings with their paths made absolute. Raises StudioError for wrong ones and for missing data."""
        settings = change(self.preset.settings, self.changes, source="--set")
        if "steps" in self.changes and "epochs" not in self.changes:
            settings = dataclasses.replace(settings, epochs=0.0)  # whoever says how many steps means it
        if settings.method == "full" and settings.base_bits != "16":
            raise StudioError("runs.full_bits", bits=settings.base_bits)
        settings = dataclasses.replace(settings, data=str(_data(settings, self.data)))
        if settings.validation:
            settings = dataclasses.replace(settings, validation=str(Path(settings.validation).expanduser().resolve()))
        model = ready_model(settings.model)
        if settings.model not in {known.name for known in list_models()}:
            settings = dataclasses.replace(settings, model=str(model.path))  # the run's folder is not where we stand
        if self.cluster:
            settings = dataclasses.replace(settings, processes=self.cluster.machines[0].processes)
            if settings.checkpoint_form == "sharded":
                raise StudioError("cluster.sharded")
        return settings

    def command(self) -> str:
        """The same start, as one types it."""
        return shlex.join(self.parts())

    def parts(self, *, with_machines: bool = True) -> list[str]:
        """The words of that command."""
        parts = ["python", "launcher.py", "train", self.preset.name]
        if self.data is not None and self.data != SAMPLE:
            parts += ["--data", str(self.data)]
        if self.name:
            parts += ["--name", self.name]
        for key, value in self.changes.items():
            parts += ["--set", f"{key}={value}"]
        return parts + (self.cluster.flags if self.cluster and with_machines else [])


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


def start(asked: RunRequest, *, wait: bool = False, beside_chat: bool = False) -> Run:
    """As `start_run`, also on several machines: those join with the code in the run's folder (`join_code`)."""
    settings = asked.settings()
    warm = _warm_start(settings)
    device = choose(settings.device, settings.processes)
    if wrong := engine_problem(settings, device):
        raise wrong
    store = _read(settings)  # may take minutes, so before anybody has to wait for this turn
    with queue_file.turn():
        queued = must_wait(device, wait=wait, beside_chat=beside_chat)
        settings = _planned(settings, device_memory_of(device, settings.processes, alone=queued), store)
        with _new_folder(asked.name or _free_name(asked.preset)) as run:
            about = {
                "schema": 2,
                "preset": asked.preset.name,
                "settings": dataclasses.asdict(settings),
                "device": device,
                "processes": processes_on(device, settings.processes),
                "warm_start": str(warm) if warm else None,
                "created": time.time(),
                "command": dataclasses.replace(asked, data=Path(settings.data), name=run.name).command(),
            }
            if asked.cluster:
                about["cluster"] = asked.cluster.to_json()
                write_code(run.path)
            write_json(run.path / "run.json", about | _attempt())
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
        write_json(run.path / "status.json", {"state": "queued"})
        queue_file.add(run.name)
        advance()
    else:
        launch(run)


def launch(run: Run) -> None:
    """Start the supervisor of a run whose directory is written."""
    about, attempt = run.about, _attempt()
    for name in ("supervisor", "agent", "port", "argv"):
        about.pop(name, None)
    write_json(
        run.path / "run.json",
        about | attempt | {"launched": time.time(), "place": folder_mark(run.path)},
        parents=False,
    )
    write_json(run.path / "status.json", {"state": "starting"}, parents=False)
    run_id = str(attempt["run_id"])
    with (run.path / "train.log").open("ab") as log:
        process.spawn([sys.executable, "-m", "glmstudio.runs.supervise", str(run.path)], log, run_id)


def write_ballast(run: Run) -> None:
    """Keep room on the disk for the run's last words."""
    (run.path / BALLAST).write_bytes(b"\0" * _BALLAST_BYTES)


def _attempt() -> dict[str, Any]:
    """What tells this attempt from an earlier one, and when it was; by a clock that nobody can set back."""
    return {"run_id": uuid.uuid4().hex, "boot": process.boot_id(), "monotonic": time.monotonic()}


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


def _data(settings: Settings, data: Path | None) -> Path:
    chosen = str(data or settings.data)
    if not chosen and settings.model != DEMO_NAME:
        raise StudioError("runs.needs_data", model=settings.model)
    shipped = {"": SAMPLE, "sample": SAMPLE, "facts": FACTS}
    return shipped[chosen] if chosen in shipped else Path(chosen).expanduser().resolve()


def _read(settings: Settings) -> Store:
    """The data, read and tokenised once. Raises StudioError for what cannot be read."""
    if settings.validation:
        prepare(Path(settings.validation), ready_model(settings.model).path, piece=settings.max_length)
    return training_data(settings)


def _planned(settings: Settings, place: DeviceMemory, store: Store) -> Settings:
    """The settings with "auto" decided. Raises StudioError for data that are refused, and for what cannot fit."""
    plan = make_plan(settings, place, store, store.select(settings.bad_records, settings.max_length))
    if plan.problem:
        raise plan.problem
    return plan.settings


def _warm_start(settings: Settings) -> Path | None:
    """The folder with the numbers to go on from: the result of a run of that name, or the folder itself."""
    if not settings.warm_start:
        return None
    folder = Path(settings.warm_start).expanduser()
    if not folder.is_dir():
        try:
            result = find_run(settings.warm_start).result
        except StudioError as error:
            raise StudioError("adapters.missing", folder=settings.warm_start) from error
        if result is None:
            raise StudioError("runs.no_result", name=settings.warm_start)
        folder = result
    lora = read_table(folder / "adapter_config.json").get("peft_type") == "LORA"
    if settings.method == "full" or lora != (settings.method == "lora"):
        raise StudioError("runs.warm_kind", folder=str(folder))
    return folder.resolve()


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
