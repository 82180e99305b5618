"""The download form: licence checkbox, button, and advanced options."""

from __future__ import annotations

import shlex

from glmstudio.models.catalogue import SOURCES, licence_accepted
from glmstudio.models.hub.hubs import CONNECTIONS, TITLES
from glmstudio.models.inventory import InventoryItem
from glmstudio.paths import paths
from glmstudio.ui.framework.markup import Html, button, fold, tag, terminal
from glmstudio.ui.state.checkup import CHECKUP
from glmstudio.words import say

_FIRST = "chatglm3-6b"
_CONNECTION_CHOICES = (1, 2, 4, 8)


def download_form(lang: str, item: InventoryItem) -> Html:
    """The form on the card of a model that has not been downloaded."""
    entry, needs, licence = item.entry, {}, Html("")
    if entry and not licence_accepted(entry):
        needs = {"needs_ticks": ""}
        licence = tag(
            '<div class="gs-licence"><label><input type="checkbox" data-tick="licence" value="licence"> {read}</label> '
            '<a href="{link}" target="_blank" rel="noreferrer noopener">{name}</a></div>',
            read=say(lang, "ui.model.licence"),
            link=entry.licence,
            name=say(lang, "ui.model.licence_link", title=entry.title),
        )
    # One primary button on the page: the model to begin with, where it makes sense to begin with it.
    look = "primary" if item.name == _FIRST and CHECKUP.gpus() else "plain"
    go = button("download", say(lang, "ui.model.download"), look=look, model=item.name, **needs)
    remove = button("forget", say(lang, "ui.model.forget"), look="quiet", model=item.name)
    return tag(
        '{licence}<div class="gs-row">{go}{remove}</div>{options}',
        licence=licence,
        go=go,
        remove=remove if entry and entry.added else "",
        options=download_options(lang, item, beginning=True),
    )


def download_options(lang: str, item: InventoryItem, *, beginning: bool) -> Html:
    """Source and connections; also the folder, until the download has begun."""
    told = (item.job.options or {}).get("download", {}) if item.job else {}
    source = told["sources"][0] if len(told.get("sources", ())) == 1 else "auto"
    sources = [("auto", say(lang, "ui.model.from_auto")), *((source, TITLES[source]) for source in SOURCES)]
    numbers = [(str(number), str(number)) for number in _CONNECTION_CHOICES]
    folder = tag(
        '<label class="gs-wide">{word}<input type="text" data-field="to" placeholder="{info}: {usual}"></label>',
        word=say(lang, "ui.model.to"),
        info=say(lang, "ui.model.to_info"),
        usual=str(paths().models / item.name),
    )
    body = tag(
        '<div class="gs-fields"><label>{from_word}{sources}</label><label>{number_word}{numbers}</label>{folder}</div>'
        "{command}",
        from_word=say(lang, "ui.model.from"),
        sources=_select("source", sources, source),
        number_word=say(lang, "ui.model.connections"),
        numbers=_select("connections", numbers, str(told.get("connections", CONNECTIONS))),
        folder=folder if beginning else "",
        command=terminal(
            lang, f"python launcher.py models download {shlex.quote(item.name)}", key=f"download-{item.name}"
        ),
    )
    words = "options" if beginning else "options_resume"
    return fold(say(lang, f"ui.model.{words}"), body, key=f"{words}-{item.name}")


def _select(name: str, choices: list[tuple[str, str]], chosen: str) -> Html:
    options = [
        tag(
            '<option value="{value}"{chosen}>{text}</option>',
            value=value,
            text=text,
            chosen=Html(" selected") if value == chosen else "",
        )
        for value, text in choices
    ]
    return tag('<select data-field="{name}">{options}</select>', name=name, options=options)
