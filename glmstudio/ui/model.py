"""The Model step: which models are here, which one is in use, and the folder somebody already has."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from glmstudio.errors import StudioError
from glmstudio.models import Model, add_folder, remove_folder
from glmstudio.paths import paths
from glmstudio.ui.choice import model_in_use, models, use_model
from glmstudio.ui.live import Page, View
from glmstudio.ui.markup import Safe, bar, button, chip, empty, go, icon, problem, tag, terminal
from glmstudio.units import size
from glmstudio.words import say


def build(page: Page) -> None:
    """The Model step inside the current Blocks."""
    with gr.Column(elem_id="step-model", elem_classes="gs-step"):
        page.panel("models", render, act)
        with gr.Column(elem_classes="gs-form"):
            with gr.Row(elem_id="model-add-row"):
                path = gr.Textbox(max_lines=1, elem_id="model-folder", scale=1)
                page.words(
                    path, label="ui.model.folder", info="ui.model.folder_info", placeholder="ui.model.folder_example"
                )
                add = gr.Button(elem_id="model-add")
                page.words(add, value="ui.model.add")
            page.panel("folder", render_answer)
        page.panel("models-foot", render_foot)
    for trigger in (add.click, path.submit):
        page.on(trigger, add_from_path, inputs=[path], outputs=[path])


def add_from_path(view: View, path: str) -> tuple[View, str]:
    """Take in the folder that was typed; the box keeps a path that was refused."""
    try:
        model = add_folder(path.strip())
    except StudioError as error:
        return replace(view, folder_problem=error, folder_added=""), path
    return replace(view, folder_problem=None, folder_added=model.name), ""


def act(view: View, data: dict[str, Any]) -> View:
    """A button of a card: use this model, or forget its folder."""
    name = str(data.get("model", ""))
    try:
        if data.get("act") == "use":
            use_model(name)
        elif data.get("act") == "forget":
            remove_folder(name)
    except StudioError as error:
        return replace(view, folder_problem=error, folder_added="")
    return replace(view, folder_problem=None, folder_added="", chat_model="", chat_adapter="", preset="")


def render(lang: str, _view: View) -> Safe:
    """A card for each model."""
    found, used = models(), model_in_use()
    if not found:
        return empty(say(lang, "ui.model.none"), say(lang, "ui.model.none_text"), icon_name="model")
    cards = [_card(lang, model, used is not None and model.name == used.name) for model in found]
    return tag(
        '<div class="gs-stack"><div class="gs-row gs-spread"><div><h2>{title}</h2><p class="gs-muted">{text}</p>'
        "</div>{next}</div>"
        '<div class="gs-cards">{cards}</div></div>',
        title=say(lang, "ui.model.title"),
        text=say(lang, "ui.model.text"),
        next=go("finetune", say(lang, "ui.model.next")) if used and used.ready else "",
        cards=cards,
    )


def render_answer(lang: str, view: View) -> Safe:
    """What became of the folder that was typed."""
    if view.folder_problem:
        return problem(lang, view.folder_problem)
    if view.folder_added:
        return tag(
            '<div class="gs-problem gs-good" role="status">{icon}<strong>{text}</strong></div>',
            icon=icon("good"),
            text=say(lang, "ui.model.added", name=view.folder_added),
        )
    return Safe("")


def render_foot(lang: str, _view: View) -> Safe:
    """Free disk, and the command."""
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


def _card(lang: str, model: Model, used: bool) -> Safe:
    state = (
        chip("good", say(lang, "ui.model.ready")) if model.ready else chip("attention", say(lang, "ui.model.broken"))
    )
    buttons: list[Safe] = []
    if used and model.ready:
        buttons.append(tag("<strong>{text}</strong>", text=say(lang, "ui.model.in_use")))
    elif model.ready:
        buttons.append(button("use", say(lang, "ui.model.use"), model=model.name))
    if model.kind != "demo" and not _inside(model.path, paths().models):
        buttons.append(button("forget", say(lang, "ui.model.forget"), look="quiet", model=model.name))
    return tag(
        '<article class="gs-card gs-model{used}" data-key="model-{name}"><div class="gs-row gs-spread">'
        "<h3>{title} {label}</h3>{state}</div>"
        '<p class="gs-muted">{about}</p><dl class="gs-facts"><dt>{size_word}</dt><dd class="gs-number">{size}</dd>'
        '<dt>{path_word}</dt><dd class="gs-path">{path}</dd></dl>{problem}{buttons}</article>',
        used=" gs-used" if used else "",
        name=model.name,
        title=model.title,
        label=tag('<span class="gs-label">{text}</span>', text=say(lang, "ui.model.demo"))
        if model.kind == "demo"
        else "",
        state=state,
        about=say(lang, f"ui.model.about_{model.kind}"),
        size_word=say(lang, "ui.model.size"),
        size=size(model.size_bytes),
        path_word=say(lang, "ui.model.path"),
        path=str(model.path),
        problem=problem(lang, model.problem, kind="attention") if model.problem else "",
        buttons=tag('<div class="gs-row">{buttons}</div>', buttons=buttons) if buttons else "",
    )


def _inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())
