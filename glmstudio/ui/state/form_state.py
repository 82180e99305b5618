"""What the form asks for, and what is known of it: settings, data, plan, and what stands in the way.

It is made once a second for all parts of the page that show it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from glmstudio.config.presets import Preset, find_preset
from glmstudio.config.settings import Settings, change
from glmstudio.data import survey
from glmstudio.data.mixture import Mixture
from glmstudio.data.store import Store
from glmstudio.errors import StudioError
from glmstudio.knowledge.table import draft
from glmstudio.paths import SAMPLE
from glmstudio.planning import engines
from glmstudio.planning.resolve import Resolved, RunRequest, resolve
from glmstudio.ui.framework.ttl_cache import cached
from glmstudio.ui.state.choice import model_in_use
from glmstudio.ui.state.own_list import unknown_in
from glmstudio.ui.state.page_state import FinetuneState
from glmstudio.ui.state.preset_list import first_that_fits, presets_in_order, teaches_facts

_FRESH_S = 0.9
_ENGINE_S = 20.0


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


@cached(_FRESH_S, lambda form: (source_of(form), form.data, form.preset, form.name, form.changes, form.cluster))
def read_form(form: FinetuneState) -> FormState:
    """What the form of this page asks for."""
    preset = None
    try:
        preset = _preset(form)
        request = RunRequest(preset, data_of(form), form.name.strip() or None, changes_of(form, preset), form.cluster)
    except StudioError as problem:
        return FormState(preset=preset, problem=problem)
    read = _Survey()
    return FormState(**vars(resolve(request, read, engine_problem=_engine_problem)), preset=preset, look=read.look)


def source_of(form: FinetuneState) -> str:
    """The kind of data: as chosen, or else one's own; for the demo model, its sample."""
    if form.source:
        return form.source
    used = model_in_use()
    return "sample" if used is None or used.kind == "demo" else "file"


def data_of(form: FinetuneState) -> Path:
    """The file or folder that the form names. Raises StudioError where there is none."""
    if source_of(form) == "facts":
        if (facts := draft.saved_file()) is None:
            raise StudioError("ui.teach.none_saved")
        return facts
    if source_of(form) != "file":
        return SAMPLE
    if not form.data.strip():
        raise StudioError("ui.finetune.no_data")
    path = Path(form.data.strip()).expanduser()
    try:
        there = path.exists()
    except (OSError, ValueError):  # too long, a zero byte
        there = False
    if not there:
        raise StudioError("ui.finetune.no_file", path=str(path))
    if (unknown := unknown_in(path)) is not None:
        raise StudioError("ui.own.columns_first", name=unknown.file.name)
    return path


@cached(_ENGINE_S, lambda settings, device: (settings.engine, settings.method, settings.dtype, device))
def _engine_problem(settings: Settings, device: str) -> StudioError | None:
    """What the engine misses here; looked at now and then, for DeepSpeed takes seconds to load."""
    return engines.problem(settings, device)


def _preset(form: FinetuneState) -> Preset:
    if form.preset:
        return find_preset(form.preset)
    first = _for_facts(presets_in_order()) if source_of(form) == "facts" else first_that_fits()
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
    if source_of(form) == "facts" and not form.preset and used is not None and preset.model != used.name:
        changes.setdefault("model", used.name)
    return changes


def settings_of(form: FinetuneState) -> Settings | None:
    """The settings as far as they are right, whatever is said of the data; None where there is no preset."""
    preset = read_form(form).preset
    if preset is None:
        return None
    try:
        return change(preset.settings, changes_of(form, preset), source="")
    except StudioError:
        return preset.settings
