"""The buttons and fields of the table of facts: what each of them does."""

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
from glmstudio.paths import FACTS
from glmstudio.ui.finetune.teach_view import model_of
from glmstudio.ui.framework.live import PageState

_FIELDS = ("fact", "proposed", "due", "column", "find")

Data = Mapping[str, Any]


def act(view: PageState, data: dict[str, Any]) -> PageState:
    """Something was typed or pressed in the table; what was typed counts first, whatever was pressed."""
    view = replace(view, facts_problem=None, facts_told=None)
    do = _ACTIONS.get(str(data.get("act")))
    try:
        take(data.get("fields"))
        return do(view, data) if do else view
    except StudioError as error:
        return replace(view, facts_problem=error)
    except OSError as error:
        return replace(view, facts_problem=refused(error))


def is_mine(name: str) -> bool:
    """Whether a field of the page belongs to the table."""
    return name.partition(".")[0] in _FIELDS


def take(fields: Any) -> None:
    """Keep what was typed: `fact.ROW.COLUMN`, `proposed.ROW.PLACE` and `due.ROW.PLACE`. Raises StudioError."""
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


def before_start(view: PageState) -> PageState:
    """End the questions to the model, which hold the card, and save what was changed since the facts were saved: a
    plan must be seen before it is started."""
    if view.source != "facts":
        return view
    if (model := model_of(view)) is not None:
        known.asking(model).cancel()
    if draft.is_saved():
        return view
    try:
        draft.save()
    except StudioError as error:
        return replace(view, form_problem=error)
    return replace(view, form_problem=StudioError("ui.teach.saved_now"))


def take_file(view: PageState, file: Path) -> PageState:
    """Read a file into the table; where its columns have other names, ask which is which."""
    view = replace(view, facts_problem=None, facts_told=None)
    try:
        found = sheet.read_file(file)
        if isinstance(found, sheet.Sheet):
            sheet.keep(found)
            return view
        return _added(view, found)
    except StudioError as error:
        return replace(view, facts_problem=error)
    except OSError as error:
        return replace(view, facts_problem=refused(error))


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


def _paste(view: PageState, data: Data) -> PageState:
    kind, number, column = [*str(data.get("at", "")).split("."), "", ""][:3]
    if kind != "fact" or not number.isdecimal() or column not in COLUMNS:
        return view
    rows = sheet.pasted(str(data.get("text", "")))
    named = sheet.arranged(rows) if column == COLUMNS[0] else None
    cells = rows if named is None else named
    draft.edit(lambda table: table.paste(int(number[:9]), column, cells))
    return replace(view, facts_told=("ui.teach.pasted", {"n": len(cells)}))


def _find(view: PageState, data: Data) -> PageState:
    fields = data.get("fields")
    text = str(fields.get("find", "")) if isinstance(fields, dict) else ""
    return replace(view, facts_find=text[:200], facts_from=0)


def _page(view: PageState, data: Data) -> PageState:
    row = str(data.get("row", ""))
    return replace(view, facts_from=int(row[:9])) if row.isdecimal() else view


def _more(view: PageState, data: Data) -> PageState:
    number = _number(data)
    rest = tuple(each for each in view.facts_open if each != number)
    return replace(view, facts_open=rest if number in view.facts_open else (*rest[-50:], number))


def _delete(view: PageState, data: Data) -> PageState:
    draft.edit(lambda table: table.delete(_number(data)))
    return view


def _clear(view: PageState, _: Data) -> PageState:
    draft.edit(lambda table: Table((), table.following))
    return replace(view, facts_from=0, facts_find="", facts_open=())


def _leave(view: PageState, data: Data, *, out: bool) -> PageState:
    draft.edit(lambda table: table.put(_number(data), left_out=out) if table.row(_number(data)) else table)
    return view


def _leave_known(view: PageState, _: Data) -> PageState:
    if (model := model_of(view)) is None:
        return view
    said = known.answers(model, draft.table())
    right = {number for number, (_, yes) in said.items() if yes}
    draft.edit(lambda table: table.each(lambda row: replace(row, left_out=True) if row.number in right else row))
    return view


def _take_all(view: PageState, _: Data) -> PageState:
    draft.edit(lambda table: table.each(lambda row: replace(row, left_out=False) if row.left_out else row))
    return view


def _example(view: PageState, _: Data) -> PageState:
    return _added(view, read_facts(FACTS))


def _added(view: PageState, facts: list[Any]) -> PageState:
    added = 0

    def add(table: Table) -> Table:
        nonlocal added
        after, added = table.add_facts(facts)
        return after

    draft.edit(add)
    there = len(facts) - added
    told = ("ui.teach.added_some", {"n": added, "there": there}) if there else ("ui.teach.added", {"n": added})
    return replace(view, facts_told=told)


def _columns(view: PageState, data: Data) -> PageState:
    waiting = sheet.waiting()
    if waiting is None:
        return view
    columns = waiting.guessed()
    fields = data.get("fields")
    for name, value in (fields if isinstance(fields, dict) else {}).items():
        kind, _, number = str(name).partition(".")
        if kind == "column" and number[:3].isdecimal() and int(number[:3]) < len(columns):
            columns[int(number[:3])] = str(value) if value in COLUMNS else ""
    after = _added(view, waiting.facts(columns, named="named" in _ticked(data)))
    sheet.discard()
    return after


def _discard(view: PageState, _: Data) -> PageState:
    sheet.discard()
    return view


def _save(view: PageState, _: Data) -> PageState:
    draft.save()
    return view


def _wordings(view: PageState, data: Data) -> PageState:
    """Propose at once by patterns; where the chat has a model loaded, let it write in the background."""
    rows, turned = [row for row in draft.table().rows if wants(row)][:AT_ONCE], "turned" in _ticked(data)
    if model := loaded():
        WRITING.start(rows, model.write, lambda row, write: _propose([row], write, turned=turned))
    else:
        _propose(rows, None, turned=turned)
    return view


def _propose(rows: list[Row], write: Writer | None, *, turned: bool) -> None:
    found = {row.number: proposals(row, write=write, turned=turned) for row in rows}
    asked = {row.number: row.question for row in rows}

    def put(row: Row) -> Row:
        same = asked.get(row.number) == row.question  # else it was changed meanwhile
        return replace(row, proposed=found[row.number]) if same else row

    draft.edit(lambda table: table.each(put))


def _accept(view: PageState, data: Data) -> PageState:
    place = str(data.get("place", ""))
    draft.edit(lambda table: accepted(table, _number(data), int(place[:4]) if place.isdecimal() else None))
    return view


def _drop(view: PageState, data: Data) -> PageState:
    place = str(data.get("place", ""))
    draft.edit(lambda table: dropped(table, _number(data), int(place[:4]) if place.isdecimal() else None))
    return view


def _accept_all(view: PageState, _: Data) -> PageState:
    def every(table: Table) -> Table:
        for row in table.rows:
            table = accepted(table, row.number, None) if row.proposed else table
        return table

    draft.edit(every)
    return view


def _drop_all(view: PageState, _: Data) -> PageState:
    draft.edit(lambda table: table.each(lambda row: replace(row, proposed=()) if row.proposed else row))
    return view


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


def _ask(view: PageState, _: Data) -> PageState:
    if (model := model_of(view)) is not None:
        known.ask(model, draft.table())
    return view


def _ask_stop(view: PageState, _: Data) -> PageState:
    if (model := model_of(view)) is not None:
        known.asking(model).cancel()
    return view


def _wordings_stop(view: PageState, _: Data) -> PageState:
    WRITING.cancel()
    return view


def _number(data: Data) -> int:
    row = str(data.get("row", ""))
    return int(row[:9]) if row.isdecimal() else 0


def _ticked(data: Data) -> list[Any]:
    ticked = data.get("ticked")
    return ticked if isinstance(ticked, list) else []


_ACTIONS: dict[str, Callable[[PageState, Data], PageState]] = {
    "paste": _paste,
    "facts-find": _find,
    "page": _page,
    "more": _more,
    "delete": _delete,
    "clear": _clear,
    "leave": lambda view, data: _leave(view, data, out=True),
    "take": lambda view, data: _leave(view, data, out=False),
    "leave-known": _leave_known,
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
    "ask": _ask,
    "ask-stop": _ask_stop,
}
