"""Adapters by what a person calls them: a run's name or a folder, and under which name a server answers as each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.families.recognition import family_of
from glmstudio.files import read_json
from glmstudio.models import find_model, list_models
from glmstudio.models.catalogue import catalogue
from glmstudio.models.family import refuse_other_adapter
from glmstudio.paths import paths
from glmstudio.rundir.run import find_run


def adapter_folder(adapter: str | None) -> Path | None:
    """The folder of an adapter: the result of the run of that name, or the folder itself. Raises StudioError."""
    if not adapter:
        return None
    if os.path.isdir(adapter):  # noqa: PTH112  never raises, whatever the name
        return Path(adapter).resolve()
    try:
        run = find_run(adapter)
    except StudioError as error:
        raise StudioError("adapters.missing", folder=adapter) from error
    if run.result is None:
        raise StudioError("chat.run_unfinished", name=adapter)
    return run.result


def adapter_name(adapter: str) -> str:
    """Under which name requests ask for an adapter: the run's, or a checkpoint's with its run."""
    path = Path(adapter)
    if path.is_absolute() and path.is_relative_to(paths().runs):
        return "/".join(path.relative_to(paths().runs).parts)
    return path.resolve().name if os.path.isdir(adapter) else adapter  # noqa: PTH112


def named_folders(adapters: Sequence[str], base: str) -> dict[str, Path]:
    """The folder of each adapter by its name in requests; where two would be called alike, by its whole path.

    Raises StudioError for an adapter that is none.
    """
    found: dict[str, Path] = {}
    for adapter in adapters:
        folder, name = adapter_folder(adapter), adapter_name(adapter)
        if folder is not None:
            found[str(folder) if name in ("", base, *found) else name] = folder
    return found


def check_base(model: str, folder: Path | None) -> None:
    """Raise StudioError where the adapter says that it was made on another model: the sizes of 6B, Base and 32K are
    equal, so nothing else would notice."""
    if folder:
        refuse_other_adapter(folder, family_of(find_model(model).path))
    about = read_json(folder / "adapter.json", {}) if folder else {}
    base = about.get("base") if isinstance(about, dict) else None
    known = {each.name for each in list_models()} | set(catalogue())
    if base in known and model in known and base != model:
        raise StudioError("adapters.other_base", folder=str(folder), base=base, model=model)
