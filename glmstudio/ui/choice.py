"""The model that a person chose to work with, remembered across starts."""

from __future__ import annotations

from glmstudio.files import read_json, write_json
from glmstudio.models import Model, find_model, list_models
from glmstudio.paths import paths
from glmstudio.ui.snapshot import shared


@shared(2.0)
def models() -> list[Model]:
    """Every model, as `list_models` found them a moment ago."""
    return list_models()


def model_in_use() -> Model | None:
    """The chosen model, or the first one that is ready; None where there is none at all."""
    chosen = read_json(paths().state / "choice.json", {})
    wanted = chosen.get("model") if isinstance(chosen, dict) else None
    named = next((model for model in models() if model.name == wanted), None)
    return named or next((model for model in models() if model.ready), None)


def use_model(name: str) -> None:
    """Work with this model from now on. Raises StudioError where there is none, or it cannot be used."""
    model = find_model(name)
    if model.problem:
        raise model.problem
    write_json(paths().state / "choice.json", {"model": model.name})
