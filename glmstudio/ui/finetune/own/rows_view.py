"""The rows of an own dataset, page by page, to be edited, added and deleted."""

from __future__ import annotations

from pathlib import Path

from glmstudio.data.own.record_rows import RecordRows, read_rows
from glmstudio.errors import StudioError
from glmstudio.ui.framework.markup import Html, button, problem, tag
from glmstudio.ui.state.page_state import FinetuneState, OwnDataState
from glmstudio.words import say

SHOWN = 25
NEW = 3  # empty rows below the last one


def render_rows(lang: str, form: FinetuneState) -> Html:
    """The table of rows, or why there is none."""
    if not form.own.rows:
        return Html("")
    file = Path(form.own.rows)
    close = button("own-close", say(lang, "ui.own.rows_close"), look="quiet")
    try:
        body = _table(lang, read_rows(file), form.own)
    except StudioError as error:
        body = problem(lang, error, kind="attention")
    return tag(
        '<section class="gs-stack gs-ownrows" data-typed data-key="own-rows">'
        '<div class="gs-row gs-spread"><h3>{title}</h3>{close}</div>{body}</section>',
        title=say(lang, "ui.own.rows_of", name=file.name),
        close=close,
        body=body,
    )


def first_shown(count: int, first: int) -> int:
    """The first row of the page that row `first` is on, or of the last page."""
    return min(max(0, first), max(0, count - 1)) // SHOWN * SHOWN


def _table(lang: str, rows: RecordRows, own: OwnDataState) -> Html:
    count = len(rows.lines)
    start = first_shown(count, own.first)
    end = min(start + SHOWN, count)
    body = [_row(lang, rows, number) for number in range(start, end)]
    body += [_new(lang, own.saves, place) for place in range(NEW)] if end == count else []
    return tag(
        '<p class="gs-small">{hint}</p>{becomes}<table class="gs-table gs-factrows"><thead><tr><td></td><th>{question}'
        '</th><th>{answer}</th><td></td></tr></thead><tbody>{body}</tbody></table><div class="gs-row gs-spread">'
        '<div class="gs-row">{save}</div><div class="gs-row">{pages}</div></div>',
        hint=say(lang, "ui.own.row.hint"),
        becomes=_becomes(lang, rows.file),
        question=say(lang, "ui.own.columns.question"),
        answer=say(lang, "ui.own.columns.answer"),
        body=body,
        save=button("row-save", say(lang, "ui.own.row.save"), look="primary"),
        pages=_pages(lang, rows, start, end),
    )


def _becomes(lang: str, file: Path) -> Html:
    if file.suffix == ".jsonl":
        return Html("")
    return tag('<p class="gs-small">{text}</p>', text=say(lang, "ui.own.row.becomes", name=file.stem, file=file.name))


def _row(lang: str, rows: RecordRows, number: int) -> Html:
    row = rows.row(number)
    if row.json is not None:
        label = say(lang, "ui.own.row.json", row=number + 1)
        cells = tag('<td colspan="2">{box}</td>', box=_box(f"row.{number}.json", row.json, label))
    else:
        cells = _pair(lang, str(number), (row.question, row.answer), number + 1)
    label = say(lang, "ui.own.row.delete", row=number + 1)
    return tag(
        '<tr data-key="row-{number}"><td class="gs-number gs-small">{place}</td>{cells}<td class="gs-factbuttons">'
        '<button type="button" class="gs-button gs-look-quiet" data-act="row-delete" data-row="{number}"'
        ' aria-label="{label}" title="{label}">✕</button></td></tr>',
        number=number,
        place=number + 1,
        cells=cells,
        label=label,
    )


def _pair(lang: str, number: str, texts: tuple[str, str], place: int) -> Html:
    boxes = [
        _box(f"row.{number}.{side}", text, say(lang, f"ui.own.row.{side}", row=place))
        for side, text in zip(("question", "answer"), texts, strict=True)
    ]
    return tag("<td>{question}</td><td>{answer}</td>", question=boxes[0], answer=boxes[1])


def _new(lang: str, saves: int, place: int) -> Html:
    """An empty row. Its key changes with each save, so that it is empty again then."""
    boxes = [_box(f"row.new{place}.{side}", "", say(lang, f"ui.own.row.new_{side}")) for side in ("question", "answer")]
    return tag(
        '<tr data-key="new-{saves}-{place}"><td class="gs-number gs-small">{new}</td><td>{question}</td>'
        "<td>{answer}</td><td></td></tr>",
        saves=saves,
        place=place,
        new=say(lang, "ui.own.row.new"),
        question=boxes[0],
        answer=boxes[1],
    )


def _box(name: str, text: str, label: str) -> Html:
    return tag(
        '<textarea rows="1" dir="auto" data-field="{name}" aria-label="{label}">\n{text}</textarea>',
        name=name,
        label=label,
        text=text,
    )


def _pages(lang: str, rows: RecordRows, start: int, end: int) -> list[Html]:
    count = len(rows.lines)
    if count <= SHOWN:
        return []
    text = say(lang, "ui.teach.page", first=start + 1, last=end, count=count)
    moves = [("ui.data.previous", start - SHOWN)] if start else []
    moves += [("ui.data.next", end)] if end < count else []
    return [
        tag('<span class="gs-small">{text}</span>', text=text),
        *(button("row-page", say(lang, key), look="quiet", row=row) for key, row in moves),
    ]
