"""The Chat step: the conversation, the composer, and beside them the model, the tools and the score."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from glmstudio.chat import training_examples
from glmstudio.chat.loop import Decision
from glmstudio.errors import StudioError
from glmstudio.tools.permissions import set_permission
from glmstudio.tools.toolbox import toolbox
from glmstudio.ui.chat import answers_view, chat_history, chat_model, chat_side, chat_tools, score_view
from glmstudio.ui.chat.chat_empty import render_empty
from glmstudio.ui.chat.chat_log import render_log
from glmstudio.ui.chat.chat_side import shown_conversation
from glmstudio.ui.framework.live import PageRenderer
from glmstudio.ui.framework.markup import Html, button, join, problem, tag
from glmstudio.ui.state.conversations import CONVERSATIONS
from glmstudio.ui.state.own_list import choose
from glmstudio.ui.state.page_state import ChatState, PageState
from glmstudio.words import say

MAX_QUESTION = 8000
_LONGEST_EDIT = 100_000
_MARK = re.compile(r"[0-9a-f]{12}")


def build(page: PageRenderer) -> None:
    """The Chat step inside the current Blocks."""
    with page.step("chat", part="chat"), gr.Row(elem_id="chat-columns"):
        with gr.Column(scale=8, min_width=380, elem_id="chat-main"):
            # The box comes first, so that the keyboard reaches it at once; the stylesheet puts it below the log.
            box, send = _composer(page)
            log = page.panel("chat", _render_log, act_log)
            page.follow(log, _render_log, CONVERSATIONS.follow)
            page.on(send.click, send_question, inputs=[box], following=log, js="(state) => studio.compose(state)")
            page.panel("chat-score", score_view.render_score, score_view.act_score)
            page.panel("chat-answers", answers_view.render, answers_view.act)
        with gr.Column(scale=3, min_width=260, elem_id="chat-side", elem_classes="gs-form"):
            chat_model.build(page)
            chat_tools.build_tools(page)
            chat_side.build_answering(page)
            chat_history.build_history(page)
            page.panel("chat-command", chat_model.render_command)


def _composer(page: PageRenderer) -> tuple[gr.Textbox, gr.Button]:
    """The box and its buttons; returns the box and Send, which Enter presses, too (`composer.js`)."""
    page.panel("chat-form", chat_tools.render_form, chat_tools.act_tools)
    page.panel("chat-problem", _render_problem, act_kept, whole=True)
    with gr.Row(elem_id="chat-composer"):
        box = gr.Textbox(lines=1, max_lines=6, max_length=MAX_QUESTION, elem_id="chat-input", scale=1, autofocus=False)
        page.words(box, label="ui.chat.question", placeholder="ui.chat.question_example")
        send = gr.Button(variant="primary", elem_id="chat-send")
        page.live(send, _send_button)
    with gr.Row(elem_id="chat-buttons"):
        stop = gr.Button(size="sm", elem_id="chat-stop")
        page.live(stop, _stop_button)
        clear = gr.Button(size="sm", elem_id="chat-clear")
        page.live(clear, _clear_button)
    page.on(stop.click, stop_answer)
    page.on(clear.click, begin_anew)
    return box, send


def send_question(chat: ChatState, sent: str) -> ChatState:
    """Ask what `composer.js` sent: `mark` and `text` as JSON. It has left the box; if it cannot be asked now, the page
    says the mark, and the text goes back."""
    try:
        told = json.loads(sent)
        mark, question = str(told["mark"]), str(told["text"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return chat
    if not question.strip() or not _MARK.fullmatch(mark):
        return chat
    try:
        return _ask(chat, question, shown_conversation(chat).conversation.tip, mark)
    except StudioError as error:
        return replace(chat, problem=error, returned=mark)


def act_log(chat: ChatState, data: dict[str, Any]) -> ChatState:
    """Handle a button in the conversation."""
    do = _ACTIONS.get(str(data.get("act")))
    if do is None:
        return chat
    try:
        return do(chat, data)
    except StudioError as error:
        return replace(chat, problem=error)


def act_kept(state: PageState, data: dict[str, Any]) -> PageState:
    """Train on the dataset that an example was added to: it becomes the data of the Fine-tune step."""
    if data.get("act") != "train-kept" or (kept := _kept(state.chat)) is None:
        return state
    return replace(state, chat=replace(state.chat, told=None), finetune=choose(state.finetune, kept))


def stop_answer(chat: ChatState) -> ChatState:
    """Stop the answer that is being written."""
    shown_conversation(chat).stop()
    return chat


def begin_anew(chat: ChatState) -> ChatState:
    """A new conversation with the same settings; the last one stays in the list."""
    fresh = CONVERSATIONS.fresh(shown_conversation(chat).conversation)
    return replace(chat, conversation=fresh.conversation.id, problem=None, edited="", taught="")


def _ask(chat: ChatState, question: str, parent: str | None, mark: str = "") -> ChatState:
    opened = shown_conversation(chat)
    asked = question.strip()[:MAX_QUESTION]
    opened.ask(asked, chat_model.asked_models(chat), chat_model.port_for(chat), parent, mark)
    return replace(chat, conversation=opened.conversation.id, problem=None, told=None, edited="", taught="")


def _example(chat: ChatState, data: dict[str, Any]) -> ChatState:
    question = data.get("question")
    if not isinstance(question, str) or not question.strip():
        return chat
    return _ask(chat, question, shown_conversation(chat).conversation.tip)


def _edit(chat: ChatState, data: dict[str, Any]) -> ChatState:
    return replace(chat, edited=_turn(chat, data).id, taught="")


def _edit_send(chat: ChatState, data: dict[str, Any]) -> ChatState:
    question = str(_fields(data).get("question", ""))
    return _ask(chat, question, _turn(chat, data).parent) if question.strip() else chat


def _retry(chat: ChatState, data: dict[str, Any]) -> ChatState:
    turn = _turn(chat, data)
    return _ask(chat, turn.question, turn.parent)


def _branch(chat: ChatState, data: dict[str, Any]) -> ChatState:
    """Continue from an earlier answer; what came after it stays as another branch."""
    shown_conversation(chat).conversation.tip = _turn(chat, data).id
    return replace(chat, edited="", taught="")


def _look(chat: ChatState, data: dict[str, Any]) -> ChatState:
    shown_conversation(chat).conversation.look_at(_turn(chat, data))
    shown_conversation(chat).keep()
    return replace(chat, edited="", taught="")


def _teach(chat: ChatState, data: dict[str, Any]) -> ChatState:
    return replace(chat, taught=_turn(chat, data).id, side=_side(data), edited="", problem=None)


def _teach_keep(chat: ChatState, data: dict[str, Any]) -> ChatState:
    fields = _fields(data)
    edited = {
        int(name[1:]): str(text)[:_LONGEST_EDIT] for name, text in fields.items() if re.fullmatch(r"m\d{1,4}", name)
    }
    made = training_examples.record(shown_conversation(chat).conversation, _turn(chat, data).id, _side(data), edited)
    file = training_examples.keep(made, str(fields.get("name", "")))
    return replace(chat, taught="", problem=None, told=("ui.chat.kept", {"file": str(file)}))


def _take_back(chat: ChatState, data: dict[str, Any]) -> ChatState:
    if mark := str(data.get("mark", "")):
        shown_conversation(chat).take_back(mark)
    return chat


def _leave(chat: ChatState, _: dict[str, Any]) -> ChatState:
    return replace(chat, edited="", taught="", problem=None)


def _decide(chat: ChatState, data: dict[str, Any]) -> ChatState:
    act, text = str(data["act"]), str(_fields(data).get("text", ""))[:_LONGEST_EDIT]
    if act == "always" and (tool := toolbox().tools.get(str(data.get("tool")))):
        set_permission(tool, "always")
    kinds = {"run": Decision("run"), "always": Decision("run"), "refuse": Decision("refuse", text.strip())}
    shown_conversation(chat).decide(str(data.get("call")), kinds.get(act, Decision("answer", text)))
    return chat


_ACTIONS: dict[str, Callable[[ChatState, dict[str, Any]], ChatState]] = {
    "ask": _example,
    "edit": _edit,
    "edit-send": _edit_send,
    "retry": _retry,
    "branch": _branch,
    "look": _look,
    "teach": _teach,
    "teach-keep": _teach_keep,
    "take-back": _take_back,
    "leave": _leave,
    "run": _decide,
    "always": _decide,
    "refuse": _decide,
    "answer": _decide,
}


def _turn(chat: ChatState, data: dict[str, Any]) -> Any:
    """The turn that the button belongs to. Raises StudioError where it is gone."""
    found = shown_conversation(chat).conversation.turns.get(str(data.get("turn")))
    if found is None:
        raise StudioError("chat.no_dialogue")
    return found


def _side(data: dict[str, Any]) -> int:
    return 1 if str(data.get("side")) == "1" else 0


def _fields(data: dict[str, Any]) -> dict[str, Any]:
    fields = data.get("fields")
    return fields if isinstance(fields, dict) else {}


def _render_log(lang: str, chat: ChatState) -> Html:
    opened = shown_conversation(chat)
    nothing = "" if opened.conversation.turns else render_empty(lang, chat)
    return render_log(lang, chat, opened, chat_model.loaded(), nothing)


def _render_problem(lang: str, chat: ChatState) -> Html:
    """What went wrong or well, and what became of the questions that were sent, by their marks."""
    marks = tag(
        '<span hidden data-asked="{asked}" data-waiting="{waiting}" data-returned="{returned}"></span>',
        asked=" ".join(CONVERSATIONS.asked),
        waiting=" ".join(CONVERSATIONS.waiting()),
        returned=" ".join([*CONVERSATIONS.returned, chat.returned]),
    )
    return join([_told(lang, chat), marks])


def _told(lang: str, chat: ChatState) -> Html:
    if chat.problem and not chat.taught:
        return problem(lang, chat.problem)
    if chat.told:
        key, values = chat.told
        shown = problem(lang, StudioError(key, **values), kind="good")
        train = button("train-kept", say(lang, "ui.chat.train_kept"), look="primary", go="finetune")
        return tag('{shown}<div class="gs-row">{train}</div>', shown=shown, train=train) if _kept(chat) else shown
    return Html("")


def _kept(chat: ChatState) -> Path | None:
    """The dataset that an example was added to just now."""
    key, values = chat.told or ("", {})
    return Path(values["file"]) if key == "ui.chat.kept" else None


def _send_button(lang: str, _: ChatState) -> dict[str, Any]:
    """Send is the primary button only once a model is loaded; before that, Load is."""
    look = "primary" if chat_model.server_state().state == "ready" else "secondary"
    return {"value": say(lang, "ui.chat.send"), "variant": look}


def _stop_button(lang: str, chat: ChatState) -> dict[str, Any]:
    return {"value": say(lang, "ui.chat.stop"), "interactive": shown_conversation(chat).busy}


def _clear_button(lang: str, chat: ChatState) -> dict[str, Any]:
    return {"value": say(lang, "ui.chat.new"), "interactive": bool(shown_conversation(chat).conversation.turns)}
