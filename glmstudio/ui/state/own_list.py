"""The own datasets as the page lists them: how many records each has, and which run used it last."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from glmstudio.data.own.columns import UnknownColumns, unknown_columns
from glmstudio.data.own.own_files import OwnData, delete, own_data
from glmstudio.data.readers.sources import is_text_file, source_files
from glmstudio.data.readers.values import read_values
from glmstudio.errors import StudioError
from glmstudio.rundir.run import list_runs
from glmstudio.ui.framework.ttl_cache import cached
from glmstudio.ui.state import ways
from glmstudio.ui.state.background import TASKS
from glmstudio.ui.state.page_state import FinetuneState, Sentence
from glmstudio.ui.state.runwatch import RunSnapshot, newest_first

_COUNTED_AT_ONCE = 1 << 16  # bytes
_MOST_COUNTED = 64 << 20  # bytes: a larger one would keep the page's process busy for long

Stamps = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class OwnItem:
    """One dataset. `records` is None where they are not counted, `counting` where they are being counted; `run` is
    the last one that used it."""

    data: OwnData
    records: int | None
    counting: bool
    run: RunSnapshot | None
    unknown: bool  # nobody knows the columns of a file of it


@cached(0.9)
def own_items() -> list[OwnItem]:
    """Every own dataset, the one that was changed last first."""
    last = dict[str, RunSnapshot]()
    for run in newest_first():
        last.setdefault(run.data, run)
    return [_item(data, last) for data in own_data()]


def find_item(name: str) -> OwnItem | None:
    """The dataset of that name."""
    return next((item for item in own_items() if item.data.name == name), None)


def choose(form: FinetuneState, path: Path, told: Sentence | None = None) -> FinetuneState:
    """The form with this dataset as its data."""
    if form.source == "facts":  # they have presets of their own
        form = replace(form, preset="", changes=(), settings_problem=None)
    ways.remember("file")
    own = replace(form.own, told=told, problem=None)
    return replace(form, source="file", data=str(path), picked=True, record=0, form_problem=None, own=own)


def refuse_used(data: OwnData) -> None:
    """Raise StudioError while a run that has not ended uses the dataset, for it would break."""
    for run in list_runs():  # what the page saw a moment ago may have changed since
        if any(_is_in(each, data) for each in (run.data, run.settings.get("validation"))) and run.read_state().live:
            raise StudioError("data.own_in_use", name=data.name, run=run.name)


def delete_item(item: OwnItem) -> None:
    """Delete the dataset. Raises StudioError while a run uses it, and OSError."""
    refuse_used(item.data)
    delete(item.data)


def unknown_in(source: Path) -> UnknownColumns | None:
    """The first file of a source whose columns nobody knows; None, too, where the source cannot be read."""
    try:
        return _unknown(source, _stamps(source_files(source)))
    except (StudioError, OSError):
        return None


@lru_cache(200)
def _unknown(source: Path, _: Stamps) -> UnknownColumns | None:
    return unknown_columns(source)


def _item(data: OwnData, last: dict[str, RunSnapshot]) -> OwnItem:
    records, counting = _counted(data)
    run = next((run for used, run in last.items() if _is_in(used, data)), None)
    return OwnItem(data, records, counting, run, unknown_in(data.path) is not None)


def _is_in(used: object, data: OwnData) -> bool:
    """Whether a path that a run used is this dataset, or a file of it."""
    return bool(used) and (Path(str(used)) == data.path or data.path in Path(str(used)).parents)


def _counted(data: OwnData) -> tuple[int | None, bool]:
    """How many records there are, and whether they are still being counted. Running text has none."""
    files = [file for file in data.files if not is_text_file(file)]
    if data.size > _MOST_COUNTED or not files:
        return None, False
    try:
        stamps = _stamps(files)
    except OSError:
        return None, False
    owner = repr(stamps)
    if data.size <= _COUNTED_AT_ONCE and not any(file.suffix.lower() == ".xlsx" for file in files):
        return _count(stamps), False
    task = TASKS.get(owner, "count")
    if task is None:
        TASKS.start(owner, "count", lambda _: _count(stamps))
        return None, True
    return task.result, task.running


@lru_cache(200)
def _count(stamps: Stamps) -> int | None:
    try:
        return sum(not isinstance(value, StudioError) for name, *_ in stamps for _, value in read_values(Path(name)))
    except StudioError:
        return None


def _stamps(files: tuple[Path, ...] | list[Path]) -> Stamps:
    return tuple((str(file), about.st_mtime_ns, about.st_size) for file in files for about in [file.stat()])
