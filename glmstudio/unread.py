"""The studio's own files that cannot be read: they count as absent, and whoever looks is told which ones."""

from __future__ import annotations

from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.files import unread
from glmstudio.paths import paths


def unread_files() -> list[StudioError]:
    """A word about each of them, as far as they were looked at; those of models are told with the model."""
    here = paths()
    found = (name for name in unread(here.home) if not Path(name).is_relative_to(here.models))
    return [StudioError("system.unread", file=name) for name in found]
