"""Which models can be downloaded: those of the source, and the ids that a person added."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.files import read_json, read_toml, write_json
from glmstudio.models.family import refuse_id
from glmstudio.paths import paths

SOURCES = ("modelscope", "huggingface", "mirror")  # in the order in which they are tried

_ID = re.compile(r"[\w][\w.-]{0,95}/[\w][\w.-]{0,95}", re.ASCII)


@dataclass(frozen=True)
class Entry:
    """One model that can be had from a hub. Sizes in bytes, 0 where nobody knows them before the hub is asked."""

    name: str
    title: str
    modelscope: str = ""
    huggingface: str = ""
    size_bytes: int = 0
    memory_bytes: int = 0
    context: int = 0  # tokens
    can: tuple[str, ...] = ()  # chat, tools, finetune
    licence: str = ""  # an address
    more: bool = False  # whether it is shown only to those who ask for more

    def repo(self, source: str) -> str:
        """The model's id at `source`; empty where it is not there."""
        return self.modelscope if source == "modelscope" else self.huggingface

    @property
    def published(self) -> bool:
        """Whether a hub has it."""
        return bool(self.modelscope or self.huggingface)

    @property
    def added(self) -> bool:
        """Whether a person added this id."""
        return not self.can


def catalogue() -> dict[str, Entry]:
    """Every model that can be downloaded, by name: the shipped ones first."""
    entries = {name: _shipped(name, table) for name, table in _tables().items()}
    for name, repo in sorted(_added().items()):
        entries.setdefault(name, Entry(name, repo, repo, repo))
    return entries


def entry(name: str) -> Entry:
    """The model of that name. Raises StudioError."""
    found = catalogue().get(name)
    if found is None:
        raise StudioError("models.not_in_catalogue", name=name)
    return found


def is_id(text: str) -> bool:
    """Whether `text` has the form OWNER/NAME of a hub's id."""
    return bool(_ID.fullmatch(text)) and ".." not in text


def add_id(repo: str) -> Entry:
    """Put a hub's id (OWNER/NAME) into the catalogue. Raises StudioError for what is none, or names another family."""
    if not is_id(repo):
        raise StudioError("models.no_id", id=repo)
    for known in catalogue().values():
        if repo in (known.modelscope, known.huggingface):
            return known
    refuse_id(repo)
    name = repo.partition("/")[2]
    if name in catalogue() or name == "demo":
        name = repo.replace("/", "--")
    write_json(_file(), _added() | {name: repo})
    return entry(name)


def remove_id(name: str) -> bool:
    """Take an id that a person added out of the catalogue; False where it was not there."""
    added = _added()
    if name not in added:
        return False
    del added[name]
    write_json(_file(), added)
    return True


def licence_accepted(model: Entry) -> bool:
    """Whether somebody here ticked the licence of this model (models without a known licence need no tick)."""
    return not model.licence or model.licence in _accepted()


def accept_licence(model: Entry) -> None:
    """Write down that the licence was read and accepted."""
    if not licence_accepted(model):
        write_json(paths().state / "licences.json", _accepted() | {model.licence: time.time()})


def _accepted() -> dict[str, Any]:
    table = read_json(paths().state / "licences.json", {})
    return table if isinstance(table, dict) else {}


@cache
def _tables() -> dict[str, Any]:
    return read_toml(Path(__file__).with_suffix(".toml"))


def _shipped(name: str, table: dict[str, Any]) -> Entry:
    return Entry(name=name, **table | {"can": tuple(table["can"])})


def _added() -> dict[str, str]:
    table = read_json(_file(), {})
    listed = table.items() if isinstance(table, dict) else ()
    return {name: repo for name, repo in listed if isinstance(repo, str) and is_id(repo)}


def _file() -> Path:
    return paths().state / "catalogue.json"
