"""What the form asks for, and what is known of it: settings, data, plan, and what stands in the way.

A recipe is made once a second for all parts of the page that show it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

from glmstudio.config.presets import Preset, find_preset, list_presets
from glmstudio.config.settings import Settings, change
from glmstudio.data import survey
from glmstudio.data.mixture import Mixture
from glmstudio.data.store import Store
from glmstudio.errors import StudioError
from glmstudio.knowledge.table import draft
from glmstudio.paths import SAMPLE
from glmstudio.planning import engines
from glmstudio.planning.resolve import Resolved, RunRequest, resolve
from glmstudio.ui.framework.ttl_cache import cached, on_clear
from glmstudio.ui.state.choice import model_in_use
from glmstudio.ui.state.page_state import FinetuneState

_FRESH_S = 0.9
_ENGINE_S = 20.0
_USUAL = ("ptuning_v2", "lora", "full", "smoke")


@dataclass(frozen=True)
class FormState(Resolved):
    """What the form asks for and comes to; `look`: how far the data are read, where they could be looked at."""

    preset: Preset | None = None
    look: survey.SurveyProgress | None = None


class _Survey:
    """Reads data in the background: they are not there until the survey that it starts has read them."""

    look: survey.SurveyProgress | None = None  # at the data; those for the validation are read after them

    def __call__(self, source: Path, model: Path, mixture: Mixture, piece: int) -> Store:
        """The data. Raises StudioError for what is wrong with them, and while they are read."""
        look = survey.look(source, model, mixture, piece)
        self.look = self.look or look
        if look.store is not None:
            return look.store
        if not look.running and look.problem is None:
            survey.start(source, model, mixture, piece)
        raise look.problem or StudioError("ui.finetune.reading", percent=round(look.share * 100))


_lock = threading.Lock()
_engines: dict[tuple[str, ...], tuple[float, StudioError | None]] = {}
_kept: dict[tuple[object, ...], tuple[float, FormState]] = {}


def recipe(form: FinetuneState) -> FormState:
    """What the form of this page asks for."""
    key = (form.source, form.data, form.preset, form.name, form.changes, form.cluster)
    with _lock:
        if key not in _kept or time.monotonic() - _kept[key][0] > _FRESH_S:
            if len(_kept) > 20:
                _kept.clear()
            _kept[key] = (time.monotonic(), _make(form))
        return _kept[key][1]


@cached(3.0)
def presets_in_order() -> list[Preset]:
    """Every preset, those for the model in use first, and of these the usual ones."""
    used = model_in_use()

    def place(preset: Preset) -> tuple[bool, str, bool, int, str]:
        kind = preset.name.rpartition("/")[2]
        usual = next((at for at, name in enumerate(_USUAL) if kind.startswith(name)), len(_USUAL))
        return preset.model != (used.name if used else "demo"), preset.model, preset.own, usual, kind

    return sorted(list_presets(), key=place)


def teaches_facts(preset: Preset) -> bool:
    """Whether it is made for facts."""
    return preset.settings.best_by == "facts"


def data_of(form: FinetuneState) -> Path:
    """The file or folder that the form names. Raises StudioError where there is none."""
    if form.source == "facts":
        if (facts := draft.saved_file()) is None:
            raise StudioError("ui.teach.none_saved")
        return facts
    if form.source != "file":
        return SAMPLE
    if not form.data.strip():
        raise StudioError("ui.finetune.no_data")
    path = Path(form.data.strip()).expanduser()
    try:
        if path.exists():
            return path
    except (OSError, ValueError):  # too long, a zero byte
        pass
    raise StudioError("ui.finetune.no_file", path=str(path))


def _make(form: FinetuneState) -> FormState:
    preset = None
    try:
        preset = _preset(form)
        request = RunRequest(preset, data_of(form), form.name.strip() or None, changes_of(form, preset), form.cluster)
    except StudioError as problem:
        return FormState(preset=preset, problem=problem)
    read = _Survey()
    return FormState(**vars(resolve(request, read, engine_problem=_engine_problem)), preset=preset, look=read.look)


def _engine_problem(settings: Settings, device: str) -> StudioError | None:
    """What the engine misses here; looked at now and then, for DeepSpeed takes seconds to load."""
    key = (settings.engine, settings.method, settings.dtype, device)
    if key not in _engines or time.monotonic() - _engines[key][0] > _ENGINE_S:
        _engines[key] = time.monotonic(), engines.problem(settings, device)
    return _engines[key][1]


def _preset(form: FinetuneState) -> Preset:
    if form.preset:
        return find_preset(form.preset)
    every = presets_in_order()
    first = _for_facts(every) if form.source == "facts" else next(iter(every), None)
    if first is None:
        raise StudioError("ui.finetune.no_preset")
    return first


def _for_facts(every: list[Preset]) -> Preset | None:
    """The preset that teaches facts to the model in use; of another size of the same family where it has none."""
    used = model_in_use()
    teaching = [preset for preset in every if not preset.own and teaches_facts(preset)]
    demo = used is None or used.kind == "demo"
    mine = [preset for preset in teaching if (preset.model == "demo") == demo]
    mine.sort(key=lambda preset: used is not None and preset.model != used.name)
    return next(iter(mine), next(iter(every), None))


def changes_of(form: FinetuneState, preset: Preset) -> dict[str, str]:
    """What the page changed of the preset's settings. Facts are taught to the model in use where nobody chose."""
    changes, used = dict(form.changes), model_in_use()
    if form.source == "facts" and not form.preset and used is not None and preset.model != used.name:
        changes.setdefault("model", used.name)
    return changes


def settings_of(form: FinetuneState) -> Settings | None:
    """The settings as far as they are right, whatever is said of the data; None where there is no preset."""
    preset = recipe(form).preset
    if preset is None:
        return None
    try:
        return change(preset.settings, changes_of(form, preset), source="")
    except StudioError:
        return preset.settings


def _drop() -> None:
    with _lock:
        _kept.clear()
        _engines.clear()


on_clear(_drop)
