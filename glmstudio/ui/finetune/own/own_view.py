"""Where files are dropped, and the list of own datasets."""

from __future__ import annotations

import base64
from functools import lru_cache
from pathlib import Path

from glmstudio.data.own import template
from glmstudio.data.readers.sources import is_text_file
from glmstudio.errors import StudioError
from glmstudio.knowledge.table import draft
from glmstudio.knowledge.table.row_faults import learned
from glmstudio.ui.finetune.own import columns_view, rows_view
from glmstudio.ui.framework.file_picker import pick_button
from glmstudio.ui.framework.markup import Html, button, chip, problem, tag
from glmstudio.ui.state.form_state import source_of
from glmstudio.ui.state.own_list import OwnItem, own_items
from glmstudio.ui.state.page_state import FinetuneState
from glmstudio.units import moment, size
from glmstudio.words import say

FILES = "finetune-files"


def render_own(lang: str, form: FinetuneState) -> Html:
    """The own datasets with what can be done with them; nothing for another kind of data."""
    if source_of(form) != "file":
        return Html("")
    items = own_items()
    chosen = next((item for item in items if str(item.data.path) == form.data), None)
    return tag(
        '<section class="gs-card gs-stack gs-own" data-scope data-changed>{said}<div class="gs-ownparts">{drop}'
        "{list}</div>{columns}{rows}</section>",
        drop=_drop(lang, form),
        said=_said(lang, form, chosen),
        columns=columns_view.render_columns(lang, form),
        list=_list(lang, form, items),
        rows=rows_view.render_rows(lang, form),
    )


def _drop(lang: str, form: FinetuneState) -> Html:
    """The place for files. The number of uploads ends the word that one is on its way."""
    return tag(
        '<div class="gs-drop" data-uploads="{uploads}" data-sending="{sending}"><b>{title}</b>'
        '{choose}<p class="gs-small">{text}</p><div class="gs-row">{templates}</div></div>',
        uploads=form.own.uploads,
        sending=say(lang, "ui.own.sending"),
        title=say(lang, "ui.own.drop"),
        choose=pick_button(FILES, say(lang, "ui.own.choose"), id="finetune-upload"),
        text=say(lang, "ui.own.drop_text"),
        templates=_templates(lang),
    )


@lru_cache(2)
def _templates(lang: str) -> list[Html]:
    name = say(lang, "ui.own.template_name")
    return [
        _download(f"{name}.csv", "text/csv", template.table(lang), say(lang, "ui.own.template")),
        _download(
            f"{name}.jsonl", "application/jsonl", template.conversations(lang), say(lang, "ui.own.template_talk")
        ),
    ]


def _download(name: str, kind: str, content: bytes, label: str) -> Html:
    return tag(
        '<a class="gs-button gs-look-quiet" download="{name}" href="data:{kind};base64,{content}">{label}</a>',
        name=name,
        kind=kind,
        content=base64.b64encode(content).decode(),
        label=label,
    )


def _said(lang: str, form: FinetuneState, chosen: OwnItem | None) -> list[Html]:
    """What the last action came to, and what is not read of the chosen files."""
    said = [problem(lang, form.own.problem)] if form.own.problem else []
    if form.own.told:
        key, values = form.own.told
        said.append(tag('<div role="status">{chip}</div>', chip=chip("good", say(lang, key, **values))))
    if chosen and chosen.data.texts_beside:
        said.append(problem(lang, StudioError("ui.own.texts_beside"), kind="attention"))
    return said


def _list(lang: str, form: FinetuneState, items: list[OwnItem]) -> Html:
    rows = [_item(lang, form, item) for item in items]
    rows += [_facts(lang)] if draft.saved_file() else []
    if not rows:
        return tag('<p class="gs-small">{text}</p>', text=say(lang, "ui.own.empty"))
    return tag('<ul class="gs-ownlist" aria-label="{title}">{rows}</ul>', title=say(lang, "ui.own.title"), rows=rows)


def _item(lang: str, form: FinetuneState, item: OwnItem) -> Html:
    name = item.data.name
    is_chosen = str(item.data.path) == form.data
    use = button("own-use", say(lang, "ui.own.use"), name=name)
    several = item.data.path.is_dir()
    files = [_file(lang, file, f"{name}/{file.name}") for file in item.data.files] if several and is_chosen else []
    return tag(
        '<li data-key="own-{name}" class="gs-ownitem{on}"><div class="gs-row gs-spread"><div><b>{name}</b>'
        '<div class="gs-small">{about}</div></div><div class="gs-row">{use}{rows}{delete}</div></div>{files}</li>',
        name=name,
        on=" gs-on" if is_chosen else "",
        about=_about(lang, item),
        use=chip("good", say(lang, "ui.own.using")) if is_chosen else use,
        rows="" if several or item.unknown else _rows(lang, item.data.path, name),
        delete=_delete(lang, item),
        files=tag("<ul>{files}</ul>", files=files) if files else "",
    )


def _file(lang: str, file: Path, where: str) -> Html:
    """A file of a dataset of several."""
    return tag(
        '<li class="gs-row gs-spread"><span>{name}</span>{rows}</li>', name=file.name, rows=_rows(lang, file, where)
    )


def _rows(lang: str, file: Path, where: str) -> Html:
    """The button that shows the rows; running text has none."""
    return Html("") if is_text_file(file) else button("own-rows", say(lang, "ui.own.rows"), look="quiet", file=where)


def _delete(lang: str, item: OwnItem) -> Html:
    return button(
        "own-delete",
        say(lang, "ui.own.delete"),
        look="quiet",
        name=item.data.name,
        confirm=say(lang, "ui.own.delete_confirm", name=item.data.name, size=size(item.data.size)),
        yes=say(lang, "ui.own.delete"),
        no=say(lang, "ui.common.cancel"),
    )


def _about(lang: str, item: OwnItem) -> str:
    """Records, files, size, where it came from, and its last use."""
    data = item.data
    said = [say(lang, "ui.own.counting")] if item.counting else []
    if item.unknown:
        said.append(say(lang, "ui.own.unknown"))
    elif item.records is not None:
        said.append(say(lang, "ui.own.records", n=item.records))
    said += [say(lang, "ui.own.files", n=len(data.files))] if len(data.files) > 1 else []
    said.append(size(data.size))
    origin = f"from_{data.origin or 'hand'}"
    said.append(say(lang, f"ui.own.{origin}", when=moment(data.changed)))
    if item.run:
        said.append(say(lang, "ui.own.last_run", run=item.run.name, when=moment(item.run.state.started)))
    return " · ".join(said)


def _facts(lang: str) -> Html:
    """The facts that were saved of the table."""
    return tag(
        '<li data-key="own-facts" class="gs-ownitem"><div class="gs-row gs-spread"><div><b>{name}</b>'
        '<div class="gs-small">{about}</div></div><div class="gs-row">{use}</div></div></li>',
        name=say(lang, "ui.own.from_facts"),
        about=say(lang, "ui.own.facts", n=len(learned(draft.table()))),
        use=button("own-facts", say(lang, "ui.own.use")),
    )
