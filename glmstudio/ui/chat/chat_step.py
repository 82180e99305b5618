"""The Chat step: the conversation, the composer, and beside them the model, the tools and the score."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gradio as gr

from glmstudio.chat import training_examples
from glmstudio.chat.loop import Decision
from glmstudio.errors import StudioError
from glmstudio.tools.permissions import set_permission
from glmstudio.tools.toolbox import toolbox
from glmstudio.ui.chat import answers_view, chat_model, chat_side, score_view
from glmstudio.ui.chat.chat_log import render_log
from glmstudio.ui.chat.chat_side import talk_of
from glmstudio.ui.framework.live import PageRenderer, PageState
from glmstudio.ui.framework.markup import Safe, problem
from glmstudio.ui.state.conversations import TALKS
from glmstudio.words import say

MAX_QUESTION = 8000
_LONGEST_EDIT = 100_000


def build(page: PageRenderer) -> None:
    """The Chat step inside the current Blocks."""
    with gr.Column(elem_id="step-chat", elem_classes="gs-step"), gr.Row(elem_id="chat-columns"):
        with gr.Column(scale=8, min_width=380, elem_id="chat-main"):
            log = page.panel("chat", _render_log, act_log)
            page.follow(log, _render_log, TALKS.follow)
            _composer(page, log)
            page.panel("chat-score", score_view.render_score, score_view.act_score)
            page.panel("chat-answers", answers_view.render, answers_view.act)
        with gr.Column(scale=3, min_width=260, elem_id="chat-side", elem_classes="gs-form"):
            chat_model.build(page)
            chat_side.build_tools(page)
            chat_side.build_answering(page)
            chat_side.build_history(page)
            page.panel("chat-command", chat_model.render_command)


def _composer(page: PageRenderer, log: gr.HTML) -> None:
    page.panel("chat-form", chat_side.render_form, chat_side.act_tools)
    page.panel("chat-problem", _render_problem)
    with gr.Row(elem_id="chat-composer"):
        box = gr.Textbox(lines=1, max_lines=6, max_length=MAX_QUESTION, elem_id="chat-input", scale=1, autofocus=False)
        page.words(box, label="ui.chat.question", placeholder="ui.chat.question_example")
        send = gr.Button(variant="primary", elem_id="chat-send")
        page.live(send, _send_button)
    with gr.Row(elem_id="chat-buttons"):
        stop = gr.Button(size="sm", elem_id="chat-stop")
        page.live(stop, lambda lang, view: {"value": say(lang, "ui.chat.stop"), "interactive": talk_of(view).busy})
        clear = gr.Button(size="sm", elem_id="chat-clear")
        page.live(clear, _clear_button)
    for trigger in (send.click, box.submit):
        page.on(trigger, send_question, inputs=[box], outputs=[box], following=log)
    page.on(stop.click, stop_answer)
    page.on(clear.click, begin_anew)


def send_question(view: PageState, question: str) -> tuple[PageState, str]:
    """Ask, and empty the box; where nothing can be asked now, the box keeps its text."""
    if not question.strip() or talk_of(view).busy:
        return view, question
    try:
        return _ask(view, question, talk_of(view).dialogue.tip), ""
    except StudioError as error:
        return replace(view, chat_problem=error), question


def act_log(view: PageState, data: dict[str, Any]) -> PageState:
    """A button in the conversation was pressed."""
    do = _ACTIONS.get(str(data.get("act")))
    if do is None:
        return view
    try:
        return do(view, data)
    except StudioError as error:
        return replace(view, chat_problem=error)


def stop_answer(view: PageState) -> PageState:
    """End the answer that is being written."""
    talk_of(view).stop()
    return view


def begin_anew(view: PageState) -> PageState:
    """A new conversation, held as the last one was; that one stays in the list."""
    fresh = TALKS.fresh(talk_of(view).dialogue)
    return replace(view, chat=fresh.dialogue.id, chat_problem=None, chat_edit="", chat_teach="")


def _ask(view: PageState, question: str, parent: str | None) -> PageState:
    talk = talk_of(view)
    talk.ask(question.strip()[:MAX_QUESTION], chat_model.asked_models(view), chat_model.port_for(view), parent)
    return replace(view, chat=talk.dialogue.id, chat_problem=None, chat_told=None, chat_edit="", chat_teach="")


def _example(view: PageState, data: dict[str, Any]) -> PageState:
    question = data.get("question")
    if not isinstance(question, str) or not question.strip():
        return view
    return _ask(view, question, talk_of(view).dialogue.tip)


def _edit(view: PageState, data: dict[str, Any]) -> PageState:
    return replace(view, chat_edit=_turn(view, data).id, chat_teach="")


def _edit_send(view: PageState, data: dict[str, Any]) -> PageState:
    question = str(_fields(data).get("question", ""))
    return _ask(view, question, _turn(view, data).parent) if question.strip() else view


def _retry(view: PageState, data: dict[str, Any]) -> PageState:
    turn = _turn(view, data)
    return _ask(view, turn.question, turn.parent)


def _branch(view: PageState, data: dict[str, Any]) -> PageState:
    """Go on from an earlier answer; what came after it stays, as another branch."""
    talk_of(view).dialogue.tip = _turn(view, data).id
    return replace(view, chat_edit="", chat_teach="")


def _look(view: PageState, data: dict[str, Any]) -> PageState:
    talk_of(view).dialogue.look_at(_turn(view, data))
    talk_of(view).keep()
    return replace(view, chat_edit="", chat_teach="")


def _teach(view: PageState, data: dict[str, Any]) -> PageState:
    return replace(view, chat_teach=_turn(view, data).id, chat_side=_side(data), chat_edit="", chat_problem=None)


def _teach_keep(view: PageState, data: dict[str, Any]) -> PageState:
    fields = _fields(data)
    edited = {
        int(name[1:]): str(text)[:_LONGEST_EDIT] for name, text in fields.items() if re.fullmatch(r"m\d{1,4}", name)
    }
    made = training_examples.record(talk_of(view).dialogue, _turn(view, data).id, _side(data), edited)
    file = training_examples.keep(made, str(fields.get("name", "")))
    return replace(view, chat_teach="", chat_problem=None, chat_told=("ui.chat.kept", {"file": str(file)}))


def _leave(view: PageState, _: dict[str, Any]) -> PageState:
    return replace(view, chat_edit="", chat_teach="", chat_problem=None)


def _decide(view: PageState, data: dict[str, Any]) -> PageState:
    act, text = str(data["act"]), str(_fields(data).get("text", ""))[:_LONGEST_EDIT]
    if act == "always" and (tool := toolbox().tools.get(str(data.get("tool")))):
        set_permission(tool, "always")
    kinds = {"run": Decision("run"), "always": Decision("run"), "refuse": Decision("refuse", text.strip())}
    talk_of(view).decide(str(data.get("call")), kinds.get(act, Decision("answer", text)))
    return view


_ACTIONS: dict[str, Callable[[PageState, dict[str, Any]], PageState]] = {
    "ask": _example,
    "edit": _edit,
    "edit-send": _edit_send,
    "retry": _retry,
    "branch": _branch,
    "look": _look,
    "teach": _teach,
    "teach-keep": _teach_keep,
    "leave": _leave,
    "run": _decide,
    "always": _decide,
    "refuse": _decide,
    "answer": _decide,
}


def _turn(view: PageState, data: dict[str, Any]) -> Any:
    """The turn that the button belongs to. Raises StudioError where it is gone."""
    found = talk_of(view).dialogue.turns.get(str(data.get("turn")))
    if found is None:
        raise StudioError("chat.no_dialogue")
    return found


def _side(data: dict[str, Any]) -> int:
    return 1 if str(data.get("side")) == "1" else 0


def _fields(data: dict[str, Any]) -> dict[str, Any]:
    fields = data.get("fields")
    return fields if isinstance(fields, dict) else {}


def _render_log(lang: str, view: PageState) -> Safe:
    ready = chat_model.server_state().state == "ready"
    return render_log(lang, view, talk_of(view), chat_model.loaded(), ready=ready)


def _render_problem(lang: str, view: PageState) -> Safe:
    if view.chat_problem and not view.chat_teach:
        return problem(lang, view.chat_problem)
    if view.chat_told:
        key, values = view.chat_told
        return problem(lang, StudioError(key, **values), kind="good")
    return Safe("")


def _send_button(lang: str, view: PageState) -> dict[str, Any]:
    """Send is the primary button only where there is somebody to send to; before that, Load is."""
    look = "primary" if chat_model.server_state().state == "ready" else "secondary"
    return {"value": say(lang, "ui.chat.send"), "interactive": not talk_of(view).busy, "variant": look}


def _clear_button(lang: str, view: PageState) -> dict[str, Any]:
    return {"value": say(lang, "ui.chat.new"), "interactive": bool(talk_of(view).dialogue.turns)}
