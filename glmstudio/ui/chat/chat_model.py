"""The model of the chat: what can be loaded, what is loaded, and what it is compared with."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from glmstudio.chat.model_server import STUDIO, VLLM, HowToServe, LoadedModel, ModelServer, ServerState
from glmstudio.chat.vllm.installation import has_vllm
from glmstudio.config import devices
from glmstudio.errors import StudioError
from glmstudio.models.exports.export_request import NATIVE
from glmstudio.models.exports.model_export import export_model
from glmstudio.models.exports.new_folder import free_folder
from glmstudio.paths import paths
from glmstudio.rundir.checkpoints import list_checkpoints
from glmstudio.rundir.occupancy import chat_device, run_on
from glmstudio.rundir.record import RunFiles
from glmstudio.ui.chat.chat_log import about
from glmstudio.ui.framework.live import PageRenderer
from glmstudio.ui.framework.markup import Html, busy, button, chip, problem, tag, terminal
from glmstudio.ui.framework.ttl_cache import cached, clear_caches
from glmstudio.ui.state.background import TASKS, BackgroundTask
from glmstudio.ui.state.checkup import CHECKUP
from glmstudio.ui.state.choice import BITS, kept_text, model_in_use, models
from glmstudio.ui.state.conversations import CONVERSATIONS
from glmstudio.ui.state.page_state import ChatState
from glmstudio.ui.state.runwatch import newest_first
from glmstudio.units import literal
from glmstudio.words import say

SERVER = ModelServer()
ALONE = "-"  # nothing to compare with; "" is the base
_MOST_OFFERED = 100


def build(page: PageRenderer) -> None:
    """The dropdowns and the state of the server."""
    model = page.live(gr.Dropdown(elem_id="chat-model", choices=[], filterable=False), model_choices)
    adapter = page.live(gr.Dropdown(elem_id="chat-adapter", choices=[], filterable=False), adapter_choices)
    rival = page.live(gr.Dropdown(elem_id="chat-rival", choices=[], filterable=False), rival_choices)
    bits = page.live(gr.Dropdown(elem_id="chat-bits", choices=[], filterable=False), bits_choices)
    engine = page.live(gr.Dropdown(elem_id="chat-engine", choices=[], filterable=False), engine_choices)
    page.on(
        model.input,
        lambda chat, name: replace(chat, model=name or "", adapter="", rival=ALONE),
        inputs=[model],
    )
    page.on(adapter.input, choose_adapter, inputs=[adapter])
    page.on(rival.input, lambda chat, name: replace(chat, rival=name), inputs=[rival])
    page.on(bits.input, lambda chat, chosen: replace(chat, bits=int(chosen)), inputs=[bits])
    page.on(engine.input, lambda chat, chosen: replace(chat, engine=chosen or STUDIO), inputs=[engine])
    page.panel("server", render_server, act_server)


def choose_adapter(chat: ChatState, name: str) -> ChatState:
    """Choose the adapter that answers from now on."""
    SERVER.choose(name or "")
    return replace(chat, adapter=name or ALONE)


def act_server(chat: ChatState, data: dict[str, Any]) -> ChatState:
    """Load what is chosen, or unload."""
    try:
        if data.get("act") == "unload":
            CONVERSATIONS.stop_all()
            SERVER.stop()
        elif data.get("act") in ("load", "load-anyway"):
            beside = data["act"] == "load-anyway"
            load(chosen_model(chat), chosen_adapter(chat), how_to_serve(chat), beside_run=beside)
        elif data.get("act") == "export-native":
            export_and_load(chat)
    except StudioError as error:
        return replace(chat, problem=error)
    return replace(chat, problem=None)


def how_to_serve(chat: ChatState) -> HowToServe:
    """What the dropdowns of the engine and the weights say."""
    engine, _, cards = chosen_engine(chat).partition(":")
    return HowToServe(engine, chat.bits if engine == STUDIO else 16, device=cards)


def export_and_load(chat: ChatState) -> None:
    """Write the model for transformers, which takes a while, and load it then."""
    model, adapter, how = chosen_model(chat), chosen_adapter(chat), how_to_serve(chat)

    def do(_: BackgroundTask) -> None:
        export_model(model, NATIVE, free_folder(Path(model).name, NATIVE))
        load(model, adapter, how)

    TASKS.start(model, NATIVE, do)


def load(model: str, adapter: str, how: HowToServe | None = None, *, beside_run: bool = False) -> None:
    """Load a model, and the result of a run on top of it. Raises StudioError; where a run trains on the same device,
    it is an error, too, unless somebody knows (`beside_run`)."""
    if not model:
        raise StudioError("ui.chat.no_model")
    split = how is not None and how.engine == VLLM
    if not beside_run and (run := run_on(devices.choose(how.device) if how and split else chat_device())):
        raise StudioError("ui.chat.training_there", name=run.name)
    CONVERSATIONS.stop_all()
    SERVER.start(model, [adapter] if adapter else [], how)
    clear_caches()


def port_for(chat: ChatState) -> int:
    """The port of the model server. Raises StudioError if what is chosen is not loaded."""
    state = server_state()
    if state.state != "ready":
        raise StudioError("ui.chat.still_loading" if state.state == "loading" else "ui.chat.not_loaded")
    if state.model != chosen_model(chat):
        raise StudioError("ui.chat.other_loaded")
    return state.port


@cached(2.0)
def server_state() -> ServerState:
    """What is really loaded."""
    return SERVER.current()


@cached(2.0)
def loaded() -> dict[str, LoadedModel]:
    """All that the model server serves, by name; empty while it serves nothing."""
    if server_state().state != "ready":
        return {}
    try:
        return {each.id: each for each in SERVER.loaded()}
    except StudioError:
        return {}


def model_choices(lang: str, chat: ChatState) -> dict[str, Any]:
    """The models that can be loaded."""
    names = [(literal(model.title), model.name) for model in models() if model.ready]
    names += [(literal(_short(each)), each) for each in picked(chat).tuned]
    return {"label": say(lang, "ui.chat.model"), "choices": names, "value": chosen_model(chat) or None}


def adapter_choices(lang: str, chat: ChatState) -> dict[str, Any]:
    """No adapter, or one of the finished runs of the chosen model."""
    return {
        "label": say(lang, "ui.chat.adapter"),
        "choices": _choices(chat, say(lang, "ui.chat.no_adapter")),
        "value": chosen_adapter(chat),
    }


def rival_choices(lang: str, chat: ChatState) -> dict[str, Any]:
    """Nothing, the base, or another result of the chosen model, to be asked beside the chosen one."""
    chosen = chosen_adapter(chat)
    names = [(words, name) for words, name in _choices(chat, say(lang, "ui.chat.base")) if name != chosen]
    return {
        "label": say(lang, "ui.chat.rival"),
        "choices": [(say(lang, "ui.chat.no_rival"), ALONE), *names],
        "value": chosen_rival(chat),
    }


def bits_choices(lang: str, chat: ChatState) -> dict[str, Any]:
    """How the weights are stored."""
    names = [(say(lang, f"ui.chat.bits_{bits}"), bits) for bits in BITS]
    return {"label": say(lang, "ui.chat.bits"), "choices": names, "value": chat.bits}


def engine_choices(lang: str, chat: ChatState) -> dict[str, Any]:
    """The studio, or vLLM where it is installed: on one GPU, or split over all of them."""
    names = [(say(lang, "ui.chat.engine_studio"), STUDIO)]
    if _vllm_here():
        names.append((say(lang, "ui.chat.engine_vllm"), VLLM))
        if (count := len(CHECKUP.gpus())) > 1:
            names.append((say(lang, "ui.chat.engine_vllm_all", n=count), f"{VLLM}:all"))
    return {
        "label": say(lang, "ui.chat.engine"),
        "choices": names,
        "value": chosen_engine(chat),
        "visible": len(names) > 1,
    }


def chosen_engine(chat: ChatState) -> str:
    """What was chosen; else what the loaded model runs on."""
    state = server_state()
    wanted = chat.engine or (state.engine if state.state != "absent" else STUDIO)
    return wanted if wanted in (STUDIO, VLLM, f"{VLLM}:all") and _vllm_here() else STUDIO


@cached(5.0)
def _vllm_here() -> bool:
    return has_vllm()


def render_server(lang: str, chat: ChatState) -> Html:
    """What is loaded, by the tensors in use, and the button that changes it."""
    state = server_state()
    wanted = how_to_serve(chat)
    same = (state.model, state.bits, state.engine) == (chosen_model(chat), wanted.bits, wanted.engine)
    exporting = TASKS.get(chosen_model(chat), NATIVE)
    look = {"absent": "waiting", "loading": "running", "ready": "good", "failed": "bad"}[state.state]
    words = _loaded_words(lang, chat, state)
    buttons: list[Html] = []
    if state.state in ("absent", "failed") or not same:
        buttons.append(button("load", say(lang, "ui.chat.load"), look="primary"))
    if chat.problem and chat.problem.key == "ui.chat.training_there":
        buttons = [button("load-anyway", say(lang, "ui.chat.load_anyway"))]
    if chat.problem and chat.problem.key == "chat.vllm.not_exported":
        buttons = [button("export-native", say(lang, "ui.chat.export_native"), look="primary")]
    if exporting is not None and exporting.running:
        buttons, words = [], say(lang, "ui.chat.exporting_native", what=_title(chosen_model(chat)))
        look = "running"
    if state.state in ("ready", "loading"):
        buttons.append(button("unload", say(lang, "ui.chat.unload")))
    problems = [state.problem] if state.problem else _gone(chat)
    problems += [exporting.problem] if exporting is not None and exporting.problem else []
    rows = [tag("<dt>{name}</dt><dd>{about}</dd>", name=each.id, about=about(lang, each)) for each in loaded().values()]
    return tag(
        '<div class="gs-stack" data-keep="chat" data-kept="{kept}"><div>{chip}</div>{busy}{problems}'
        '<dl class="gs-facts gs-loaded">{rows}</dl>'
        '<div class="gs-row">{buttons}</div></div>',
        kept=kept_text(chat),
        chip=chip(look, words),
        busy=busy(words) if look == "running" else "",
        problems=[problem(lang, each) for each in problems],
        rows=rows,
        buttons=buttons,
    )


def _gone(chat: ChatState) -> list[StudioError]:
    """What was chosen and is not there any more, and what stands in its place: no picker falls back unsaid."""
    now = picked(chat)
    if chat.model and chat.model != now.model:
        other = _title(now.model) if now.model else "–"
        return [StudioError("ui.chat.model_gone", name=_short(chat.model), other=other)]
    if chat.adapter not in ("", ALONE, now.adapter):
        return [StudioError("ui.chat.adapter_gone", name=_short(chat.adapter))]
    if chat.rival not in ("", ALONE, now.rival) and chat.rival != now.adapter:
        return [StudioError("ui.chat.rival_gone", name=_short(chat.rival))]
    return []


def _loaded_words(lang: str, chat: ChatState, state: ServerState) -> str:
    """Who answers the next question if what is chosen is loaded; else what is loaded."""
    if state.state == "ready" and state.model == chosen_model(chat):
        named = [_title(state.model), *([_short(adapter)] if (adapter := chosen_adapter(chat)) else [])]
        return say(lang, "ui.chat.server_answers", what=" + ".join(named))
    named = [_title(state.model), *map(_short, state.adapters)]
    return say(lang, f"ui.chat.server_{state.state}", what=" + ".join(named))


def render_command(lang: str, chat: ChatState) -> Html:
    """The same conversation in the terminal."""
    command = ["python", "launcher.py", "chat", "--model", chosen_model(chat)]
    if adapter := chosen_adapter(chat):
        command += ["--adapter", adapter]
    if (engine := how_to_serve(chat).engine) != STUDIO:
        command += ["--engine", engine]
    return terminal(lang, shlex.join(command), key="chat")


@dataclass(frozen=True)
class Picked:
    """What the dropdowns offer and show: whole models that runs made, what may be put on the `model` ("" is none), with
    titles; the `adapter` on it ("" is the base), and the `rival` beside it (`ALONE`: nothing)."""

    tuned: list[str]
    adapters: list[tuple[str, str]]
    model: str
    adapter: str
    rival: str


@cached(0.5, lambda chat: (chat.model, chat.adapter, chat.rival))
def picked(chat: ChatState) -> Picked:
    """Cached for a tick, for every part of the page that names a model."""
    state, used, tuned = server_state(), model_in_use(), _tuned_models(chat)
    names = [*(model.name for model in models() if model.ready), *tuned]
    loaded_one = state.model if state.state != "absent" else None
    wanted = (chat.model, loaded_one, used.name if used else None)
    model = next((name for name in wanted if name in names), names[0] if names else "")
    adapters = _adapters(model, chat)
    said = chat.adapter if chat.model or chat.adapter else state.chosen if loaded_one == model else ""
    adapter = said if said in adapters else ""
    beside = chat.rival in ("", *adapters) and chat.rival != adapter
    listed = [(literal(_short(name)), name) for name in adapters]
    return Picked(tuned, listed, model, adapter, chat.rival if beside else ALONE)


def chosen_model(chat: ChatState) -> str:
    """The chosen model; "" if there is none."""
    return picked(chat).model


def chosen_adapter(chat: ChatState) -> str:
    """The run or folder that is put on the model; "" is the base."""
    return picked(chat).adapter


def chosen_rival(chat: ChatState) -> str:
    """What is asked beside the chosen one; `ALONE` for nothing."""
    return picked(chat).rival


def asked_models(chat: ChatState) -> list[str]:
    """The adapters that a question goes to: the chosen one, and what it is compared with."""
    rival = chosen_rival(chat)
    return [chosen_adapter(chat)] if rival == ALONE else [rival, chosen_adapter(chat)]


def _choices(chat: ChatState, base: str) -> list[tuple[str, str]]:
    """The base under that name, and each result of the chosen model."""
    return [(base, ""), *picked(chat).adapters]


def _adapters(model: str, chat: ChatState) -> list[str]:
    """The runs that tuned the model, the checkpoints of the chosen one, and those that are loaded."""
    found = [known.name for known in newest_first() if known.model == model and known.has_result and not known.whole]
    state = server_state()
    named = {chat.adapter, chat.rival, state.chosen, *state.adapters, *_checkpoints(chat.adapter)}
    older = [each for each in found[_MOST_OFFERED:] if each in named]  # who wants another one finds it among the runs
    return [*found[:_MOST_OFFERED], *older, *sorted(each for each in named - {*found} if _is_ours(each))]


def _checkpoints(adapter: str) -> list[str]:
    """The whole checkpoints of the run that an adapter belongs to: any two of them can be compared."""
    name = Path(adapter).relative_to(paths().runs).parts[0] if _is_ours(adapter) else adapter
    run = next((known.run for known in newest_first() if known.name == name), None)
    found = list_checkpoints(run.path / RunFiles.CHECKPOINTS) if run is not None else []
    return [str(each.path) for each in found if each.whole]


def _tuned_models(chat: ChatState) -> list[str]:
    """Whole models that runs made: those that are loaded or that a run's button named, and every finished one."""
    results = [str(known.run.result) for known in newest_first() if known.whole]
    return results + sorted({each for each in (chat.model, server_state().model) if _is_ours(each)} - {*results})


def _is_ours(path: str) -> bool:
    """Whether it is a folder inside a run: results and checkpoints are loaded from nowhere else."""
    return os.path.isabs(path) and Path(path).is_relative_to(paths().runs)  # noqa: PTH117  asked for each of thousands


def _short(name: str) -> str:
    """The display name of a result or checkpoint of a run."""
    return " · ".join(Path(name).relative_to(paths().runs).parts) if _is_ours(name) else name


def _title(name: str) -> str:
    return next((each.title for each in models() if each.name == name), _short(name))
