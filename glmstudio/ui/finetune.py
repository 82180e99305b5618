"""The Fine-tune step: three choices and Start on the left, the runs on the right."""

from __future__ import annotations

import re
import shutil
import threading
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from glmstudio.data.records import Check, check_file
from glmstudio.doctor.preflight import preflight
from glmstudio.errors import StudioError
from glmstudio.paths import DEMO, paths
from glmstudio.runs.presets import Preset, list_presets, load_preset
from glmstudio.runs.run import find_run
from glmstudio.runs.start import command_line, start_run
from glmstudio.ui import chat, runs_view
from glmstudio.ui.choice import model_in_use, use_model
from glmstudio.ui.live import Page, View
from glmstudio.ui.markup import Safe, fold, icon, problem, tag, terminal
from glmstudio.ui.runwatch import WATCH, live_run
from glmstudio.ui.snapshot import forget
from glmstudio.words import say

SAMPLE = DEMO / "sample.jsonl"
SHOWN_PROBLEMS = 5

_starting = threading.Lock()
_started: dict[str, str] = {}
_checks: dict[tuple[str, int, int], Check] = {}


def build(page: Page) -> None:
    """The Fine-tune step inside the current Blocks."""
    with gr.Column(elem_id="step-finetune", elem_classes="gs-step"), gr.Row(elem_id="finetune-columns"):
        with gr.Column(scale=4, min_width=320, elem_classes="gs-form"):
            form = _form(page)
            page.panel("review", render_review)
            start = gr.Button(variant="primary", elem_id="finetune-start")
            page.live(
                start, lambda lang, _: {"value": say(lang, "ui.finetune.start"), "interactive": live_run() is None}
            )
            page.panel("start", render_start)
        with gr.Column(scale=7, min_width=380):
            page.panel("run", runs_view.render_open, act)
            page.panel("runs", runs_view.render_list, act)
    page.on(start.click, start_from_form, inputs=form)


def _form(page: Page) -> list[Any]:
    source = page.live(
        gr.Radio(elem_id="finetune-source", value="sample", choices=[(" ", "sample"), ("  ", "file")]),
        lambda lang, _: {
            "label": say(lang, "ui.finetune.data"),
            "choices": [(say(lang, f"ui.finetune.source_{name}"), name) for name in ("sample", "file")],
        },
    )
    path = gr.Textbox(max_lines=1, visible=False, elem_id="finetune-path")
    page.live(
        path,
        lambda lang, view: {
            "label": say(lang, "ui.finetune.path"),
            "placeholder": say(lang, "ui.finetune.path_example"),
            "visible": view.source == "file",
        },
    )
    upload = gr.UploadButton(file_types=[".json", ".jsonl"], visible=False, size="sm", elem_id="finetune-upload")
    page.live(upload, lambda lang, view: {"label": say(lang, "ui.finetune.upload"), "visible": view.source == "file"})
    preset = page.live(gr.Dropdown(elem_id="finetune-preset", choices=[], filterable=False), preset_choices)
    name = gr.Textbox(max_lines=1, max_length=60, elem_id="finetune-name")
    page.words(name, label="ui.finetune.name", placeholder="ui.finetune.name_example", info="ui.finetune.name_info")
    skip = gr.Checkbox(visible=False, elem_id="finetune-skip", container=False)
    page.live(skip, lambda lang, view: {"label": say(lang, "ui.finetune.skip"), "visible": _has_bad_records(view)})
    form = [source, path, preset, name, skip]
    for trigger in (source.input, path.input, preset.input, name.input, skip.input):
        page.on(trigger, remember_form, inputs=form, mode="always_last")
    page.on(upload.upload, take_upload, inputs=[upload], outputs=[path])
    return form


def remember_form(view: View, source: str, data: str, preset: str | None, name: str, skip: bool) -> View:
    """Keep what the form says now, so that the review beside it can be drawn."""
    return replace(
        view, source=source, data=data or "", preset=preset or "", name=name or "", skip=bool(skip), form_problem=None
    )


def take_upload(view: View, upload: Any) -> tuple[View, str]:
    """Keep an uploaded file in the workspace and use it; the browser's name for it is never trusted as a path."""
    given = Path(str(getattr(upload, "name", upload)))
    name = re.sub(r"[^\w.-]+", "_", given.name).lstrip(".")[-80:] or "data.jsonl"
    folder = paths().home / "data"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / name
    if target.exists():
        target = folder / f"{uuid.uuid4().hex[:6]}-{name}"
    shutil.copyfile(given, target)
    return replace(view, source="file", data=str(target)), str(target)


def start_from_form(view: View, *form: Any) -> View:
    """Start the run that the form describes; a second click on the same form starts nothing."""
    view = remember_form(view, *form)
    with _starting:
        if view.ticket and view.ticket in _started:
            return replace(view, run=_started[view.ticket], ticket=new_ticket())
        try:
            forget()
            if running := live_run():
                raise StudioError("ui.finetune.busy", name=running.name)
            preflight()
            run = start_run(_preset(view), data=_data(view), name=view.name.strip() or None, changes=_changes(view))
        except StudioError as error:
            return replace(view, form_problem=error)
        _started[view.ticket] = run.name
    return replace(view, run=run.name, ticket=new_ticket(), form_problem=None)


def new_ticket() -> str:
    """What makes two clicks on one form the same start."""
    return uuid.uuid4().hex


def act(view: View, data: dict[str, Any]) -> View:
    """A button of the runs: open one, stop it, or talk to its result."""
    try:
        run = find_run(str(data.get("run", "")))
        if data.get("act") == "open":
            shown = runs_view.shown(view)
            return replace(view, run="" if shown and shown.name == run.name else run.name)
        if data.get("act") in ("stop", "stop-now"):
            WATCH.stop(run, now=data["act"] == "stop-now")
        elif data.get("act") == "chat":
            use_model(run.model)
            chat.load(run.model, run.name)
            return replace(view, chat_model=run.model, chat_adapter=run.name, chat_problem=None)
    except StudioError as error:
        return replace(view, form_problem=error)
    return view


def preset_choices(lang: str, view: View) -> dict[str, Any]:
    """The presets, those for the model in use first, and the one that is chosen."""
    used = model_in_use()
    presets = sorted(list_presets(), key=lambda preset: preset.model != (used.name if used else "demo"))
    names = [preset.name for preset in presets]
    chosen = next((preset for preset in presets if preset.name == view.preset), presets[0] if presets else None)
    return {
        "label": say(lang, "ui.finetune.preset"),
        "info": chosen.about(lang) if chosen else "",
        "choices": [(preset.title(lang), preset.name) for preset in presets],
        "value": chosen.name if chosen and chosen.name in names else None,
    }


def render_review(lang: str, view: View) -> Safe:
    """The verdict on the data, and the command that Start stands for."""
    parts: list[Safe] = []
    try:
        if data := _data(view):
            parts.append(_verdict(lang, data))
        parts.append(
            terminal(
                lang,
                command_line(_preset(view), data=data, name=view.name.strip() or None, changes=_changes(view)),
                key="train",
            )
        )
    except StudioError as error:
        parts.append(problem(lang, error, kind="attention"))
    return tag('<div class="gs-stack">{parts}</div>', parts=parts)


def render_start(lang: str, view: View) -> Safe:
    """Where the eye is when Start was pressed: what went wrong, or that the page may be closed."""
    if view.form_problem:
        return problem(lang, view.form_problem)
    if live_run():
        return tag(
            '<div class="gs-problem gs-good" role="status">{icon}<strong>{text}</strong></div>',
            icon=icon("good"),
            text=say(lang, "ui.finetune.close"),
        )
    return Safe("")


def _verdict(lang: str, data: Path) -> Safe:
    found = _check(data)
    if not found.problems:
        return _line("good", say(lang, "ui.finetune.data_good", n=f"{found.records:,}"))
    look = "attention" if found.records else "bad"
    lines = [
        tag("<li>{text}</li>", text=say(lang, "ui.finetune.data_line", line=one.line, text=one.text(lang)))
        for one in found.problems[:SHOWN_PROBLEMS]
    ]
    more = len(found.problems) - len(lines)
    if more > 0:
        lines.append(tag("<li>{text}</li>", text=say(lang, "ui.finetune.data_more", n=more)))
    title = say(lang, "ui.finetune.data_bad", n=f"{found.records:,}", bad=len(found.problems))
    detail = fold(
        say(lang, "ui.finetune.data_lines"), tag("<ul>{lines}</ul>", lines=lines), key="data-lines", unfolded=True
    )
    return tag(
        '<div class="gs-problem gs-{look}">{icon}<div><strong>{title}</strong>{detail}</div></div>',
        look=look,
        icon=icon(look),
        title=title,
        detail=detail,
    )


def _line(look: str, text: str) -> Safe:
    return tag('<p class="gs-chip gs-{look}">{icon}{text}</p>', look=look, icon=icon(look), text=text)


def _check(data: Path) -> Check:
    """The check of a file, made once for each state of it."""
    stat = data.stat()
    mark = (str(data), stat.st_mtime_ns, stat.st_size)
    if mark not in _checks:
        _checks.clear()
        _checks[mark] = check_file(data)
    return _checks[mark]


def _data(view: View) -> Path:
    """The data file that the form names. Raises StudioError where there is none."""
    if view.source == "file" and not view.data.strip():
        raise StudioError("ui.finetune.no_data")
    path = Path(view.data.strip()).expanduser() if view.source == "file" else SAMPLE
    if not path.is_file():
        raise StudioError("ui.finetune.no_file", path=str(path))
    return path


def _changes(view: View) -> dict[str, str]:
    """What differs from the preset."""
    return {"bad_records": "drop"} if view.skip and _has_bad_records(view) else {}


def _has_bad_records(view: View) -> bool:
    """Whether the file has good records and bad ones, so that leaving some out is a choice."""
    try:
        found = _check(_data(view))
    except StudioError:
        return False
    return bool(found.problems and found.records)


def _preset(view: View) -> Preset:
    if view.preset:
        return load_preset(view.preset)
    first = preset_choices("en", view)["value"]
    if first is None:
        raise StudioError("ui.finetune.no_preset")
    return load_preset(first)
