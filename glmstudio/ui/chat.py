"""The Chat step: what is loaded, the conversation, and the tools that the model may call."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from glmstudio.chat.server import ModelServer, ServerState
from glmstudio.chat.tools import TOOLS
from glmstudio.errors import StudioError
from glmstudio.paths import paths
from glmstudio.runs.lease import chat_device, run_on
from glmstudio.ui.chat_view import render_log
from glmstudio.ui.choice import model_in_use, models
from glmstudio.ui.conversation import CONVERSATION
from glmstudio.ui.live import Page, View
from glmstudio.ui.markup import Safe, busy, button, chip, problem, tag, terminal
from glmstudio.ui.runwatch import newest_first
from glmstudio.ui.snapshot import forget, shared
from glmstudio.units import literal
from glmstudio.words import say

SERVER = ModelServer()
MAX_QUESTION = 8000


def build(page: Page) -> None:
    """The Chat step inside the current Blocks."""
    tools = gr.CheckboxGroup(elem_id="chat-tools", value=list(TOOLS), choices=list(TOOLS), render=False)
    with gr.Column(elem_id="step-chat", elem_classes="gs-step"), gr.Row(elem_id="chat-columns"):
        with gr.Column(scale=8, min_width=380, elem_id="chat-main"):
            log = page.panel("chat", _render_log, act_log, inputs=[tools])
            page.follow(log, _render_log, CONVERSATION.follow)
            _composer(page, tools, log)
        with gr.Column(scale=3, min_width=260, elem_id="chat-side", elem_classes="gs-form"):
            _pickers(page)
            page.panel("server", render_server, act_server)
            tools.render()
            page.live(
                tools,
                lambda lang, _: {
                    "label": say(lang, "ui.chat.tools"),
                    "info": say(lang, "ui.chat.tools_info"),
                    "choices": [(tool.title(lang), name) for name, tool in TOOLS.items()],
                },
            )
            page.panel("chat-command", render_command)


def _composer(page: Page, tools: Any, log: gr.HTML) -> None:
    page.panel("chat-problem", lambda lang, view: problem(lang, view.chat_problem) if view.chat_problem else Safe(""))
    with gr.Row(elem_id="chat-composer"):
        box = gr.Textbox(lines=1, max_lines=6, max_length=MAX_QUESTION, elem_id="chat-input", scale=1, autofocus=False)
        page.words(box, label="ui.chat.question", placeholder="ui.chat.question_example")
        send = gr.Button(variant="primary", elem_id="chat-send")
        page.live(send, _send_button)
    with gr.Row(elem_id="chat-buttons"):
        stop = gr.Button(size="sm", elem_id="chat-stop")
        page.live(stop, lambda lang, _: {"value": say(lang, "ui.chat.stop"), "interactive": CONVERSATION.busy})
        retry = gr.Button(size="sm", elem_id="chat-retry")
        page.live(retry, lambda lang, _: {"value": say(lang, "ui.chat.retry"), "interactive": _may_change()})
        clear = gr.Button(size="sm", elem_id="chat-clear")
        page.live(clear, lambda lang, _: {"value": say(lang, "ui.chat.clear"), "interactive": bool(CONVERSATION.turns)})
    for trigger in (send.click, box.submit):
        page.on(trigger, send_question, inputs=[box, tools], outputs=[box], following=log)
    page.on(stop.click, stop_turn)
    page.on(retry.click, retry_turn, inputs=[tools], following=log)
    page.on(clear.click, clear_all)


def _pickers(page: Page) -> None:
    model = page.live(gr.Dropdown(elem_id="chat-model", choices=[], filterable=False), model_choices)
    adapter = page.live(gr.Dropdown(elem_id="chat-adapter", choices=[], filterable=False), adapter_choices)
    page.on(model.input, lambda view, name: replace(view, chat_model=name or "", chat_adapter=""), inputs=[model])
    page.on(adapter.input, lambda view, name: replace(view, chat_adapter=name or ""), inputs=[adapter])


def send_question(view: View, question: str, tools: Sequence[str]) -> tuple[View, str]:
    """Ask, and empty the box; where nothing can be asked now, the box keeps its text."""
    if not question.strip() or CONVERSATION.busy:
        return view, question
    try:
        _ask(question.strip(), tools)
    except StudioError as error:
        return replace(view, chat_problem=error), question
    return replace(view, chat_problem=None), ""


def act_log(view: View, data: dict[str, Any], tools: Sequence[str]) -> View:
    """An example question was clicked."""
    question = data.get("question")
    if data.get("act") != "ask" or not isinstance(question, str) or not question.strip():
        return view
    return send_question(view, question[:MAX_QUESTION], tools)[0]


def retry_turn(view: View, tools: Sequence[str]) -> View:
    """Ask the last question again."""
    if server_state().state != "ready":
        return replace(view, chat_problem=StudioError("ui.chat.not_loaded"))
    if (question := CONVERSATION.take_back()) is not None:
        return send_question(view, question, tools)[0]
    return view


def stop_turn(view: View) -> View:
    """End the answer that is being written."""
    CONVERSATION.stop()
    return view


def clear_all(view: View) -> View:
    """Begin a new conversation."""
    CONVERSATION.clear()
    return replace(view, chat_problem=None)


def act_server(view: View, data: dict[str, Any]) -> View:
    """Load what the pickers say, or unload."""
    try:
        if data.get("act") == "unload":
            CONVERSATION.stop()
            SERVER.stop()
        elif data.get("act") in ("load", "load-anyway"):
            load(_chosen_model(view), _chosen_adapter(view), beside_run=data["act"] == "load-anyway")
    except StudioError as error:
        return replace(view, chat_problem=error)
    return replace(view, chat_problem=None)


def load(model: str, adapter: str, *, beside_run: bool = False) -> None:
    """Load a model, and the result of a run on top of it. Raises StudioError; where a run trains on the same device,
    it is an error, too, unless somebody knows (`beside_run`)."""
    if not model:
        raise StudioError("ui.chat.no_model")
    if not beside_run and (run := run_on(chat_device())):
        raise StudioError("ui.chat.training_there", name=run.name)
    CONVERSATION.stop()
    SERVER.start(model, adapter or None)
    forget()


@shared(2.0)
def server_state() -> ServerState:
    """What is really loaded."""
    return SERVER.current()


def model_choices(lang: str, view: View) -> dict[str, Any]:
    """The models that can be loaded."""
    names = [(literal(model.title), model.name) for model in models() if model.ready]
    names += [(literal(_short(each)), each) for each in _tuned_models(view)]
    return {"label": say(lang, "ui.chat.model"), "choices": names, "value": _chosen_model(view) or None}


def adapter_choices(lang: str, view: View) -> dict[str, Any]:
    """No adapter, or one of the finished runs of the chosen model."""
    found = _adapters(_chosen_model(view), view)
    names = [(say(lang, "ui.chat.no_adapter"), ""), *((literal(_short(name)), name) for name in found)]
    return {"label": say(lang, "ui.chat.adapter"), "choices": names, "value": _chosen_adapter(view)}


def render_server(lang: str, view: View) -> Safe:
    """What is loaded, and the button that changes it."""
    state = server_state()
    same = state.model == _chosen_model(view) and (state.adapter or "") == _chosen_adapter(view)
    look = {"absent": "waiting", "loading": "running", "ready": "good", "failed": "bad"}[state.state]
    words = say(lang, f"ui.chat.server_{state.state}", what=_loaded(state))
    buttons: list[Safe] = []
    if state.state in ("absent", "failed") or not same:
        buttons.append(button("load", say(lang, "ui.chat.load"), look="primary"))
    if view.chat_problem and view.chat_problem.key == "ui.chat.training_there":
        buttons = [button("load-anyway", say(lang, "ui.chat.load_anyway"))]
    if state.state in ("ready", "loading"):
        buttons.append(button("unload", say(lang, "ui.chat.unload")))
    return tag(
        '<div class="gs-stack"><div>{chip}</div>{busy}{problem}<div class="gs-row">{buttons}</div></div>',
        chip=chip(look, words),
        busy=busy(words) if state.state == "loading" else "",
        problem=problem(lang, state.problem) if state.problem else "",
        buttons=buttons,
    )


def render_command(lang: str, view: View) -> Safe:
    """The same conversation in the terminal."""
    command = ["python", "launcher.py", "chat", "--model", _chosen_model(view)]
    if adapter := _chosen_adapter(view):
        command += ["--adapter", adapter]
    return terminal(lang, shlex.join(command), key="chat")


def _render_log(lang: str, _view: View) -> Safe:
    state = server_state()
    return render_log(lang, CONVERSATION, ready=state.state == "ready", tuned=bool(state.adapter))


def _ask(question: str, tools: Sequence[str]) -> None:
    state = server_state()
    if state.state != "ready":
        raise StudioError("ui.chat.still_loading" if state.state == "loading" else "ui.chat.not_loaded")
    CONVERSATION.ask(question, port=state.port, tools=[name for name in tools if name in TOOLS])


def _send_button(lang: str, _view: View) -> dict[str, Any]:
    """Send is the primary button only where there is somebody to send to; before that, Load is."""
    look = "primary" if server_state().state == "ready" else "secondary"
    return {"value": say(lang, "ui.chat.send"), "interactive": not CONVERSATION.busy, "variant": look}


def _may_change() -> bool:
    return bool(CONVERSATION.turns) and not CONVERSATION.busy


def _chosen_model(view: View) -> str:
    names = [*(model.name for model in models() if model.ready), *_tuned_models(view)]
    used, state = model_in_use(), server_state()
    wanted = (view.chat_model, state.model if state.state != "absent" else None, used.name if used else None)
    return next((name for name in wanted if name in names), names[0] if names else "")


def _chosen_adapter(view: View) -> str:
    model, state = _chosen_model(view), server_state()
    if view.chat_model or view.chat_adapter:
        wanted = view.chat_adapter
    else:
        wanted = (state.adapter or "") if state.state != "absent" and state.model == model else ""
    return wanted if wanted in _adapters(model, view) else ""


def _adapters(model: str, view: View) -> list[str]:
    """The runs that tuned the model, and the checkpoint that a run's button named or that is loaded."""
    found = [
        known.name
        for known in newest_first()
        if known.model == model and known.has_result and not known.run.is_whole_model
    ]
    named = {view.chat_adapter, server_state().adapter or ""} - {"", *found}
    return found + sorted(each for each in named if _is_ours(each))


def _tuned_models(view: View) -> list[str]:
    """Whole models that runs made: those that are loaded or that a run's button named, and every finished one."""
    results = [str(known.run.result) for known in newest_first() if known.has_result and known.run.is_whole_model]
    return results + sorted({each for each in (view.chat_model, server_state().model) if _is_ours(each)} - {*results})


def _is_ours(path: str) -> bool:
    """Whether it is a folder inside a run: results and checkpoints are loaded from nowhere else."""
    return bool(path) and Path(path).is_absolute() and Path(path).is_relative_to(paths().runs)


def _short(name: str) -> str:
    """A result or checkpoint of a run as a person reads it."""
    return " · ".join(Path(name).relative_to(paths().runs).parts) if _is_ours(name) else name


def _loaded(state: ServerState) -> str:
    title = next((model.title for model in models() if model.name == state.model), _short(state.model))
    return f"{title} + {_short(state.adapter)}" if state.adapter else title
