"""Every model that there is or could be, with its state: what the page and `models list` show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.models import verification
from glmstudio.models.catalogue import Entry, catalogue
from glmstudio.models.jobs import ModelJob, read
from glmstudio.models.library import DEMO_NAME, Model, list_models, place_of

_AT_WORK = {"download": "downloading", "verify": "verifying", "repair": "repairing", "convert": "converting"}


@dataclass(frozen=True)
class InventoryItem:
    """One model. `state` is one of ready, absent, unverified, broken, downloading, verifying, repairing, converting,
    paused and stopped (a download that is not finished: by the user's wish, or with a reason)."""

    name: str
    title: str
    folder: Path
    state: str
    entry: Entry | None
    model: Model | None
    job: ModelJob | None

    @property
    def problem(self) -> StudioError | None:
        """What keeps it from being used, if anything is wrong with it."""
        if self.state == "stopped" and self.job and self.job.problem:
            return self.job.problem
        if self.state == "broken" and self.job and self.job.problems:
            return self.job.problems[0]
        return self.model.problem if self.model and self.state in ("broken", "unverified") else None


def inventory() -> list[InventoryItem]:
    """The catalogue in its order, with the demo behind the first models, then every other folder."""
    models = {model.name: model for model in list_models()}
    names = [name for name, entry in catalogue().items() if not entry.added and not entry.more]
    names += [DEMO_NAME]
    names += [name for name in (*catalogue(), *models) if name not in names]
    return [_item(name, models.get(name)) for name in dict.fromkeys(names)]


def item(name: str) -> InventoryItem:
    """The model of that name. Raises StudioError."""
    for found in inventory():
        if found.name == name:
            return found
    raise StudioError("models.unknown", name=name)


def _item(name: str, model: Model | None) -> InventoryItem:
    entry = catalogue().get(name)
    folder = model.path if model else place_of(name)
    job = None if name == DEMO_NAME else read(folder)
    title = model.title if model else entry.title if entry else name
    return InventoryItem(name, title, folder, _state(model, job), entry, model, job)


def _state(model: Model | None, job: ModelJob | None) -> str:
    if job and job.live:
        return _AT_WORK[job.kind]
    if model and job and job.problems and verification.is_verified(model.path) is None:
        return "broken"
    if model and model.ready:
        return "ready"
    if job and job.resumable:
        return "paused" if job.state == "paused" else "stopped"
    if model is None:
        return "absent"
    return "unverified" if model.unverified else "broken"
