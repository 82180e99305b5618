"""The actions of the runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from glmstudio.chat.available_tools import toolless
from glmstudio.chat.model_server import ModelServer
from glmstudio.errors import StudioError, refused
from glmstudio.knowledge.scoring import of_run
from glmstudio.models.exports.new_folder import free_folder
from glmstudio.rundir import queue_file
from glmstudio.rundir.run import Run, find_run
from glmstudio.runs.export import FORMS, export_run, learned
from glmstudio.runs.manage import delete_run, rename_run, size_of, write_note
from glmstudio.runs.resume import resume_run
from glmstudio.runs.start import advance
from glmstudio.ui.chat import chat_model, score_view
from glmstudio.ui.chat.chat_side import shown_conversation
from glmstudio.ui.chat.versus_view import act_versus
from glmstudio.ui.runs import publish_view, runs_view
from glmstudio.ui.runs.log_search import LONGEST_NEEDLE
from glmstudio.ui.state.background import TASKS
from glmstudio.ui.state.choice import use_model
from glmstudio.ui.state.conversations import CONVERSATIONS
from glmstudio.ui.state.lora_instead import again_with_lora
from glmstudio.ui.state.page_state import ChatState, PageState, RunsState
from glmstudio.ui.state.runwatch import WATCH


def act(state: PageState, data: dict[str, Any]) -> PageState:
    """Handle a button; an error is shown with the run that it belongs to."""
    if do := _OF_LIST.get(str(data.get("act"))):
        return replace(state, runs=do(state.runs, data))
    run = find_run(str(data.get("run", "")))
    WATCH.complain(run.name, None)
    try:
        if data.get("act") == "chat":
            return replace(state, chat=_chat(state.chat, run, data))
        if data.get("act") == "lora-instead":
            return replace(state, finetune=again_with_lora(state.finetune, run))
        if act := _ACTIONS.get(str(data.get("act"))):
            return replace(state, runs=act(state.runs, run, data))
        return state
    except StudioError as error:
        WATCH.complain(run.name, error)
    except OSError as error:
        WATCH.complain(run.name, refused(error))
    return replace(state, runs=replace(state.runs, run=run.name))


def _step(run: Run, data: dict[str, Any]) -> int | None:
    """The step of the checkpoint that the button belongs to; None for the run itself. Raises StudioError."""
    told = str(data.get("step") or "")
    if told and not (told.isdecimal() and len(told) < 10):
        raise StudioError("runs.no_checkpoint", name=run.name, step=told[:20], steps="–")
    return int(told) if told else None


def _ticked(data: dict[str, Any]) -> tuple[str, ...]:
    ticked = data.get("ticked")
    return tuple(str(name) for name in ticked) if isinstance(ticked, list) else ()


def _find(state: RunsState, data: dict[str, Any]) -> RunsState:
    """Search the log for what was typed."""
    fields = data.get("fields")
    asked = str(fields.get("find", "")) if isinstance(fields, dict) else ""
    return replace(state, log_find=asked[:LONGEST_NEEDLE])


def _open(state: RunsState, run: Run, _: dict[str, Any]) -> RunsState:
    shown = runs_view.shown(state)
    TASKS.start(run.name, "size", lambda _: size_of(run))
    return replace(state, run="" if shown and shown.name == run.name else run.name)


def _stop(state: RunsState, run: Run, data: dict[str, Any]) -> RunsState:
    WATCH.stop(run, now=data["act"] == "stop-now")
    return state


def _resume(state: RunsState, run: Run, data: dict[str, Any]) -> RunsState:
    step = _step(run, data)
    if data.get("unload"):
        ModelServer.stop()
    gone_on = resume_run(run, step=step, wait=True)
    return replace(state, run=gone_on.name)


def _unload(state: RunsState, run: Run, _: dict[str, Any]) -> RunsState:
    ModelServer.stop()
    advance()
    return replace(state, run=run.name)


def _chat(chat: ChatState, run: Run, data: dict[str, Any]) -> ChatState:
    step = _step(run, data)
    if run.is_whole_model:
        model, adapter = str(learned(run, step)), ""
    else:
        model, adapter = run.model, str(learned(run, step)) if step else run.name
        use_model(model)
    chat = replace(_in_its_form(chat, model, adapter), model=model, adapter=adapter, problem=None)
    ModelServer.choose(adapter)
    try:
        if not _is_loaded(model):
            chat_model.load(model, adapter)
        elif adapter:  # another result on the same weights needs no loading
            ModelServer.add(adapter)
    except StudioError as error:  # the chat is what the click has opened, so that is where it is told
        return replace(chat, problem=error)
    return chat


def _in_its_form(chat: ChatState, model: str, adapter: str) -> ChatState:
    """A new conversation if the open one offers tools and this run was trained without."""
    conversation = shown_conversation(chat).conversation
    if conversation.settings.tools is not True or toolless(model, adapter) is None:
        return chat
    fresh = CONVERSATIONS.fresh(conversation)
    fresh.conversation.settings.tools = None
    return replace(chat, conversation=fresh.conversation.id)


def _is_loaded(model: str) -> bool:
    state = chat_model.server_state()
    return state.state == "ready" and state.model == model


def _score(state: RunsState, run: Run, data: dict[str, Any]) -> RunsState:
    model, adapter = (str(learned(run)), "") if run.is_whole_model else (run.model, run.name)
    score_view.act(run.name, model, adapter, data)
    return replace(state, run=run.name)


def _facts_score(state: RunsState, run: Run, data: dict[str, Any]) -> RunsState:
    scoring = of_run(run)
    if data["act"] == "facts-score":
        scoring.start()
    else:
        scoring.asking.cancel()
    return replace(state, run=run.name)


def _export(state: RunsState, run: Run, data: dict[str, Any]) -> RunsState:
    form, step = str(data.get("form")), _step(run, data)
    if form in FORMS:
        folder = free_folder(run.name, form, step)
        TASKS.start(run.name, "export", lambda _: str(export_run(run, form, folder, step=step)))
    return replace(state, run=run.name)


def _versus(state: RunsState, run: Run, data: dict[str, Any]) -> RunsState:
    act_versus(run, data)
    return replace(state, run=run.name)


def _rename(state: RunsState, run: Run, data: dict[str, Any]) -> RunsState:
    fields = data.get("fields")
    renamed = rename_run(run, str(fields.get("new_name", "")) if isinstance(fields, dict) else "")
    return replace(state, run=renamed.name)


def _note(state: RunsState, run: Run, data: dict[str, Any]) -> RunsState:
    fields = data.get("fields")
    if isinstance(fields, dict):
        write_note(run, str(fields.get("note", "")))
    return state


def _delete(state: RunsState, run: Run, _: dict[str, Any]) -> RunsState:
    delete_run(run)
    return replace(state, run=None, compared=tuple(name for name in state.compared if name != run.name))


def _move(state: RunsState, run: Run, data: dict[str, Any]) -> RunsState:
    queue_file.move(run.name, -1 if data["act"] == "earlier" else 1)
    return state


_ACTIONS: dict[str, Callable[[RunsState, Run, dict[str, Any]], RunsState]] = {
    "open": _open,
    "stop": _stop,
    "stop-now": _stop,
    "resume": _resume,
    "unload": _unload,
    "export": _export,
    "publish-ask": publish_view.act,
    "publish": publish_view.act,
    "publish-drop": publish_view.act,
    "versus": _versus,
    "versus-again": _versus,
    "versus-all": _versus,
    "versus-drop": _versus,
    "score": _score,
    "score-stop": _score,
    "facts-score": _facts_score,
    "facts-score-stop": _facts_score,
    "rename": _rename,
    "note": _note,
    "delete": _delete,
    "earlier": _move,
    "later": _move,
}
_OF_LIST: dict[str, Callable[[RunsState, dict[str, Any]], RunsState]] = {
    "compare": lambda state, data: replace(state, compared=_ticked(data)),
    "uncompare": lambda state, _: replace(state, compared=()),
    "log-find": _find,
    "all-runs": lambda state, _: replace(state, all_runs=True),
}
