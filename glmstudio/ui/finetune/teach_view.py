"""The table of facts in the Fine-tune step: rows with their errors, and what can be done next."""

from __future__ import annotations

from glmstudio.data.formats.facts import Fact
from glmstudio.errors import StudioError
from glmstudio.knowledge.asking import AskingProgress
from glmstudio.knowledge.table import draft, known, sheet
from glmstudio.knowledge.table.fact_table import MOST_ROWS, Row, Table
from glmstudio.knowledge.table.row_faults import faults, learned, learned_rows, too_long
from glmstudio.knowledge.wordings.paraphrase import WRITING, wants
from glmstudio.models import Model, ready_model
from glmstudio.ui.finetune import teach_rows
from glmstudio.ui.framework.file_picker import pick_button
from glmstudio.ui.framework.markup import Html, bar, button, chip, problem, tag
from glmstudio.ui.state.form_state import settings_of, source_of
from glmstudio.ui.state.page_state import FinetuneState
from glmstudio.units import duration
from glmstudio.words import say

FILES = "facts-files"
SHOWN = 25  # rows at a time


def render_facts(lang: str, form: FinetuneState) -> Html:
    """The table, or the question which column of a file is which; nothing for another kind of data."""
    if source_of(form) != "facts":
        return Html("")
    waiting = sheet.waiting()
    return tag(
        '<section class="gs-card gs-stack gs-teachfacts" data-scope data-changed data-typed data-live="facts">'
        "{head}{problem}{told}{body}<div>{upload}</div></section>",
        head=tag("<div><h3>{title}</h3>{hint}</div>", title=say(lang, "ui.teach.title"), hint=_hint(lang)),
        problem=problem(lang, form.facts.problem) if form.facts.problem else "",
        told=_told(lang, form),
        body=teach_rows.picker(lang, waiting) if waiting else _table(lang, form, draft.table()),
        upload=pick_button(FILES, say(lang, "ui.teach.upload")),
    )


def shown_rows(form: FinetuneState, table: Table) -> tuple[list[Row], int, int]:
    """The rows of this page, the position of the first one, and how many there are."""
    wanted = form.facts.find.strip().casefold()
    rows = [row for row in table.rows if not wanted or teach_rows.holds(row, wanted)]
    start = min(form.facts.first, max(0, (len(rows) - 1) // SHOWN * SHOWN)) // SHOWN * SHOWN
    return rows[start : start + SHOWN], start, len(rows)


def model_of(form: FinetuneState) -> Model | None:
    """The model to be trained; None if it cannot be used."""
    settings = settings_of(form)
    try:
        return ready_model(settings.model) if settings else None
    except StudioError:
        return None


def _hint(lang: str) -> Html:
    return tag('<p class="gs-small">{text}</p>', text=say(lang, "ui.teach.hint"))


def _told(lang: str, form: FinetuneState) -> Html:
    if form.facts.told is None:
        return Html("")
    key, values = form.facts.told
    return chip("good", say(lang, key, **values))


def _table(lang: str, form: FinetuneState, table: Table) -> Html:
    rows, start, count = shown_rows(form, table)
    model = model_of(form)
    long = _long(form, model, rows)
    marks = teach_rows.RowMarks(
        faults(table) | {number: error for number, error in long.items() if number not in faults(table)},
        known.answers(model, table) if model else {},
        frozenset(form.facts.unfolded),
    )
    last = start + SHOWN >= count and not form.facts.find and len(table.rows) < MOST_ROWS
    body = [teach_rows.row(lang, each, table.places[each.number] + 1, marks) for each in rows]
    body += [teach_rows.row(lang, Row(table.following), len(table.rows) + 1, marks)] if last else []
    return tag(
        '{tools}<table class="gs-table gs-factrows">{head}<tbody>{body}</tbody></table>{pages}{known}{save}',
        tools=_tools(lang, form, table),
        head=teach_rows.head(lang),
        body=body,
        pages=_pages(lang, start, count, len(table.rows)),
        known=_known(lang, model, table),
        save=_save(lang, table),
    )


def _long(form: FinetuneState, model: Model | None, rows: list[Row]) -> dict[int, StudioError]:
    """The shown rows that exceed the maximum length; not all rows, because tokenizing takes a while."""
    settings = settings_of(form)
    if model is None or settings is None:
        return {}
    count = too_long(model, settings.max_length, with_tools=bool(settings.facts_with_tools))
    facts: list[tuple[Row, Fact]] = [(row, row.fact) for row in rows if row.fact and not row.left_out]
    return {
        row.number: StudioError("knowledge.row.long", tokens=tokens, limit=settings.max_length)
        for row, fact in facts
        if (tokens := count(fact))
    }


def _tools(lang: str, form: FinetuneState, table: Table) -> Html:
    """Actions on the whole table: search, insert the example, propose wordings."""
    if not table.filled:
        return tag(
            '<div class="gs-row"><span class="gs-small">{how}</span>{example}</div>',
            how=say(lang, "ui.teach.how"),
            example=button("example", say(lang, "ui.teach.example"), look="quiet"),
        )
    find = tag(
        '<div data-scope data-live="facts-find" class="gs-find"><input data-field="find" type="search" value="{value}"'
        ' placeholder="{label}" aria-label="{label}"></div>',
        value=form.facts.find,
        label=say(lang, "ui.teach.find"),
    )
    return tag(
        '<div class="gs-row gs-spread"><div class="gs-row">{propose}</div>{find}</div>',
        propose=_propose(lang, table),
        find=find if len(table.rows) > SHOWN or form.facts.find else "",
    )


def _propose(lang: str, table: Table) -> list[Html]:
    if WRITING.running:
        text = say(lang, "ui.teach.writing", done=WRITING.done, total=WRITING.total)
        return [chip("running", text), button("wordings-stop", say(lang, "ui.common.cancel"), look="quiet")]
    waiting = sum(len(row.proposed) for row in table.rows)
    if waiting:
        return [
            tag("<b>{text}</b>", text=say(lang, "ui.teach.proposed", n=waiting)),
            _small(say(lang, "ui.teach.proposals")),
            button("accept-all", say(lang, "ui.teach.accept_all"), look="primary"),
            button("drop-all", say(lang, "ui.teach.drop_all")),
        ]
    count = sum(map(wants, table.rows))
    if not count:
        return []
    turned = tag(
        '<label class="gs-tick"><input type="checkbox" data-tick="turned" value="turned">{text}</label>',
        text=say(lang, "ui.teach.turned"),
    )
    failed = problem(lang, WRITING.problem, kind="attention") if WRITING.problem else Html("")
    return [button("wordings", say(lang, "ui.teach.propose", n=count)), turned, failed]


def _pages(lang: str, start: int, count: int, whole: int) -> Html:
    if whole <= SHOWN and count == whole:
        return Html("")
    text = say(lang, "ui.teach.page", first=start + 1 if count else 0, last=min(start + SHOWN, count), count=count)
    back = button("page", say(lang, "ui.data.previous"), look="quiet", row=start - SHOWN) if start else ""
    on = button("page", say(lang, "ui.data.next"), look="quiet", row=start + SHOWN) if start + SHOWN < count else ""
    return tag('<div class="gs-row"><span class="gs-small">{text}</span>{moves}</div>', text=text, moves=[back, on])


def _known(lang: str, model: Model | None, table: Table) -> Html:
    """Test what the model knows already: button, progress, result."""
    if model is None or not learned(table):
        return Html("")
    look = known.asking(model).look()
    parts = _asking(lang, look) if look.running else _asked(lang, model, table, look)
    return tag('<div class="gs-stack gs-askfirst">{parts}</div>', parts=parts)


def _asking(lang: str, look: AskingProgress) -> list[Html]:
    text = say(lang, "ui.teach.asking", done=look.done, total=look.total)
    row = tag(
        '<div class="gs-row">{chip}<span class="gs-small">{left}</span>{stop}</div>',
        chip=chip("running", text),
        left=say(lang, "ui.run.left", time=duration(lang, look.seconds_left)) if look.seconds_left else "",
        stop=button("ask-stop", say(lang, "ui.common.cancel"), look="quiet"),
    )
    return [row, bar(look.done / max(1, look.total), label=text)]


def _asked(lang: str, model: Model, table: Table, look: AskingProgress) -> list[Html]:
    said = known.answers(model, table)
    right = {number for number, (_, yes) in said.items() if yes}
    still = sum(row.number in right for row in table.rows if not row.left_out)
    parts: list[Html] = []
    if not all(row.number in said for row in learned_rows(table)):
        parts.append(button("ask", say(lang, "ui.teach.ask")))
    if said:
        parts.append(tag("<b>{text}</b>", text=say(lang, "ui.teach.known", n=len(right), of=len(said))))
    if still:
        parts.append(button("leave-known", say(lang, "ui.teach.leave_known", n=still)))
    if look.problem and look.problem.key == "knowledge.interrupted":
        parts.append(_small(say(lang, "ui.teach.so_far", done=look.done, total=look.total)))
    elif not said:
        parts.append(_small(say(lang, "ui.teach.ask_text")))
    failed = look.problem if look.problem and look.problem.key != "knowledge.interrupted" else None
    wrong = [problem(lang, failed, kind="attention")] if failed else []
    return [tag('<div class="gs-row">{parts}</div>', parts=parts), *wrong]


def _small(text: str) -> Html:
    return tag('<span class="gs-small">{text}</span>', text=text)


def _save(lang: str, table: Table) -> Html:
    """The save button, and what is not saved or left out."""
    count, saved = len(learned(table)), draft.is_saved()
    out = sum(row.left_out for row in table.rows)
    parts = [button("save-facts", say(lang, "ui.teach.save", n=count), look="primary")] if count and not saved else []
    if saved:
        parts.append(chip("good", say(lang, "ui.teach.saved", n=count)))
    elif count and draft.saved_file():
        parts.append(chip("attention", say(lang, "ui.teach.changed")))
    if out:
        parts.append(_small(say(lang, "ui.teach.left_out", n=out)))
        parts.append(button("take-all", say(lang, "ui.teach.take_all"), look="quiet"))
    if bad := len(faults(table)):
        parts.append(chip("attention", say(lang, "ui.teach.bad_rows", n=bad)))
    if table.filled:
        parts.append(
            button(
                "clear",
                say(lang, "ui.teach.clear"),
                look="quiet",
                confirm=say(lang, "ui.teach.clear_confirm", n=len(table.filled)),
                yes=say(lang, "ui.teach.clear"),
                no=say(lang, "ui.common.cancel"),
            )
        )
    return tag('<div class="gs-row">{parts}</div>', parts=parts) if parts else Html("")
