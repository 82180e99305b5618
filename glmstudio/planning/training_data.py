"""The data of a run as it is trained on: the user's records, and what its settings mix in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from glmstudio.config.settings import Settings
from glmstudio.data.mixture import PLAIN, Mixture
from glmstudio.data.store import Store, prepare
from glmstudio.data.watch import Tell
from glmstudio.demo.make_facts import rehearsal_file
from glmstudio.models import ready_model
from glmstudio.paths import KNOWLEDGE
from glmstudio.tools.toolbox import shipped, trained

Reader = Callable[[Path, Path, Mixture, int], Store]  # source, the model's folder, what is mixed in, piece


def mixture_of(settings: Settings) -> Mixture:
    """What these settings mix in. Raises StudioError where the model cannot be used."""
    if not settings.facts_with_tools and not settings.rehearsal and settings.facts_repeat == 1:
        return PLAIN
    demo = ready_model(settings.model).kind == "demo"
    tools = trained() if demo else shipped()
    return Mixture(
        settings.facts_with_tools,
        settings.facts_repeat,
        settings.rehearsal,
        tuple(tool.schema for tool in tools.values()),
        str(rehearsal_file() if demo else KNOWLEDGE / "rehearsal.jsonl"),
    )


def reader(tell: Tell | None = None) -> Reader:
    """What reads and tokenises data at once, where nobody has done so before; `tell` hears how far it is."""

    def read(source: Path, model: Path, mixture: Mixture, piece: int) -> Store:
        return prepare(source, model, mixture=mixture, piece=piece, tell=tell)

    return read


def training_data(settings: Settings) -> Store:
    """The data, read and tokenised once. Raises StudioError for what cannot be read."""
    model = ready_model(settings.model).path
    return prepare(Path(settings.data), model, mixture=mixture_of(settings), piece=settings.max_length)
