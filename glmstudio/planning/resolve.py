"""What somebody asks to train, and what it comes to: settings, device, data, plan, and what stands in the way.

The page resolves its form once a second, the command prints what it finds, and a start writes it down: one way for all,
so that they cannot disagree.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from glmstudio.config.devices import choose
from glmstudio.config.presets import Preset
from glmstudio.config.settings import Settings, change
from glmstudio.data.mixture import PLAIN
from glmstudio.data.selection import Selection
from glmstudio.data.store import Store
from glmstudio.errors import StudioError
from glmstudio.files import read_table
from glmstudio.models import list_models, ready_model
from glmstudio.models.folder import holds_prefix
from glmstudio.models.library import DEMO_NAME
from glmstudio.paths import FACTS, SAMPLE
from glmstudio.planning import engines
from glmstudio.planning.memory_fit import device_memory_of
from glmstudio.planning.plan import Plan, make_plan
from glmstudio.planning.training_data import Reader, mixture_of, reader
from glmstudio.rundir.machines import Cluster
from glmstudio.rundir.run import find_run

EngineProblem = Callable[[Settings, str], StudioError | None]
READ_NOW = reader()
ENOUGH_TO_VALIDATE = 50  # conversations
_VALIDATED = 0.05  # of them
_MOST_VALIDATED = 200  # more cost time at each checkpoint and say little more


@dataclass(frozen=True)
class RunRequest:
    """What somebody wants to train: a preset, its data (None: as the preset says), a name, other settings, and the
    machines (None: this one alone)."""

    preset: Preset
    data: Path | None = None
    name: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    cluster: Cluster | None = None

    def settings(self) -> Settings:
        """All settings with their paths made absolute. Raises StudioError for wrong ones and for missing data."""
        settings = change(self.preset.settings, self.changes, source="--set")
        if "steps" in self.changes and "epochs" not in self.changes:
            settings = replace(settings, epochs=0.0)  # whoever says how many steps means it
        if settings.method == "full" and settings.base_bits != "16":
            raise StudioError("runs.full_bits", bits=settings.base_bits)
        settings = replace(settings, data=str(_data(settings, self.data)))
        if settings.validation:
            settings = replace(settings, validation=str(Path(settings.validation).expanduser().resolve()))
        model = ready_model(settings.model)
        if holds_prefix(model.path):
            raise StudioError("models.holds_prefix", folder=str(model.path))
        if settings.model not in {known.name for known in list_models()}:
            settings = replace(settings, model=str(model.path))  # the run's folder is not where we stand
        if self.cluster:
            settings = replace(settings, processes=self.cluster.machines[0].processes)
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


@dataclass(frozen=True)
class Resolved:
    """A request as far as it could be worked out; `problem` is the first thing that stands in the way.

    `settings` are complete, with absolute paths; those of the `plan` have "auto" decided. `warm_start` is the folder
    that the training goes on from. `auto_validation`: conversations are held out although nobody asked for it.
    """

    request: RunRequest | None = None
    settings: Settings | None = None
    device: str = ""
    data: Store | None = None
    selection: Selection | None = None
    warm_start: Path | None = None
    auto_validation: bool = False
    plan: Plan | None = None
    problem: StudioError | None = None

    def planned(self, *, alone: bool = False, engine_problem: EngineProblem = engines.problem) -> Resolved:
        """The same with the plan for the memory that is free now, or, `alone`, for a device that nobody else uses; as
        it is without data. Raises StudioError for a warm start from nothing, and where the device is gone."""
        if self.settings is None or self.data is None or self.selection is None:
            return self
        warm_start = _warm_start(self.settings)
        memory = device_memory_of(self.device, self.settings.processes, alone=alone)
        plan = make_plan(self.settings, memory, self.data, self.selection)
        plan = replace(plan, auto_validation=self.auto_validation)
        problem = engine_problem(self.settings, self.device) or plan.problem
        return replace(self, warm_start=warm_start, plan=plan, problem=problem)

    def ready(self) -> Plan:
        """The plan. Raises StudioError for what stands in the way of a start."""
        if self.plan is None or self.problem is not None:
            raise self.problem or LookupError("nothing was resolved")
        return self.plan


def resolve(
    request: RunRequest, read: Reader = READ_NOW, *, engine_problem: EngineProblem = engines.problem
) -> Resolved:
    """What the request comes to on this machine, now. Never raises StudioError.

    `read` gets the data; it may raise StudioError while they are not there yet.
    """
    known = Resolved(request)
    try:
        settings = request.settings()
        device = choose(settings.device, settings.processes)
        known = replace(known, settings=settings, device=device)
        model = ready_model(settings.model).path
        data = read(Path(settings.data), model, mixture_of(settings), settings.max_length)
        known = replace(known, data=data)
        if settings.validation:
            read(Path(settings.validation), model, PLAIN, settings.max_length).select("drop", settings.max_length)
        chosen = data.select(settings.bad_records, settings.max_length)
        validated = with_validation(settings, data, chosen)
        known = replace(known, settings=validated, selection=chosen, auto_validation=validated != settings)
        return known.planned(engine_problem=engine_problem)
    except StudioError as problem:
        return replace(known, problem=problem)


def with_validation(settings: Settings, data: Store, chosen: Selection) -> Settings:
    """The settings with a share to validate, where nobody said how, and the data are enough; facts are all learned."""
    said = settings.validation or settings.validation_share or not settings.validation_auto
    facts = "facts" in (data.form, settings.best_by)
    if said or facts or chosen.used < ENOUGH_TO_VALIDATE:
        return settings
    share = min(_VALIDATED, _MOST_VALIDATED / chosen.used)
    return replace(settings, validation_share=round(share, 6))


def _data(settings: Settings, data: Path | None) -> Path:
    chosen = str(data or settings.data)
    if not chosen and settings.model != DEMO_NAME:
        raise StudioError("runs.needs_data", model=settings.model)
    shipped = {"": SAMPLE, "sample": SAMPLE, "facts": FACTS}
    return shipped[chosen] if chosen in shipped else Path(chosen).expanduser().resolve()


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
