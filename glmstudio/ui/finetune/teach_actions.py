"""The actions of the table of facts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError, refused
from glmstudio.knowledge.exam import read_facts
from glmstudio.knowledge.table import draft, known, sheet
from glmstudio.knowledge.table.fact_table import COLUMNS, Proposal, Row, Table, cell
from glmstudio.knowledge.wordings.paraphrase import AT_ONCE, WRITING, Writer, loaded, proposals, wants
from glmstudio.models import Model
from glmstudio.paths import FACTS
from glmstudio.ui.finetune.teach_view import model_of
from glmstudio.ui.state.form_state import source_of
from glmstudio.ui.state.page_state import FactsState, FinetuneState

_FIELDS = ("fact", "proposed", "due", "column", "find")

Data = Mapping[str, Any]


def act(form: FinetuneState, data: dict[str, Any]) -> FinetuneState:
    """Handle a button or field of the table; typed text is saved first, whatever was pressed."""
    name = str(data.get("act"))

    def do(facts: FactsState) -> FactsState:
        take(data.get("fields"))
        if name in _OF_MODEL and (model := model_of(form)) is not None:
            _OF_MODEL[name](model)
        return _ACTIONS[name](facts, data) if name in _ACTIONS else facts

    return _changed(form, do)


def _changed(form: FinetuneState, do: Callable[[FactsState], FactsState]) -> FinetuneState:
    """The form after an action on its table; an error is shown there."""
    facts = replace(form.facts, problem=None, told=None)
    try:
        facts = do(facts)
    except StudioError as error:
        facts = replace(facts, problem=error)
    except OSError as error:
        facts = replace(facts, problem=refused(error))
    return replace(form, facts=facts)


def is_mine(name: str) -> bool:
    """Whether a field of the page belongs to the table."""
    return name.partition(".")[0] in _FIELDS


def take(fields: Any) -> None:
    """Save typed text: `fact.ROW.COLUMN`, `proposed.ROW.PLACE` and `due.ROW.PLACE`. Raises StudioError."""
    given = fields if isinstance(fields, dict) else {}
    cells: dict[int, dict[str, str]] = defaultdict(dict)
    changed: dict[int, list[tuple[str, int, str]]] = defaultdict(list)
    for name, value in given.items():
        kind, number, which = [*str(name).split("."), "", ""][:3]
        if kind == "fact" and number[:9].isdecimal() and which in COLUMNS:
            cells[int(number[:9])][which] = cell(value)
        elif kind in ("proposed", "due") and number[:9].isdecimal() and which[:4].isdecimal():
            changed[int(number[:9])].append((kind, int(which[:4]), cell(value).strip()))
    if cells or changed:
        draft.edit(lambda table: _with_typed(table, cells, changed))


def before_start(form: FinetuneState) -> FinetuneState:
    """End the questions to the model, which hold the GPU, and save what was changed since the facts were saved: a
    plan must be seen before it is started."""
    if source_of(form) != "facts":
        return form
    if (model := model_of(form)) is not None:
        known.asking(model).cancel()
    if draft.is_saved():
        return form
    try:
        draft.save()
    except StudioError as error:
        return replace(form, form_problem=error)
    return replace(form, form_problem=StudioError("ui.teach.saved_now"))


def take_file(form: FinetuneState, file: Path) -> FinetuneState:
    """Read a file into the table; where its columns have other names, ask which is which."""

    def do(facts: FactsState) -> FactsState:
        found = sheet.read_file(file)
        if isinstance(found, sheet.Sheet):
            sheet.keep(found)
            return facts
        return _added(facts, found)

    return _changed(form, do)


def _with_typed(
    table: Table, cells: Mapping[int, dict[str, str]], changed: Mapping[int, list[tuple[str, int, str]]]
) -> Table:
    for number, values in sorted(cells.items()):
        if table.row(number) or any(text.strip() for text in values.values()):
            table = table.put(number, **values)
    for number, edits in changed.items():
        if row := table.row(number):
            proposed = list(row.proposed)
            for kind, place, text in edits:
                if place < len(proposed):
                    name = "question" if kind == "proposed" else "answer"
                    proposed[place] = replace(proposed[place], **{name: text})
            table = table.put(number, proposed=tuple(proposed))
    return table


def _paste(facts: FactsState, data: Data) -> FactsState:
    kind, number, column = [*str(data.get("at", "")).split("."), "", ""][:3]
    if kind != "fact" or not number.isdecimal() or column not in COLUMNS:
        return facts
    rows = sheet.pasted(str(data.get("text", "")))
    named = sheet.arranged(rows) if column == COLUMNS[0] else None
    cells = rows if named is None else named
    draft.edit(lambda table: table.paste(int(number[:9]), column, cells))
    return replace(facts, told=("ui.teach.pasted", {"n": len(cells)}))


def _find(facts: FactsState, data: Data) -> FactsState:
    fields = data.get("fields")
    text = str(fields.get("find", "")) if isinstance(fields, dict) else ""
    return replace(facts, find=text[:200], first=0)


def _page(facts: FactsState, data: Data) -> FactsState:
    row = str(data.get("row", ""))
    return replace(facts, first=int(row[:9])) if row.isdecimal() else facts


def _more(facts: FactsState, data: Data) -> FactsState:
    number = _number(data)
    rest = tuple(each for each in facts.unfolded if each != number)
    return replace(facts, unfolded=rest if number in facts.unfolded else (*rest[-50:], number))


def _delete(facts: FactsState, data: Data) -> FactsState:
    draft.edit(lambda table: table.delete(_number(data)))
    return facts


def _clear(facts: FactsState, _: Data) -> FactsState:
    draft.edit(lambda table: Table((), table.following))
    return replace(facts, first=0, find="", unfolded=())


def _leave(facts: FactsState, data: Data, *, out: bool) -> FactsState:
    draft.edit(lambda table: table.put(_number(data), left_out=out) if table.row(_number(data)) else table)
    return facts


def _leave_known(model: Model) -> None:
    said = known.answers(model, draft.table())
    right = {number for number, (_, yes) in said.items() if yes}
    draft.edit(lambda table: table.each(lambda row: replace(row, left_out=True) if row.number in right else row))


def _take_all(facts: FactsState, _: Data) -> FactsState:
    draft.edit(lambda table: table.each(lambda row: replace(row, left_out=False) if row.left_out else row))
    return facts


def _example(facts: FactsState, _: Data) -> FactsState:
    return _added(facts, read_facts(FACTS))


def _added(state: FactsState, facts: list[Any]) -> FactsState:
    added = 0

    def add(table: Table) -> Table:
        nonlocal added
        after, added = table.add_facts(facts)
        return after

    draft.edit(add)
    there = len(facts) - added
    told = ("ui.teach.added_some", {"n": added, "there": there}) if there else ("ui.teach.added", {"n": added})
    return replace(state, told=told)


def _columns(facts: FactsState, data: Data) -> FactsState:
    waiting = sheet.waiting()
    if waiting is None:
        return facts
    columns = waiting.guessed()
    fields = data.get("fields")
    for name, value in (fields if isinstance(fields, dict) else {}).items():
        kind, _, number = str(name).partition(".")
        if kind == "column" and number[:3].isdecimal() and int(number[:3]) < len(columns):
            columns[int(number[:3])] = str(value) if value in COLUMNS else ""
    after = _added(facts, waiting.facts(columns, named="named" in _ticked(data)))
    sheet.discard()
    return after


def _discard(facts: FactsState, _: Data) -> FactsState:
    sheet.discard()
    return facts


def _save(facts: FactsState, _: Data) -> FactsState:
    draft.save()
    return facts


def _wordings(facts: FactsState, data: Data) -> FactsState:
    """Propose wordings by patterns; where the chat has a model loaded, it writes them in the background."""
    rows, turned = [row for row in draft.table().rows if wants(row)][:AT_ONCE], "turned" in _ticked(data)
    if model := loaded():
        WRITING.start(rows, model.write, lambda row, write: _propose([row], write, turned=turned))
    else:
        _propose(rows, None, turned=turned)
    return facts


def _propose(rows: list[Row], write: Writer | None, *, turned: bool) -> None:
    found = {row.number: proposals(row, write=write, turned=turned) for row in rows}
    asked = {row.number: row.question for row in rows}

    def put(row: Row) -> Row:
        same = asked.get(row.number) == row.question  # else it was changed meanwhile
        return replace(row, proposed=found[row.number]) if same else row

    draft.edit(lambda table: table.each(put))


def _accept(facts: FactsState, data: Data) -> FactsState:
    place = str(data.get("place", ""))
    draft.edit(lambda table: accepted(table, _number(data), int(place[:4]) if place.isdecimal() else None))
    return facts


def _drop(facts: FactsState, data: Data) -> FactsState:
    place = str(data.get("place", ""))
    draft.edit(lambda table: dropped(table, _number(data), int(place[:4]) if place.isdecimal() else None))
    return facts


def _accept_all(facts: FactsState, _: Data) -> FactsState:
    def every(table: Table) -> Table:
        for row in table.rows:
            table = accepted(table, row.number, None) if row.proposed else table
        return table

    draft.edit(every)
    return facts


def _drop_all(facts: FactsState, _: Data) -> FactsState:
    draft.edit(lambda table: table.each(lambda row: replace(row, proposed=()) if row.proposed else row))
    return facts


def accepted(table: Table, number: int, place: int | None) -> Table:
    """The table with a proposal in it (None: all of the row): a wording beside the others, a fact in a row below."""
    row = table.row(number)
    if row is None:
        return table
    taken = [each for at, each in enumerate(row.proposed) if place in (None, at)]
    wordings = [*row.wordings.splitlines(), *(each.question for each in taken if each.question and not each.answer)]
    facts = [Row(0, each.question, each.answer) for each in taken if each.question and each.answer]
    table = dropped(table.put(number, wordings=cell("\n".join(wordings))), number, place)
    return table.add_rows(facts, after=number) if facts else table


def dropped(table: Table, number: int, place: int | None) -> Table:
    """The table without a proposal (None: without all of the row)."""
    row = table.row(number)
    if row is None:
        return table
    rest: list[Proposal] = [each for at, each in enumerate(row.proposed) if place not in (None, at)]
    return table.put(number, proposed=tuple(rest))


def _wordings_stop(facts: FactsState, _: Data) -> FactsState:
    WRITING.cancel()
    return facts


def _number(data: Data) -> int:
    row = str(data.get("row", ""))
    return int(row[:9]) if row.isdecimal() else 0


def _ticked(data: Data) -> list[Any]:
    ticked = data.get("ticked")
    return ticked if isinstance(ticked, list) else []


_ACTIONS: dict[str, Callable[[FactsState, Data], FactsState]] = {
    "paste": _paste,
    "facts-find": _find,
    "page": _page,
    "more": _more,
    "delete": _delete,
    "clear": _clear,
    "leave": lambda facts, data: _leave(facts, data, out=True),
    "take": lambda facts, data: _leave(facts, data, out=False),
    "take-all": _take_all,
    "example": _example,
    "columns": _columns,
    "discard": _discard,
    "save-facts": _save,
    "wordings": _wordings,
    "wordings-stop": _wordings_stop,
    "accept": _accept,
    "drop": _drop,
    "accept-row": _accept,
    "drop-row": _drop,
    "accept-all": _accept_all,
    "drop-all": _drop_all,
}
_OF_MODEL: dict[str, Callable[[Model], object]] = {
    "leave-known": _leave_known,
    "ask": lambda model: known.ask(model, draft.table()),
    "ask-stop": lambda model: known.asking(model).cancel(),
}
