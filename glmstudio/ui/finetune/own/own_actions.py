"""The actions of the own datasets: take what was uploaded, choose, delete, name the columns, save rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from glmstudio.data.own import own_files
from glmstudio.data.own.columns import use_columns
from glmstudio.data.own.record_rows import LONGEST_TEXT, RowEdit, read_rows, save_rows
from glmstudio.errors import StudioError, refused
from glmstudio.paths import paths
from glmstudio.ui.finetune.own.rows_view import first_shown
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.state import uploads, ways
from glmstudio.ui.state.own_list import choose, delete_item, find_item, refuse_used, unknown_in
from glmstudio.ui.state.page_state import FinetuneState, Sentence

Data = dict[str, Any]

_KINDS = ("question", "answer", "json")
_MOST_FILES = 200  # in one upload


def act(form: FinetuneState, data: Data) -> FinetuneState:
    """A button of the own datasets was pressed; what was typed into rows is saved first, and what goes wrong is shown
    there."""
    name = str(data.get("act"))
    if name not in _ACTIONS:
        return form
    form = _silent(form)
    form = form if name == "own-delete" else _tried(form, lambda form: _saved(form, data))
    return form if form.own.problem else _tried(form, lambda form: _ACTIONS[name](form, data))


def take_upload(form: FinetuneState, upload: Any) -> FinetuneState:
    """Keep uploaded files in the workspace and use them; the browser's names for them are never trusted as paths."""
    sent = upload if isinstance(upload, list) else [upload]
    given = [Path(str(getattr(each, "name", each))) for each in sent if each]
    form = _silent(replace(form, own=replace(form.own, uploads=form.own.uploads + 1)))
    return _tried(form, lambda form: _taken(form, given)) if given else form


def is_mine(name: str) -> bool:
    """Whether a field of the page belongs to the rows."""
    return name.startswith("row.")


def save_typed(form: FinetuneState, fields: dict[str, Any]) -> FinetuneState:
    """Save what was typed into the rows before a start: a plan must be seen before it is started."""
    form = _tried(_silent(form), lambda form: _saved(form, {"fields": fields}))
    return replace(form, form_problem=form.own.problem or StudioError("ui.own.rows_saved"))


def _silent(form: FinetuneState) -> FinetuneState:
    """The form without what the last action said."""
    return replace(form, own=replace(form.own, problem=None, told=None))


def _tried(form: FinetuneState, do: Callable[[FinetuneState], FinetuneState]) -> FinetuneState:
    """The form after an action; an error is shown beside the datasets."""
    try:
        return do(form)
    except StudioError as error:
        problem = error
    except OSError as error:
        problem = refused(error)
    return replace(form, own=replace(form.own, problem=problem))


def _taken(form: FinetuneState, given: list[Path]) -> FinetuneState:
    try:
        if len(given) > _MOST_FILES:
            raise StudioError("data.many_files", most=_MOST_FILES)
        found = own_files.add(given, uploads.take)
    finally:
        for each in given:
            uploads.drop(each)
    key = "there" if found.there else "added_other" if found.taken else "added"
    values = {"name": found.path.name} | ({"taken": found.taken} if found.taken else {})
    return choose(form, found.path, (f"ui.own.{key}", values))


def _use(form: FinetuneState, data: Data) -> FinetuneState:
    item = find_item(str(data.get("name")))
    if item is None:
        raise StudioError("data.not_own", file=str(data.get("name"))[:80])
    return _close(choose(form, item.data.path), data)


def _facts(form: FinetuneState, _: Data) -> FinetuneState:
    ways.remember("facts")
    return replace(form, source="facts", preset="", changes=(), settings_problem=None, form_problem=None)


def _delete(form: FinetuneState, data: Data) -> FinetuneState:
    if (item := find_item(str(data.get("name")))) is None:
        return form
    delete_item(item)
    path = item.data.path
    inside = [Path(each) == path or path in Path(each).parents for each in (form.data, form.own.rows)]
    own = replace(form.own, told=("ui.own.deleted", {"name": path.name}), rows="" if inside[1] else form.own.rows)
    form = replace(form, own=own)
    return replace(form, data="", picked=True, record=0) if inside[0] else form


def _columns(form: FinetuneState, data: Data) -> FinetuneState:
    """Write the records under known names; the choice of two columns is not asked again."""
    unknown = unknown_in(Path(form.data))
    if unknown is None:
        return form
    if (own := own_files.find_own(unknown.file)) is not None:
        refuse_used(own)
    fields = _fields(data)
    given = zip(("question", "answer"), unknown.guessed(), strict=True)  # the page sends what differs
    question, answer = (_whole(fields.get(side, guess), -1) for side, guess in given)
    ticked = data.get("ticked")
    found = use_columns(unknown, question, answer, named="named" in (ticked if isinstance(ticked, list) else []))
    values = {"n": found.records} | ({"left": found.left_out} if found.left_out else {})
    key = "ui.own.columns.taken_some" if found.left_out else "ui.own.columns.taken"
    several = own is not None and own.path.is_dir()
    return choose(form, own.path if own and several else found.file, (key, values))


def _rows(form: FinetuneState, data: Data) -> FinetuneState:
    file = paths().data / str(data.get("file"))
    if own_files.find_own(file) is None:
        raise StudioError("data.not_own", file=str(data.get("file"))[:80])
    return replace(form, own=replace(form.own, rows=str(file), mark=read_rows(file).mark, first=0))


def _close(form: FinetuneState, _: Data) -> FinetuneState:
    return replace(form, own=replace(form.own, rows="", mark="", first=0))


def _saved(form: FinetuneState, data: Data) -> FinetuneState:
    """Save the rows with what was typed, and go on with the file that they are in now. Where others changed it since
    the rows were shown, that is told, and nothing saved."""
    deleted = frozenset((_whole(data.get("row"), -1),)) if data.get("act") == "row-delete" else frozenset()
    edit = _edit(_row_fields(data), deleted)
    if not form.own.rows or not (edit.changed or edit.added or deleted):
        return form
    file = Path(form.own.rows)
    if (own := own_files.find_own(file)) is not None:
        refuse_used(own)
    try:
        after = save_rows(file, form.own.mark, edit)
    except StudioError as error:
        if error.key != "data.rows_changed":
            raise
        return replace(form, own=replace(form.own, mark=read_rows(file).mark, problem=error))
    clear_caches()
    chosen = str(after) if form.data == str(file) else form.data
    told: Sentence = ("ui.own.row.saved", {})
    kept = replace(form.own, rows=str(after), mark=read_rows(after).mark, saves=form.own.saves + 1, told=told)
    return replace(form, data=chosen, picked=form.picked or chosen != form.data, record=0, own=kept)


def _edit(fields: dict[str, str], deleted: frozenset[int]) -> RowEdit:
    """What was typed: `row.NUMBER.question`, `.answer` or `.json`, and `row.newPLACE.question` and `.answer`."""
    changed: dict[int, dict[str, str]] = defaultdict(dict)
    fresh: dict[str, dict[str, str]] = defaultdict(dict)
    for name, value in fields.items():
        _, number, kind = [*name.split("."), "", ""][:3]
        if kind not in _KINDS:
            continue
        if number[:9].isdecimal():
            changed[int(number[:9])][kind] = value
        elif number.startswith("new"):
            fresh[number][kind] = value
    added = [(each.get("question", ""), each.get("answer", "")) for _, each in sorted(fresh.items())]
    return RowEdit(changed, deleted, [pair for pair in added if any(text.strip() for text in pair)])


def _page(form: FinetuneState, data: Data) -> FinetuneState:
    count = len(read_rows(Path(form.own.rows)).lines) if form.own.rows else 0
    return replace(form, own=replace(form.own, first=first_shown(count, _whole(data.get("row"), 0))))


def _row_fields(data: Data) -> dict[str, str]:
    return {name: value for name, value in _fields(data).items() if is_mine(name)}


def _fields(data: Data) -> dict[str, str]:
    fields = data.get("fields")
    return {str(name): str(value)[:LONGEST_TEXT] for name, value in fields.items()} if isinstance(fields, dict) else {}


def _whole(value: Any, otherwise: int) -> int:
    text = str(value)[:9]
    return int(text) if text.isdecimal() else otherwise


_ACTIONS: dict[str, Callable[[FinetuneState, Data], FinetuneState]] = {
    "own-use": _use,
    "own-facts": _facts,
    "own-delete": _delete,
    "own-columns": _columns,
    "own-rows": _rows,
    "own-close": _close,
    "row-save": lambda form, _: form,  # as every action does
    "row-delete": lambda form, _: form,
    "row-page": _page,
}
