"""The Model step: the list of models, the one in use, and every action on their files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from glmstudio.errors import StudioError
from glmstudio.models import actions, remove_folder
from glmstudio.models.hub.hubs import CONNECTIONS
from glmstudio.models.inventory import InventoryItem
from glmstudio.paths import paths
from glmstudio.rundir.occupancy import refuse_in_use
from glmstudio.ui.framework.live import PageRenderer
from glmstudio.ui.framework.markup import Html, bar, fold, go, icon, tag, terminal
from glmstudio.ui.model.adding import add_from_path, render_answer
from glmstudio.ui.model.model_cards import card, is_offered
from glmstudio.ui.state.checkup import CHECKUP
from glmstudio.ui.state.choice import items, model_in_use, use_model
from glmstudio.ui.state.page_state import ModelState, PageState
from glmstudio.units import size
from glmstudio.words import say


def build(page: PageRenderer) -> None:
    """The Model step inside the current Blocks."""
    with page.step("model", part="model"):
        page.panel("models", render, act, whole=True)
        with gr.Column(elem_classes="gs-form"):
            with gr.Row(elem_id="model-add-row"):
                path = gr.Textbox(max_lines=1, elem_id="model-folder", scale=1)
                page.words(
                    path, label="ui.model.folder", info="ui.model.folder_info", placeholder="ui.model.folder_example"
                )
                add = gr.Button(elem_id="model-add")
                page.words(add, value="ui.model.add")
            page.panel("folder", render_answer, act, whole=True)
        page.panel("models-foot", render_foot)
        for trigger in (add.click, path.submit):
            page.on(trigger, add_from_path, inputs=[path], outputs=[path])


def act(state: PageState, data: dict[str, Any]) -> PageState:
    """Handle a button of a card. Using another model resets the choices in Chat and Fine-tune."""
    state = replace(state, model=_acted(state.model, data))
    if data.get("act") == "use" and not state.model.problem:
        chat, form = replace(state.chat, model="", adapter=""), replace(state.finetune, preset="")
        return replace(state, chat=chat, finetune=form)
    return state


def _acted(state: ModelState, data: dict[str, Any]) -> ModelState:
    name, fields = str(data.get("model", "")), data.get("fields")
    state = ModelState(named=name)
    try:
        chosen = isinstance(fields, dict) and "source" in fields
        if data.get("act") == "download" or (data.get("act") == "resume" and chosen):
            return _download(state, name, fields if isinstance(fields, dict) else {}, data.get("ticked"))
        if data.get("act") == "delete":
            _unused(name)
            freed = size(actions.delete(name))
            return replace(state, folder_answer=("ui.model.deleted", {"name": name, "freed": freed}))
        if do := _ACTS.get(str(data.get("act"))):
            do(name)
    except StudioError as error:
        return replace(state, problem=error)
    return state


def _download(state: ModelState, name: str, fields: dict[str, Any], ticked: Any) -> ModelState:
    number = str(fields.get("connections", ""))
    actions.start_download(
        name,
        source=str(fields.get("source") or "auto"),
        connections=int(number) if number.isdigit() else CONNECTIONS,
        to=str(fields.get("to") or "").strip(),
        accept="licence" in (ticked if isinstance(ticked, list) else []),
    )
    return state


def _repair(name: str) -> None:
    _unused(name)
    actions.start_repair(name)


def _convert_replace(name: str) -> None:
    _unused(name)
    actions.start_convert(name, drop_originals=True)


def _unused(name: str) -> None:
    refuse_in_use(*actions.name_and_folder(name))


_ACTS: dict[str, Callable[[str], Any]] = {
    "pause": actions.pause,
    "resume": actions.resume,
    "cancel": actions.cancel,
    "verify": actions.start_verify,
    "repair": _repair,
    "convert": actions.start_convert,
    "convert-replace": _convert_replace,
    "forget": remove_folder,
    "use": use_model,
}


def render(lang: str, state: ModelState) -> Html:
    """A hint for newcomers, and a card for each model."""
    used = model_in_use()
    found = items()
    cards = {item.name: card(lang, item, state, used=used is not None and item.name == used.name) for item in found}
    more = [cards.pop(item.name) for item in found if is_offered(item)]
    return tag(
        '<div class="gs-stack"><div class="gs-row gs-spread"><div><h2>{title}</h2><p class="gs-muted">{text}</p>'
        "</div>{next}</div>{first}"
        '<div class="gs-cards" data-key="cards">{cards}</div>{more}</div>',
        title=say(lang, "ui.model.title"),
        text=say(lang, "ui.model.text"),
        next=go("finetune", say(lang, "ui.model.next")) if used and used.ready else "",
        first=_first_step(lang, found),
        cards=list(cards.values()),
        more=_more_models(lang, more),
    )


def _more_models(lang: str, cards: list[Html]) -> Html:
    """The models that are offered to whoever asks for more."""
    if not cards:
        return Html("")
    listed = tag('<div class="gs-cards">{cards}</div>', cards=cards)
    return fold(say(lang, "ui.model.more_models", n=len(cards)), listed, key="more-models")


def _first_step(lang: str, found: list[InventoryItem]) -> Html:
    """What to begin with on this machine, as long as there is only the demo model."""
    if CHECKUP.state.report is None or any(item.state != "absent" for item in found if item.name != "demo"):
        return Html("")
    case = "start_gpu" if CHECKUP.gpus() else "start_cpu"
    return tag(
        '<div class="gs-problem gs-note" data-key="first-step">{icon}<div><strong>{what}</strong><p>{text}</p></div>'
        "</div>",
        icon=icon("note"),
        what=say(lang, f"ui.model.{case}"),
        text=say(lang, f"ui.model.{case}_text"),
    )


def render_foot(lang: str, _state: ModelState) -> Html:
    """Free disk space, and the same as a command."""
    room = shutil.disk_usage(_existing(paths().home))
    return tag(
        '<div class="gs-stack"><section class="gs-card"><div class="gs-row"><span class="gs-row">{icon}<span>{text}'
        "</span></span>"
        '<span class="gs-grow">{bar}</span></div></section>{terminal}</div>',
        icon=icon("disk"),
        text=say(lang, "ui.model.disk", free=size(room.free), total=size(room.total)),
        bar=bar(1 - room.free / max(1, room.total), label=say(lang, "ui.model.disk_used")),
        terminal=terminal(lang, "python launcher.py models", key="models"),
    )


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())
