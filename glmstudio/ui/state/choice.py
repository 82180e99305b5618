"""The model in use, remembered across starts."""

from __future__ import annotations

from glmstudio.files import read_json, write_json
from glmstudio.models import Model, find_model
from glmstudio.models.inventory import InventoryItem, inventory
from glmstudio.paths import paths
from glmstudio.ui.framework.ttl_cache import cached
from glmstudio.ui.state.checkup import CHECKUP


@cached(0.9)
def items() -> list[InventoryItem]:
    """Every model on this machine or in the catalogue, as of a moment ago."""
    return inventory()


def models() -> list[Model]:
    """Every model on this machine."""
    return [item.model for item in items() if item.model]


def model_in_use() -> Model | None:
    """The chosen model; else the first one that is ready and fits the machine: the demo where there is no GPU."""
    chosen = read_json(paths().state / "choice.json", {})
    wanted = chosen.get("model") if isinstance(chosen, dict) else None
    named = next((model for model in models() if model.name == wanted), None)
    ready = [model for model in models() if model.ready]
    if not CHECKUP.gpus():
        ready.sort(key=lambda model: model.kind != "demo")
    return named or next(iter(ready), None)


def use_model(name: str) -> None:
    """Work with this model from now on. Raises StudioError where there is none, or it cannot be used."""
    model = find_model(name)
    if model.problem:
        raise model.problem
    write_json(paths().state / "choice.json", {"model": model.name})
