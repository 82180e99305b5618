"""Adding a model on the page: a folder of this machine at once, an id once a hub was asked for it."""

from __future__ import annotations

from dataclasses import replace

from glmstudio.errors import StudioError
from glmstudio.models import actions, add_folder
from glmstudio.models.catalogue import licence_accepted
from glmstudio.models.hub.id_lookup import add_from_hub, is_known
from glmstudio.models.inventory import InventoryItem
from glmstudio.ui.framework.markup import Html, busy, button, good, problem, tag
from glmstudio.ui.state.background import TASKS, BackgroundTask
from glmstudio.ui.state.choice import items, model_in_use
from glmstudio.ui.state.page_state import ModelState
from glmstudio.words import say

_TASK = "add-model"  # its owner is the id that is asked for


def use_buttons(lang: str, name: str) -> list[Html]:
    """What a model that is ready can be used for; each takes it into use and opens the step."""
    return [button("use", say(lang, f"ui.model.to_{step}"), model=name, go=step) for step in ("finetune", "chat")]


def add_from_path(state: ModelState, path: str) -> tuple[ModelState, str]:
    """Add the folder or hub id that was typed; the box keeps its text if that is refused, or a hub is asked first."""
    state = ModelState()
    try:
        told = actions.typed(path)
        if actions.names_id(told):
            if is_known(told):
                return replace(state, folder_answer=("ui.model.added_id", {"name": add_from_hub(told).name})), ""
            TASKS.start(told, _TASK, lambda _: add_from_hub(told).name)
            return replace(state, asked=told), path
        model = add_folder(told)
        if model.unverified:
            actions.start_verify(model.name)
    except StudioError as error:
        return replace(state, folder_problem=error), path
    return replace(state, folder_answer=("ui.model.added", {"name": model.name})), ""


def render_answer(lang: str, state: ModelState) -> Html:
    """What came of adding a model, or of deleting one that has no card any more; it is brought into view."""
    answer = _answer(lang, state)
    return tag("<div data-in-view>{answer}</div>", answer=answer) if answer else answer


def _answer(lang: str, state: ModelState) -> Html:
    if state.folder_problem:
        return problem(lang, state.folder_problem)
    if state.asked and (task := TASKS.get(state.asked, _TASK)):
        return _asked(lang, state.asked, task)
    if state.folder_answer and not _has_card(state.named):
        key, values = state.folder_answer
        return good(say(lang, key, **values)) if key == "ui.model.deleted" else _added(lang, str(values["name"]))
    return Html("")


def _asked(lang: str, repo: str, task: BackgroundTask) -> Html:
    if task.problem:
        return problem(lang, task.problem)
    if task.running or not isinstance(task.result, str):
        text = say(lang, "ui.model.asking", id=repo)
        return tag('<div role="status" class="gs-stack"><span>{text}</span>{bar}</div>', text=text, bar=busy(text))
    return _added(lang, task.result)


def _added(lang: str, name: str) -> Html:
    """What the model's card says, too, with what can be done next beside it."""
    item = next((each for each in items() if each.name == name), None)
    absent = item is not None and item.state == "absent"
    text = say(lang, "ui.model.added_id" if absent else "ui.model.added", name=name)
    return good(text, _next(lang, item) if item else ())


def _next(lang: str, item: InventoryItem) -> list[Html]:
    if item.state == "absent" and item.entry and licence_accepted(item.entry):
        return [button("download", say(lang, "ui.model.download"), model=item.name)]
    used = model_in_use()
    return use_buttons(lang, item.name) if item.state == "ready" and not (used and used.name == item.name) else []


def _has_card(name: str) -> bool:
    return any(each.name == name for each in items())
