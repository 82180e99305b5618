"""The Fine-tune step: kind of data, form, review and Start on the left; the runs on the right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from glmstudio.data.readers.sources import KINDS
from glmstudio.ui.finetune import (
    cluster_form,
    form_actions,
    gpu_choice,
    preset_cards,
    review,
    teach_actions,
    teach_view,
)
from glmstudio.ui.finetune.own import own_actions, own_view
from glmstudio.ui.framework.live import PageRenderer
from glmstudio.ui.framework.markup import Html, button, icon, problem, tag
from glmstudio.ui.runs import compare, run_actions, runs_view
from glmstudio.ui.state import uploads, ways
from glmstudio.ui.state.form_state import read_form
from glmstudio.ui.state.page_state import FinetuneState, PageState
from glmstudio.ui.state.runwatch import live_run
from glmstudio.words import say

SOURCES = ("sample", "file", "facts")


def build(page: PageRenderer) -> None:
    """The Fine-tune step inside the current Blocks."""
    with page.step("finetune", part="finetune"):
        source = _ways(page)
        with gr.Row(elem_id="finetune-columns"):
            with gr.Column(scale=5, min_width=340, elem_classes="gs-form"):
                fields = _form(page, source)
                page.panel("plan", review.render_plan, form_actions.act)
                start = gr.Button(variant="primary", elem_id="finetune-start")
                page.live(start, _start_button)
                page.panel("start", render_start, form_actions.act_start, whole=True)
            with gr.Column(scale=7, min_width=380), page.part("runs"):
                page.panel("compare", compare.render_compare, run_actions.act, whole=True)
                page.panel("run", runs_view.render_open, run_actions.act, whole=True)
                page.panel("runs", runs_view.render_list, run_actions.act, whole=True)
        typed = gr.Textbox(visible=False)
        take_along = "(...values) => [...values.slice(0, -1), studio.typed()]"
        page.on(start.click, start_from_form, inputs=[*fields, typed], js=take_along, whole=True)


def _ways(page: PageRenderer) -> Any:
    """The choice of data, and the table of facts."""
    source = page.live(
        gr.Radio(
            elem_id="finetune-source", value="sample", choices=[(" " * at, each) for at, each in enumerate(SOURCES, 1)]
        ),
        lambda lang, form: {
            "label": say(lang, "ui.finetune.data"),
            "choices": [(say(lang, f"ui.finetune.source_{name}"), name) for name in SOURCES],
            "value": form.source,
        },
    )
    page.panel("facts", teach_view.render_facts, teach_actions.act)
    upload = gr.UploadButton(file_types=list(KINDS), visible=False, size="sm", elem_id="facts-upload")
    page.live(upload, lambda lang, form: {"label": say(lang, "ui.teach.upload"), "visible": form.source == "facts"})
    page.on(upload.upload, take_facts, inputs=[upload])
    return source


def _form(page: PageRenderer, source: Any) -> list[Any]:
    page.panel("own", own_view.render_own, own_actions.act)
    # Never seen: the page gives it what is dropped anywhere on this step.
    files = gr.UploadButton("+", file_count="multiple", elem_id="finetune-files")
    page.on(files.upload, own_actions.take_upload, inputs=[files])
    path = gr.Textbox(max_lines=1, visible=False, elem_id="finetune-path")
    page.live(
        path,
        lambda lang, form: {
            "label": say(lang, "ui.finetune.path"),
            "placeholder": say(lang, "ui.finetune.path_example"),
            "visible": form.source == "file",
            # What is typed there is not sent back: more may have been typed meanwhile.
            **({"value": form.data} if form.picked else {}),
        },
    )
    page.panel("data", review.render_data, form_actions.act)
    page.panel("presets", preset_cards.render_presets, form_actions.act)
    page.panel("cards", gpu_choice.render_cards, form_actions.act)
    page.panel("settings", preset_cards.render_settings, form_actions.act)
    page.panel("machines", cluster_form.render_machines, form_actions.act)
    name = gr.Textbox(max_lines=1, max_length=60, elem_id="finetune-name")
    page.words(name, label="ui.finetune.name", placeholder="ui.finetune.name_example", info="ui.finetune.name_info")
    fields = [source, path, name]
    # A box that was just made visible misses gradio's `input` for what is pasted into it; `change` hears everything.
    for trigger in (source.input, path.change, name.change):
        page.on(trigger, remember_form, inputs=fields, mode="always_last")
    return fields


def remember_form(form: FinetuneState, source: str, data: str, name: str) -> FinetuneState:
    """Take over the fields of the form, so that the review can be drawn."""
    record = form.record if (source, data or "") == (form.source, form.data) else 0
    if (source == "facts") != (form.source == "facts"):  # facts have presets of their own
        form = replace(form, preset="", changes=(), settings_problem=None)
    if source != form.source:
        ways.remember(source)
    picked = form.picked and (data or "") == form.data
    form = replace(form, source=source, data=data or "", picked=picked)
    return replace(form, name=name or "", record=record, form_problem=None)


def take_facts(form: FinetuneState, upload: Any) -> FinetuneState:
    """Read an uploaded file into the table of facts; the file itself is not kept."""
    given = Path(str(getattr(upload, "name", upload)))
    try:
        return teach_actions.take_file(form, given)
    finally:
        uploads.drop(given)


def start_from_form(state: PageState, source: str, data: str, name: str, typed: str = "") -> PageState:
    """Start the run that the form describes; a second click on the same form starts nothing.

    `typed` are the fields, as JSON, that say something else than the page has been told so far.
    """
    form = form_actions.take_typed(remember_form(state.finetune, source, data, name), typed)
    form = form if form.form_problem else teach_actions.before_start(form)
    state = replace(state, finetune=form)
    return state if form.form_problem else form_actions.start(state)


def render_start(lang: str, form: FinetuneState) -> Html:
    """Below Start: what went wrong, or that the page may be closed."""
    if form.form_problem:
        shown = problem(lang, preset_cards.labelled(lang, form.form_problem))
        if form.form_problem.key != "runs.chat_loaded":
            return shown
        return tag(
            '{shown}<div class="gs-row">{unload}{beside}</div>',
            shown=shown,
            unload=button("unload-start", say(lang, "ui.finetune.unload_start"), look="primary"),
            beside=button("beside-start", say(lang, "ui.finetune.beside_start")),
        )
    if live_run():
        return tag(
            '<div class="gs-problem gs-good" role="status">{icon}<strong>{text}</strong></div>',
            icon=icon("good"),
            text=say(lang, "ui.finetune.close"),
        )
    return Html("")


def _start_button(lang: str, form: FinetuneState) -> dict[str, Any]:
    found = read_form(form)
    key = "ui.finetune.enqueue" if live_run() else "ui.finetune.start"
    return {"value": say(lang, key), "interactive": found.problem is None}
