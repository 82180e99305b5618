"""Which column of a file is the question and which the answer: its first rows and two pickers."""

from __future__ import annotations

from pathlib import Path

from glmstudio.data.own.columns import UnknownColumns
from glmstudio.files import short
from glmstudio.ui.framework.markup import Html, button, tag
from glmstudio.ui.state.own_list import unknown_in
from glmstudio.ui.state.page_state import FinetuneState
from glmstudio.words import say

_CELL = 80


def render_columns(lang: str, form: FinetuneState) -> Html:
    """The question, where the columns of the chosen data are not known."""
    unknown = unknown_in(Path(form.data)) if form.data else None
    if unknown is None:
        return Html("")
    question, answer = unknown.guessed()
    pickers = [_picker(lang, unknown, *each) for each in (("question", question), ("answer", answer))]
    return tag(
        '<section class="gs-stack gs-picker" data-key="own-columns"><h3>{title}</h3><p>{text}</p>'
        '<div class="gs-fields">{pickers}</div><div class="gs-wide-table"><table class="gs-table"><tbody>{rows}</tbody>'
        "</table></div>{named}<div>{use}</div></section>",
        title=say(lang, "ui.own.columns.title"),
        text=say(lang, "ui.own.columns.text", name=short(unknown.file.name)),
        pickers=pickers,
        rows=[_row(each, head=number == 0) for number, each in enumerate(unknown.rows)],
        named="" if unknown.named else _named(lang),
        use=button("own-columns", say(lang, "ui.own.columns.use"), look="primary"),
    )


def _picker(lang: str, unknown: UnknownColumns, side: str, chosen: int) -> Html:
    names = [*unknown.rows[0], *[""] * (unknown.width - len(unknown.rows[0]))]
    options = [
        tag(
            '<option value="{number}"{chosen}>{name}</option>',
            number=number,
            chosen=Html(" selected") if number == chosen else "",
            name=say(lang, "ui.own.columns.column", number=number + 1, name=short(name, 40) or "–"),
        )
        for number, name in enumerate(names)
    ]
    return tag(
        '<label><span>{label}</span><select data-field="{side}">{options}</select></label>',
        label=say(lang, f"ui.own.columns.{side}"),
        side=side,
        options=options,
    )


def _row(cells: tuple[str, ...], *, head: bool) -> Html:
    kinds = ["<th>{text}</th>" if head and text else "<td>{text}</td>" for text in cells]
    return tag(
        "<tr>{cells}</tr>", cells=[tag(kind, text=short(text, _CELL)) for kind, text in zip(kinds, cells, strict=True)]
    )


def _named(lang: str) -> Html:
    return tag(
        '<label class="gs-tick"><input type="checkbox" data-tick="named" value="named" checked>{text}</label>',
        text=say(lang, "ui.own.columns.named"),
    )
