"""The buttons of the form: what each of them does, and the start itself."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from glmstudio.chat.model_server import ModelServer
from glmstudio.config.devices import cards_of
from glmstudio.config.optional_packages import DEEPSPEED, DOCUMENTS
from glmstudio.config.presets import delete_preset, find_preset, save_preset
from glmstudio.config.settings import Settings, change
from glmstudio.doctor.preflight import preflight
from glmstudio.errors import StudioError, refused
from glmstudio.planning.probe import end_probes, start_probe
from glmstudio.rundir.occupancy import chat_on
from glmstudio.runs.start import start as start_asked
from glmstudio.ui.finetune import cluster_form, teach_actions
from glmstudio.ui.finetune.own import own_actions
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.state.form_state import FormState, read_form, source_of
from glmstudio.ui.state.lora_instead import with_lora
from glmstudio.ui.state.page_state import FinetuneState, PageState
from glmstudio.ui.state.runwatch import live_run

_starting = threading.Lock()
_started: dict[tuple[object, ...], tuple[str, float]] = {}
_MOMENT_S = 3.0
_READING_S, _LOOK_S = 60.0, 0.2


def act(form: FinetuneState, data: dict[str, Any]) -> FinetuneState:
    """A button of the form's own parts was pressed; what goes wrong is shown beside Start."""
    try:
        do = _ACTIONS.get(str(data.get("act")))
        return do(form, data) if do else form
    except StudioError as error:
        return replace(form, form_problem=error)
    except OSError as error:
        return replace(form, form_problem=refused(error))


def act_bar(state: PageState, data: dict[str, Any]) -> PageState:
    """A button of the bar; two of them start although a chat holds the GPU: instead of it, or beside it."""
    if data.get("act") in ("unload-start", "beside-start"):
        return start(state, unload=data["act"] == "unload-start", beside=data["act"] == "beside-start")
    return replace(state, finetune=act(state.finetune, data))


def start(state: PageState, *, unload: bool = False, beside: bool = False) -> PageState:
    """Start the run that the form describes; a second click on the same form within a moment starts nothing."""
    form = state.finetune
    key = (source_of(form), form.data, form.preset, form.name, form.changes, form.cluster)
    with _starting:
        last = _started.get(key)
        if last and time.monotonic() - last[1] < _MOMENT_S:
            return _opened(state, last[0])
        try:
            clear_caches()
            run = _started_run(form, unload=unload, beside=beside)
        except StudioError as error:
            return replace(state, finetune=replace(form, form_problem=error))
        _started.clear()
        _started[key] = run, time.monotonic()
    return _opened(state, run)


def _opened(state: PageState, run: str) -> PageState:
    form = replace(state.finetune, form_problem=None, started=run)
    return replace(state, runs=replace(state.runs, run=run), finetune=form)


def _started_run(form: FinetuneState, *, unload: bool, beside: bool) -> str:
    found = _read_to_the_end(form)
    if found.problem:
        raise found.problem
    if found.request is None:
        raise StudioError("ui.finetune.no_preset")
    end_probes()
    preflight()
    if unload:
        ModelServer.stop()
    return start_asked(found.request, wait=True, beside_chat=beside).name


def _read_to_the_end(form: FinetuneState) -> FormState:
    """The form once its data are read: whoever presses Start a moment too early need not press it again."""
    end = time.monotonic() + _READING_S
    while True:
        found = read_form(form)
        if found.problem is None or found.problem.key != "ui.finetune.reading" or time.monotonic() > end:
            return found
        time.sleep(_LOOK_S)
        clear_caches()


def take_typed(form: FinetuneState, typed: str) -> FinetuneState:
    """The form with what stands in the form's fields; `typed` is JSON of the browser. What is wrong is shown."""
    try:
        fields = json.loads(typed or "{}")
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or not fields:
        return form
    try:
        teach_actions.take(fields)
    except StudioError as error:
        return replace(form, form_problem=error)
    fields = {name: value for name, value in fields.items() if not teach_actions.is_mine(str(name))}
    if rows := {str(name): value for name, value in fields.items() if own_actions.is_mine(str(name))}:
        return own_actions.save_typed(form, rows)
    if not fields:
        return form
    if not fields.keys() <= asdict(Settings()).keys():  # the other fields that Start takes along
        return replace(form, form_problem=StudioError("ui.machines.not_taken"))
    changes = dict(form.changes) | {str(name)[:80]: str(value)[:400] for name, value in fields.items()}
    form = _settings(form, {"fields": changes})
    return replace(form, form_problem=form.settings_problem)


def _preset(form: FinetuneState, data: dict[str, Any]) -> FinetuneState:
    return replace(form, preset=str(data.get("preset", "")), changes=(), settings_problem=None, form_problem=None)


def _record(form: FinetuneState, data: dict[str, Any]) -> FinetuneState:
    row = str(data.get("row", ""))
    return replace(form, record=int(row[:9])) if row.isdecimal() else form


def _settings(form: FinetuneState, data: dict[str, Any]) -> FinetuneState:
    """Take over what the settings form says; everything that is wrong is told at once, and nothing taken over."""
    preset, fields = read_form(form).preset, _fields(data)
    if preset is None:
        return form
    try:
        after = change(preset.settings, fields, source="")
    except StudioError as error:
        return replace(form, settings_problem=error)
    kept = {name: fields[name] for name in fields if getattr(after, name) != getattr(preset.settings, name)}
    return replace(form, changes=tuple(kept.items()), settings_problem=None, form_problem=None)


def _reset(form: FinetuneState, _: dict[str, Any]) -> FinetuneState:
    return replace(form, changes=(), settings_problem=None, form_problem=None)


def _reset_one(form: FinetuneState, data: dict[str, Any]) -> FinetuneState:
    """A setting as in the preset; what else was wrong was not taken over and is told again when it is typed."""
    kept = tuple(pair for pair in form.changes if pair[0] != data.get("setting"))
    return replace(form, changes=kept, settings_problem=None, form_problem=None)


def _policy(form: FinetuneState, data: dict[str, Any]) -> FinetuneState:
    return _changed(form, {"bad_records": data.get("policy")})


def _train_on_all(form: FinetuneState, _: dict[str, Any]) -> FinetuneState:
    return _changed(form, {"validation_auto": False})


def _card(form: FinetuneState, data: dict[str, Any]) -> FinetuneState:
    """Take a GPU, or leave it; with none left, the studio chooses again."""
    clicked = cards_of(str(data.get("card", "")))
    if not clicked:
        return form
    taken = cards_of(read_form(form).device)
    after = [card for card in taken if card not in clicked] if clicked[0] in taken else [*taken, *clicked]
    named = ",".join(card.uuid for card in sorted(after, key=lambda card: card.index))
    return _changed(form, {"device": named or "auto", "processes": 0})


def _save_preset(form: FinetuneState, data: dict[str, Any]) -> FinetuneState:
    preset = find_preset(form.preset) if form.preset else read_form(form).preset
    if preset is None:
        raise StudioError("ui.finetune.no_preset")
    settings = change(preset.settings, dict(form.changes), source="")
    return replace(form, preset=save_preset(_fields(data).get("preset_name", "").strip(), settings).name, changes=())


def _delete_preset(form: FinetuneState, data: dict[str, Any]) -> FinetuneState:
    delete_preset(str(data.get("preset", "")))
    return replace(form, preset="", changes=())


def _remedy(form: FinetuneState, _: dict[str, Any]) -> FinetuneState:
    plan = read_form(form).plan
    return _changed(form, plan.remedy) if plan else form


def _fewer_steps(form: FinetuneState, _: dict[str, Any]) -> FinetuneState:
    plan = read_form(form).plan
    return _changed(form, {"steps": plan.fewer_steps}) if plan and plan.fewer_steps else form


def _share_prompts(form: FinetuneState, _: dict[str, Any]) -> FinetuneState:
    plan = read_form(form).plan
    return _changed(form, {"shared_prompts": plan.sharing.most}) if plan and plan.sharing else form


def _measure(form: FinetuneState, data: dict[str, Any]) -> FinetuneState:
    """Measure a few steps of the plan, or of what it proposes."""
    found = read_form(form)
    if found.plan is None or found.data is None:
        return form
    settings = found.plan.settings
    if data.get("act") == "measure-sharing" and found.plan.sharing and found.plan.sharing.settings:
        settings = found.plan.sharing.settings
    if running := live_run():
        raise StudioError("runs.device_busy", name=running.name)
    if model := chat_on(found.device):
        raise StudioError("ui.finetune.chat_measures", model=model)
    start_probe(settings, found.device, found.data.key)
    return form


def _install(form: FinetuneState, data: dict[str, Any]) -> FinetuneState:
    if data.get("act") == "install-deepspeed":
        DEEPSPEED.install()
    elif data.get("act") == "install-documents":
        DOCUMENTS.install()
    return form


def _changed(form: FinetuneState, values: dict[str, Any]) -> FinetuneState:
    changes = dict(form.changes) | {name: str(value) for name, value in values.items()}
    return replace(form, changes=tuple(changes.items()), form_problem=None)


def _fields(data: dict[str, Any]) -> dict[str, str]:
    fields = data.get("fields")
    return {str(name): str(value) for name, value in fields.items()} if isinstance(fields, dict) else {}


def _lora_instead(form: FinetuneState, _: dict[str, Any]) -> FinetuneState:
    """LoRA in place of P-Tuning v2; the data stay."""
    preset = read_form(form).preset
    return with_lora(form, preset) if preset is not None else form


_ACTIONS: dict[str, Callable[[FinetuneState, dict[str, Any]], FinetuneState]] = {
    "preset": _preset,
    "record": _record,
    "settings": _settings,
    "reset": _reset,
    "reset-one": _reset_one,
    "policy": _policy,
    "train-on-all": _train_on_all,
    "save-preset": _save_preset,
    "delete-preset": _delete_preset,
    "remedy": _remedy,
    "fewer-steps": _fewer_steps,
    "measure": _measure,
    "measure-sharing": _measure,
    "share-prompts": _share_prompts,
    "card": _card,
    "lora-instead": _lora_instead,
    "install-deepspeed": _install,
    "install-documents": _install,
    **cluster_form.ACTIONS,
}
