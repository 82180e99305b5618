"""The buttons of the form: what each of them does, and the start itself."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from glmstudio.chat.model_server import ModelServer
from glmstudio.config.devices import cards_of, chat_on
from glmstudio.config.optional_packages import DEEPSPEED, DOCUMENTS
from glmstudio.config.presets import delete_preset, find_preset, save_preset
from glmstudio.config.settings import Settings, change
from glmstudio.doctor.engine.preflight import preflight
from glmstudio.errors import StudioError, refused
from glmstudio.planning.probe import end_probes, start_probe
from glmstudio.runs.start import start as start_asked
from glmstudio.ui.finetune import cluster_form, teach_actions
from glmstudio.ui.framework.live import PageState
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.state.form_state import recipe
from glmstudio.ui.state.runwatch import live_run

_starting = threading.Lock()
_started: dict[tuple[object, ...], tuple[str, float]] = {}
_MOMENT_S = 3.0


def act(view: PageState, data: dict[str, Any]) -> PageState:
    """A button of the form's own parts was pressed; what goes wrong is shown beside Start."""
    try:
        do = _ACTIONS.get(str(data.get("act")))
        return do(view, data) if do else view
    except StudioError as error:
        return replace(view, form_problem=error)
    except OSError as error:
        return replace(view, form_problem=refused(error))


def start(view: PageState, *, unload: bool = False, beside: bool = False) -> PageState:
    """Start the run that the view describes; a second click on the same form within a moment starts nothing."""
    form = (view.source, view.data, view.preset, view.name, view.changes, view.cluster)
    with _starting:
        last = _started.get(form)
        if last and time.monotonic() - last[1] < _MOMENT_S:
            return replace(view, run=last[0])
        try:
            clear_caches()
            run = _started_run(view, unload=unload, beside=beside)
        except StudioError as error:
            return replace(view, form_problem=error)
        _started.clear()
        _started[form] = run, time.monotonic()
    return replace(view, run=run, form_problem=None)


def _started_run(view: PageState, *, unload: bool, beside: bool) -> str:
    found = recipe(view)
    if found.problem:
        raise found.problem
    if found.asked is None:
        raise StudioError("ui.finetune.no_preset")
    end_probes()
    preflight()
    if unload:
        ModelServer.stop()
    return start_asked(found.asked, wait=True, beside_chat=beside).name


def take_typed(view: PageState, typed: str) -> PageState:
    """The view with what stands in the form's fields; `typed` is JSON of the browser. What is wrong is shown."""
    try:
        fields = json.loads(typed or "{}")
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or not fields:
        return view
    try:
        teach_actions.take(fields)
    except StudioError as error:
        return replace(view, form_problem=error)
    fields = {name: value for name, value in fields.items() if not teach_actions.is_mine(str(name))}
    if not fields:
        return view
    if not fields.keys() <= asdict(Settings()).keys():  # the other fields that Start takes along
        return replace(view, form_problem=StudioError("ui.machines.not_taken"))
    changes = dict(view.changes) | {str(name)[:80]: str(value)[:400] for name, value in fields.items()}
    view = _settings(view, {"fields": changes})
    return replace(view, form_problem=view.settings_problem)


def _preset(view: PageState, data: dict[str, Any]) -> PageState:
    return replace(view, preset=str(data.get("preset", "")), changes=(), settings_problem=None, form_problem=None)


def _record(view: PageState, data: dict[str, Any]) -> PageState:
    row = str(data.get("row", ""))
    return replace(view, record=int(row[:9])) if row.isdecimal() else view


def _settings(view: PageState, data: dict[str, Any]) -> PageState:
    """Take over what the settings form says; everything that is wrong is told at once, and nothing taken over."""
    preset, fields = recipe(view).preset, _fields(data)
    if preset is None:
        return view
    try:
        after = change(preset.settings, fields, source="")
    except StudioError as error:
        return replace(view, settings_problem=error)
    kept = {name: fields[name] for name in fields if getattr(after, name) != getattr(preset.settings, name)}
    return replace(view, changes=tuple(kept.items()), settings_problem=None, form_problem=None)


def _reset(view: PageState, _: dict[str, Any]) -> PageState:
    return replace(view, changes=(), settings_problem=None, form_problem=None)


def _policy(view: PageState, data: dict[str, Any]) -> PageState:
    return _changed(view, {"bad_records": data.get("policy")})


def _card(view: PageState, data: dict[str, Any]) -> PageState:
    """Take a card, or leave it; with none left, the studio chooses again."""
    clicked = cards_of(str(data.get("card", "")))
    if not clicked:
        return view
    taken = cards_of(recipe(view).device)
    after = [card for card in taken if card not in clicked] if clicked[0] in taken else [*taken, *clicked]
    named = ",".join(card.uuid for card in sorted(after, key=lambda card: card.index))
    return _changed(view, {"device": named or "auto", "processes": 0})


def _save_preset(view: PageState, data: dict[str, Any]) -> PageState:
    preset = find_preset(view.preset) if view.preset else recipe(view).preset
    if preset is None:
        raise StudioError("ui.finetune.no_preset")
    settings = change(preset.settings, dict(view.changes), source="")
    return replace(view, preset=save_preset(_fields(data).get("preset_name", "").strip(), settings).name, changes=())


def _delete_preset(view: PageState, data: dict[str, Any]) -> PageState:
    delete_preset(str(data.get("preset", "")))
    return replace(view, preset="", changes=())


def _remedy(view: PageState, _: dict[str, Any]) -> PageState:
    plan = recipe(view).plan
    return _changed(view, plan.remedy) if plan else view


def _fewer_steps(view: PageState, _: dict[str, Any]) -> PageState:
    plan = recipe(view).plan
    return _changed(view, {"steps": plan.fewer_steps}) if plan and plan.fewer_steps else view


def _measure(view: PageState, _: dict[str, Any]) -> PageState:
    found = recipe(view)
    if found.plan is None or found.store is None:
        return view
    if running := live_run():
        raise StudioError("runs.device_busy", name=running.name)
    if model := chat_on(found.device):
        raise StudioError("ui.finetune.chat_measures", model=model)
    start_probe(found.plan.settings, found.device, found.store.key)
    return view


def _install(view: PageState, data: dict[str, Any]) -> PageState:
    if data.get("act") == "install-deepspeed":
        DEEPSPEED.install()
    elif data.get("act") == "install-documents":
        DOCUMENTS.install()
    return view


def _changed(view: PageState, values: dict[str, Any]) -> PageState:
    changes = dict(view.changes) | {name: str(value) for name, value in values.items()}
    return replace(view, changes=tuple(changes.items()), form_problem=None)


def _fields(data: dict[str, Any]) -> dict[str, str]:
    fields = data.get("fields")
    return {str(name): str(value) for name, value in fields.items()} if isinstance(fields, dict) else {}


_ACTIONS: dict[str, Callable[[PageState, dict[str, Any]], PageState]] = {
    "preset": _preset,
    "record": _record,
    "settings": _settings,
    "reset": _reset,
    "policy": _policy,
    "save-preset": _save_preset,
    "delete-preset": _delete_preset,
    "remedy": _remedy,
    "fewer-steps": _fewer_steps,
    "measure": _measure,
    "card": _card,
    "install-deepspeed": _install,
    "install-documents": _install,
    "unload-start": lambda view, _: start(view, unload=True),
    "beside-start": lambda view, _: start(view, beside=True),
    **cluster_form.ACTIONS,
}
