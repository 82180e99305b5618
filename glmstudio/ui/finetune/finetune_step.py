"""The Fine-tune step: kind of data, form and review on the left, the runs on the right, the bar with Start below."""

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
    settings_form,
    start_bar,
    teach_actions,
    teach_view,
)
from glmstudio.ui.finetune.own import own_actions, own_view
from glmstudio.ui.framework.file_picker import file_input
from glmstudio.ui.framework.live import PageRenderer
from glmstudio.ui.runs import compare, run_actions, runs_view
from glmstudio.ui.state import uploads, ways
from glmstudio.ui.state.form_state import source_of
from glmstudio.ui.state.kept_form import SOURCES
from glmstudio.ui.state.page_state import FinetuneState, PageState
from glmstudio.words import say


def build(page: PageRenderer) -> None:
    """The Fine-tune step inside the current Blocks."""
    with page.step("finetune", part="finetune"):
        source = _ways(page)
        with gr.Row(elem_id="finetune-columns"):
            with gr.Column(scale=5, min_width=340, elem_classes="gs-form"):
                fields = _form(page, source)
                page.panel("plan", review.render_plan, form_actions.act)
            with gr.Column(scale=7, min_width=380), page.part("runs"):
                page.panel("compare", compare.render_compare, run_actions.act, whole=True)
                page.panel("run", runs_view.render_open, run_actions.act, whole=True)
                page.panel("runs", runs_view.render_list, run_actions.act, whole=True)
        with gr.Row(elem_id="finetune-bar"):
            page.panel("start", start_bar.render_bar, form_actions.act_bar, whole=True)
            start = gr.Button(variant="primary", interactive=False, elem_id="finetune-start", elem_classes="gs-start")
            page.live(start, start_bar.start_button)
        typed = gr.Textbox(visible=False)
        take_along = "(...values) => [...values.slice(0, -1), studioForm.starting()]"
        page.on(
            start.click,
            start_from_form,
            inputs=[*fields, typed],
            js=take_along,
            after_js="() => studioForm.started()",
            whole=True,
        )


def _ways(page: PageRenderer) -> Any:
    """The choice of data, the own datasets, and the table of facts."""
    source = page.live(
        gr.Radio(
            elem_id="finetune-source", value="sample", choices=[(" " * at, each) for at, each in enumerate(SOURCES, 1)]
        ),
        lambda lang, form: {
            "label": say(lang, "ui.finetune.data"),
            "choices": [(say(lang, f"ui.finetune.source_{name}"), name) for name in SOURCES],
            "value": source_of(form),
        },
    )
    page.panel("own", own_view.render_own, own_actions.act)
    # The page gives it what is dropped anywhere on this step, too.
    file_input(page, own_view.FILES, own_actions.take_upload, file_count="multiple")
    page.panel("facts", teach_view.render_facts, teach_actions.act)
    file_input(page, teach_view.FILES, take_facts, file_types=list(KINDS))
    return source


def _form(page: PageRenderer, source: Any) -> list[Any]:
    path = gr.Textbox(max_lines=1, visible=False, elem_id="finetune-path")
    page.live(
        path,
        lambda lang, form: {
            "label": say(lang, "ui.finetune.path"),
            "placeholder": say(lang, "ui.finetune.path_example"),
            "visible": source_of(form) == "file",
            # What is typed there is not sent back: more may have been typed meanwhile.
            **({"value": form.data} if form.picked else {}),
        },
    )
    page.panel("data", review.render_data, form_actions.act)
    page.panel("presets", preset_cards.render_presets, form_actions.act)
    page.panel("cards", gpu_choice.render_cards, form_actions.act)
    page.panel("settings", settings_form.render_settings, form_actions.act)
    page.panel("machines", cluster_form.render_machines, form_actions.act)
    name = gr.Textbox(max_lines=1, max_length=60, elem_id="finetune-name")
    page.words(name, label="ui.finetune.name", placeholder="ui.finetune.name_example", info="ui.finetune.name_info")
    page.at_first(name, lambda form: form.name)
    fields = [source, path, name]
    # A box that was just made visible misses gradio's `input` for what is pasted into it; `change` hears everything.
    # Each tells of itself alone: what gradio sends of the others may be older than what the server chose for them.
    page.on(source.input, remember_source, inputs=[source], mode="always_last")
    page.on(path.change, remember_path, inputs=[path], mode="always_last")
    page.on(name.change, remember_name, inputs=[name], mode="always_last")
    return fields


def remember_source(form: FinetuneState, source: str) -> FinetuneState:
    """Take over the kind of data."""
    return remember_form(form, source, form.data, form.name)


def remember_path(form: FinetuneState, data: str) -> FinetuneState:
    """Take over the path of the data."""
    return remember_form(form, form.source, data, form.name)


def remember_name(form: FinetuneState, name: str) -> FinetuneState:
    """Take over the name of the run."""
    return remember_form(form, form.source, form.data, name)


def remember_form(form: FinetuneState, source: str, data: str, name: str) -> FinetuneState:
    """Take over the fields of the form, so that the review can be drawn."""
    source = form.source if source == source_of(form) else source  # what nobody chose follows the model in use
    record = form.record if (source, data or "") == (form.source, form.data) else 0
    if (source == "facts") != (form.source == "facts"):  # facts have presets of their own
        form = replace(form, preset="", changes=(), settings_problem=None)
    if source != form.source:
        ways.remember(source)
    picked = form.picked and (data or "") == form.data
    after = replace(form, source=source, data=data or "", picked=picked)
    after = replace(after, name=name or "", record=record, form_problem=None)
    return after if after == form else replace(after, gone=())


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
