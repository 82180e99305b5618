"""A row of the table of facts with its proposals, and the question which column of a file is which."""

from __future__ import annotations

from dataclasses import dataclass

from glmstudio.errors import StudioError
from glmstudio.files import short
from glmstudio.knowledge.table.fact_table import COLUMNS, Proposal, Row
from glmstudio.knowledge.table.sheet import Sheet
from glmstudio.ui.framework.markup import Html, button, chip, tag
from glmstudio.words import say

MAIN, MORE = COLUMNS[:3], COLUMNS[3:]
_PREVIEW = 5
_SAID = 300


@dataclass(frozen=True)
class RowMarks:
    """What is known of rows by their number: what is wrong, what the model said and whether that is right, and which
    show all their columns."""

    wrong: dict[int, StudioError]
    said: dict[int, tuple[str, bool]]
    unfolded: frozenset[int]


def holds(row: Row, wanted: str) -> bool:
    """Whether the row contains a text."""
    return any(wanted in getattr(row, column).casefold() for column in MAIN)


def head(lang: str) -> Html:
    """The names of the columns."""
    names = [tag("<th>{name}</th>", name=say(lang, f"ui.teach.column_{column}")) for column in MAIN]
    return tag("<thead><tr><td></td>{names}<td></td></tr></thead>", names=names)


def row(lang: str, each: Row, place: int, marks: RowMarks) -> list[Html]:
    """The cells of a fact, and its details below."""
    cells = [tag("<td>{field}</td>", field=_field(lang, each, column, place)) for column in MAIN]
    first = tag(
        '<tr data-key="fact-{number}" class="gs-fact{off}"><td class="gs-number gs-small">{place}</td>{cells}'
        '<td class="gs-factbuttons">{buttons}</td></tr>',
        number=each.number,
        off=" gs-off" if each.left_out else "",
        place=place,
        cells=cells,
        buttons=[] if each.blank else _buttons(lang, each, place, marks),
    )
    below = _below(lang, each, place, marks)
    return [first, _second(each, below)] if below else [first]


def _second(each: Row, below: list[Html]) -> Html:
    return tag(
        '<tr data-key="below-{number}" class="gs-below"><td></td><td colspan="4"><div class="gs-stack">{below}</div>'
        "</td></tr>",
        number=each.number,
        below=below,
    )


def _field(lang: str, each: Row, column: str, place: int) -> Html:
    name = say(lang, f"ui.teach.column_{column}")
    return tag(
        '<textarea rows="1" dir="auto" data-field="fact.{number}.{column}" data-paste="{paste}" aria-label="{label}"'
        ' placeholder="{hint}">\n{text}</textarea>',
        number=each.number,
        column=column,
        paste="rows" if column == "question" else "cells",
        label=say(lang, "ui.teach.cell", column=name, row=place),
        hint=say(lang, f"ui.teach.hint_{column}") if each.blank and column in MAIN else "",
        text=getattr(each, column),
    )


def _buttons(lang: str, each: Row, place: int, marks: RowMarks) -> list[Html]:
    more = say(lang, "ui.teach.less" if each.number in marks.unfolded else "ui.teach.more")
    label = say(lang, "ui.teach.delete", row=place)
    return [
        button("more", more, look="quiet", row=each.number),
        tag(
            '<button type="button" class="gs-button gs-look-quiet" data-act="delete" data-row="{number}"'
            ' aria-label="{label}" title="{label}">✕</button>',
            number=each.number,
            label=label,
        ),
    ]


def _below(lang: str, each: Row, place: int, marks: RowMarks) -> list[Html]:
    parts: list[Html] = []
    unfolded = each.number in marks.unfolded and not each.blank
    if state := _state(lang, each, marks):
        parts.append(tag('<div class="gs-row">{state}</div>', state=state))
    if unfolded:
        parts.append(_more(lang, each, place, marks))
    if each.proposed:
        parts.append(_proposed(lang, each))
    return parts


def _state(lang: str, each: Row, marks: RowMarks) -> list[Html]:
    """Whether it is left out, known, or wrong."""
    if each.left_out:
        take = button("take", say(lang, "ui.teach.take"), look="quiet", row=each.number)
        known = [chip("good", say(lang, "ui.teach.knows"))] if marks.said.get(each.number, ("", False))[1] else []
        return [*known, chip("note", say(lang, "ui.teach.row_left_out")), take]
    if error := marks.wrong.get(each.number):
        return [chip("attention", error.what(lang))]
    if marks.said.get(each.number, ("", False))[1]:
        leave = button("leave", say(lang, "ui.teach.leave"), look="quiet", row=each.number)
        return [chip("good", say(lang, "ui.teach.knows")), leave]
    return []


def _more(lang: str, each: Row, place: int, marks: RowMarks) -> Html:
    """The other columns with help, and what the model answers now."""
    fields = [
        tag(
            '<label><span>{name}</span>{field}<span class="gs-help">{help}</span></label>',
            name=say(lang, f"ui.teach.column_{column}"),
            field=_field(lang, each, column, place),
            help=say(lang, f"ui.teach.help_{column}"),
        )
        for column in MORE
    ]
    said = marks.said.get(each.number)
    leave = button("leave", say(lang, "ui.teach.leave"), look="quiet", row=each.number)
    return tag(
        '<div class="gs-fields">{fields}</div>{said}<div class="gs-row">{leave}</div>',
        fields=fields,
        said=tag("<p>{text}</p>", text=say(lang, "ui.teach.says", text=short(said[0], _SAID) or "–")) if said else "",
        leave="" if each.left_out else leave,
    )


def _proposed(lang: str, each: Row) -> Html:
    lines = [_proposal(lang, each, place, found) for place, found in enumerate(each.proposed)]
    whole = [button("accept-row", say(lang, "ui.teach.accept_row"), row=each.number)] if len(lines) > 1 else []
    whole += (
        [button("drop-row", say(lang, "ui.teach.drop_row"), look="quiet", row=each.number)] if len(lines) > 1 else []
    )
    return tag(
        '<div class="gs-proposals">{lines}<div class="gs-row">{whole}</div></div>',
        lines=lines,
        whole=whole,
    )


def _proposal(lang: str, each: Row, place: int, found: Proposal) -> Html:
    where = f"{each.number}.{place}"
    inputs = [_input(f"proposed.{where}", found.question, say(lang, "ui.teach.column_wordings"))]
    if found.answer:
        inputs.append(_input(f"due.{where}", found.answer, say(lang, "ui.teach.column_answer")))
    return tag(
        '<div class="gs-proposal">{kind}{inputs}{accept}{drop}</div>',
        kind=tag('<span class="gs-label">{text}</span>', text=say(lang, "ui.teach.reversed")) if found.answer else "",
        inputs=inputs,
        accept=button("accept", say(lang, "ui.teach.accept"), row=each.number, place=place),
        drop=button("drop", say(lang, "ui.teach.drop"), look="quiet", row=each.number, place=place),
    )


def _input(name: str, value: str, label: str) -> Html:
    return tag(
        '<input dir="auto" data-field="{name}" value="{value}" aria-label="{label}">',
        name=name,
        value=value,
        label=label,
    )


def picker(lang: str, waiting: Sheet) -> Html:
    """The first rows of a file, with a choice above each column."""
    guessed = waiting.guessed()
    heads = [tag("<th>{choice}</th>", choice=_choice(lang, number, guessed[number])) for number in range(waiting.width)]
    rows = [
        tag("<tr>{cells}</tr>", cells=[tag("<td>{text}</td>", text=short(text, 80)) for text in each])
        for each in waiting.rows[: _PREVIEW + 1]
    ]
    return tag(
        '<p>{text}</p><div class="gs-wide-table gs-picker"><table class="gs-table"><thead><tr>{heads}</tr></thead>'
        '<tbody>{rows}</tbody></table></div><label class="gs-tick"><input type="checkbox" data-tick="named"'
        ' value="named" checked>{named}</label><div class="gs-row">{use}{discard}</div>',
        text=say(lang, "ui.teach.which", name=short(waiting.name, 80), n=len(waiting.rows)),
        heads=heads,
        rows=rows,
        named=say(lang, "ui.teach.named"),
        use=button("columns", say(lang, "ui.teach.use_columns"), look="primary"),
        discard=button("discard", say(lang, "ui.common.cancel")),
    )


def _choice(lang: str, number: int, guessed: str) -> Html:
    options = [
        tag(
            '<option value="{column}"{chosen}>{name}</option>',
            column=column,
            chosen=Html(" selected") if column == guessed else "",
            name=say(lang, f"ui.teach.column_{column}") if column else say(lang, "ui.teach.ignored"),
        )
        for column in ("", *COLUMNS)
    ]
    return tag(
        '<select data-field="column.{number}" aria-label="{label}">{options}</select>',
        number=number,
        label=say(lang, "ui.teach.column_label", number=number + 1),
        options=options,
    )
