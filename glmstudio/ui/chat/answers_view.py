"""The questions of a file to the base and the fine-tuned model: form, progress, and the table."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.knowledge.answer_table import KINDS, Row
from glmstudio.knowledge.answering import Answering, about_of, jobs, rows_of
from glmstudio.knowledge.asking import Asking, AskingProgress
from glmstudio.ui.chat.chat_model import chosen_adapter, chosen_model
from glmstudio.ui.framework.markup import Html, button, fold, problem, progress, tag
from glmstudio.ui.state.page_state import ChatState
from glmstudio.units import duration
from glmstudio.words import say

_SHOWN = 10  # rows of the table on the page
_SINCE = time.time()  # jobs from before this studio's start stay folded
_FORMS = {"trained": None, "tools": True, "plain": False}


def render(lang: str, chat: ChatState) -> Html:
    """The form for the model that is chosen in the chat, and the newest job."""
    place = next(iter(jobs()), None)
    look = Asking(place).look() if place else AskingProgress()
    about = about_of(place) if place else {}
    parts = [_form(lang, going=look.running)]
    if place is not None:
        parts.append(_state(lang, place, about, look))
    title = say(lang, "ui.answers.title", name=chosen_adapter(chat) or chosen_model(chat))
    body = tag('<div class="gs-stack">{parts}</div>', parts=parts)
    return fold(title, body, key="answers", unfolded=about.get("created", 0.0) > _SINCE)


def act(chat: ChatState, data: dict[str, Any]) -> ChatState:
    """Start, go on, or stop."""
    try:
        if data.get("act") == "answers-stop":
            for place in jobs()[:1]:
                Asking(place).cancel()
        elif data.get("act") == "answers":
            _start(chat, data.get("fields"))
    except StudioError as error:
        return replace(chat, problem=error)
    return replace(chat, problem=None)


def _start(chat: ChatState, fields: Any) -> None:
    fields = fields if isinstance(fields, dict) else {}
    file = str(fields.get("file", "")).strip()
    if not file:
        raise StudioError("ui.answers.no_file")
    newest = next(iter(jobs()), None)
    if newest is not None and Asking(newest).look().running:
        return
    form = _FORMS.get(str(fields.get("form", "")))
    Answering.of(Path(file).expanduser(), chosen_model(chat), chosen_adapter(chat), tools=form).start()


def _form(lang: str, *, going: bool) -> Html:
    labels = {name: say(lang, f"ui.answers.form_{name}") for name in _FORMS}
    options = [tag('<option value="{name}">{label}</option>', name=name, label=label) for name, label in labels.items()]
    press = (
        button("answers-stop", say(lang, "ui.score.stop"))
        if going
        else button("answers", say(lang, "ui.answers.start"), look="primary")
    )
    return tag(
        '<div class="gs-fields gs-one" data-scope><p class="gs-small gs-wide">{text}</p><label class="gs-wide">{file}'
        '<input data-field="file" placeholder="{example}"></label><label>{form}<select data-field="form">{options}'
        "</select></label>{press}</div>",
        text=say(lang, "ui.answers.text"),
        file=say(lang, "ui.answers.file"),
        example=say(lang, "ui.answers.file_example"),
        form=say(lang, "ui.answers.form"),
        options=options,
        press=press,
    )


def _state(lang: str, place: Path, about: dict[str, Any], look: AskingProgress) -> Html:
    said = say(lang, "ui.answers.of", file=Path(str(about.get("file", ""))).name)
    if look.running:
        words = say(lang, "answers.going", done=look.done, total=look.total)
        left = say(lang, "ui.run.left", time=duration(lang, look.seconds_left)) if look.seconds_left else ""
        moved = progress(words, look.done, look.total, beside=f"{said} {left}")
        return tag('<div class="gs-stack">{moved}</div>', moved=moved)
    return tag(
        '<div class="gs-stack">{trouble}<p class="gs-small">{said}</p>{table}<div class="gs-row">{files}</div></div>',
        trouble=problem(lang, look.problem, kind="attention") if look.problem else "",
        said=said,
        table=_table(lang, place, look.done),
        files=[_file(lang, place.name, kind) for kind in KINDS] if look.done else "",
    )


def _file(lang: str, name: str, kind: str) -> Html:
    return tag(
        '<a class="gs-button gs-look-quiet" href="/answers/{name}.{kind}" download>{label}</a>',
        name=name,
        kind=kind,
        label=say(lang, f"ui.answers.save_{kind}"),
    )


@lru_cache(maxsize=8)
def _table(lang: str, place: Path, _done: int) -> Html:
    """The first rows, cached by the number of answers."""
    rows = rows_of(place)
    columns = ["question", "base", *(["tuned"] if about_of(place).get("tuned") else [])]
    heads = [tag("<th>{text}</th>", text=say(lang, f"knowledge.column.{name}")) for name in columns]
    more = len(rows) - _SHOWN
    return tag(
        '<div class="gs-wide-table"><table class="gs-table gs-flips"><thead><tr>{heads}</tr></thead>'
        "<tbody>{rows}</tbody></table></div>{more}",
        heads=heads,
        rows=[_row(each, columns) for each in rows[:_SHOWN]],
        more=tag('<p class="gs-small">{text}</p>', text=say(lang, "ui.answers.more", count=more)) if more > 0 else "",
    )


def _row(row: Row, columns: list[str]) -> Html:
    cells = [tag("<td>{text}</td>", text=str(row[name]) or "–") for name in columns]
    return tag("<tr>{cells}</tr>", cells=cells)
