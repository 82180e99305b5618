"""Who is asked: the base, and what was tuned from it."""

from __future__ import annotations

from glmstudio.chat.adapters import adapter_folder
from glmstudio.errors import StudioError
from glmstudio.knowledge.asking import ModelUnderTest
from glmstudio.knowledge.result import BASE, TUNED
from glmstudio.models import ready_model
from glmstudio.rundir.occupancy import chat_device, run_on
from glmstudio.rundir.run import Run


def parts_of(model: str, adapter: str, run: Run | None) -> tuple[ModelUnderTest, ...]:
    """The base, and what was tuned from it: an adapter, or after full fine-tuning a model of its own. Raises
    StudioError where one is missing."""
    if run is not None and run.is_whole_model and run.result is not None:
        base = ready_model(run.model).path
        return ModelUnderTest(BASE, str(base)), ModelUnderTest(TUNED, str(ready_model(str(run.result)).path))
    folder = adapter_folder(adapter)
    path = str(ready_model(model).path)
    return (
        (ModelUnderTest(BASE, path), ModelUnderTest(TUNED, path, str(folder)))
        if folder
        else (ModelUnderTest(BASE, path),)
    )


def not_beside_a_run() -> None:
    """Raise StudioError where a run holds the card on which the questions would be asked."""
    if run := run_on(chat_device()):
        raise StudioError("ui.run.versus_busy", name=run.name)
