"""What must be the same in all processes that train one run, on one machine or on several."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from glmstudio import __version__
from glmstudio.config.settings import Settings
from glmstudio.errors import LazyText, StudioError
from glmstudio.files import read_json
from glmstudio.models.folder import model_files
from glmstudio.paths import ROOT

_PACKAGES = ("torch", "transformers", "accelerate", "peft")
_SOURCE = ("data", "glm", "train")  # what decides the numbers
_WORDS = {
    "program": LazyText("runs.fact_program"),
    "settings": LazyText("runs.fact_settings"),
    "data": LazyText("runs.fact_data"),
    "model": LazyText("runs.fact_model"),
}
_PLACES = ("model", "data", "validation", "device", "processes", "warm_start")  # paths and cards are each machine's own


def fingerprint(settings: Settings, *, data: str, model: Path) -> dict[str, str]:
    """Name -> value, short texts; `data`: the check sum of the data set as it was read."""
    kept = {name: value for name, value in dataclasses.asdict(settings).items() if name not in _PLACES}
    return {
        "program": f"{__version__} ({_source()})",
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        "settings": _short(json.dumps(kept, sort_keys=True)),
        "data": data[:12],
        "model": _short(json.dumps([read_json(model / "config.json", None), _sizes(model)], sort_keys=True)),
    }


def difference(ours: Mapping[str, str], theirs: Mapping[str, str]) -> tuple[str, str, str] | None:
    """The first fact that is not the same: its name, our value, theirs."""
    for name, value in ours.items():
        if theirs.get(name) != value:
            return name, value, str(theirs.get(name, "–"))
    return None


def differs(rank: int, machine: str, found: tuple[str, str, str]) -> StudioError:
    """The error for a process that is not like the first one."""
    name, ours, theirs = found
    return StudioError(
        "runs.rank_differs", rank=rank, machine=machine, what=what_differs(name), ours=ours, theirs=theirs
    )


def what_differs(name: str) -> LazyText:
    """The words for a fact."""
    return _WORDS.get(name) or LazyText("runs.fact_package", {"name": name})


def _sizes(model: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in model_files(model)}


@cache
def _source() -> str:
    """A sum over the program's own text, as far as it decides the numbers."""
    total = hashlib.sha256()
    for room in _SOURCE:
        for file in sorted((ROOT / "glmstudio" / room).rglob("*.py")):
            total.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return total.hexdigest()[:8]


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
