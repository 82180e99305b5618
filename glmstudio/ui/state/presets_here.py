"""The presets as this machine can run them: which fit, which is the best of its kind, and how long each takes."""

from __future__ import annotations

from dataclasses import dataclass

from glmstudio.config.devices import CPU
from glmstudio.config.presets import Preset
from glmstudio.errors import StudioError
from glmstudio.planning.memory_fit import PresetFit
from glmstudio.planning.pace import DAY_S, ExpectedTime, Kind, Pace, expected_time, measured_paces
from glmstudio.planning.plan import Plan, in_steps
from glmstudio.ui.framework.ttl_cache import cached
from glmstudio.ui.state.choice import model_in_use
from glmstudio.ui.state.form_state import FormState
from glmstudio.ui.state.preset_list import kind_of, preset_fits, teaches_facts


@dataclass(frozen=True)
class PresetHere:
    """A preset on this machine. `time` is for the data of the form, where they are read."""

    preset: Preset
    fit: PresetFit
    time: ExpectedTime | None

    @property
    def problem(self) -> StudioError | None:
        """Why it is no choice here: it does not fit, or a processor would not finish it in a day."""
        if self.fit.problem or self.time is None or self.time.seconds <= DAY_S:
            return self.fit.problem
        on_cpu = self.fit.place is not None and self.fit.place.device == CPU
        key = "ui.preset.days" if self.time.measured else "ui.preset.days_at_least"
        return StudioError(key, days=self.time.seconds / DAY_S) if on_cpu else None


def presets_here(found: FormState, *, facts: bool) -> tuple[list[PresetHere], list[PresetHere], list[PresetHere]]:
    """The presets for the model in use that fit, the best of each kind, in order; its others; those of other models.

    The one that is chosen is always among the first.
    """
    used = model_in_use()
    model = used.name if used else "demo"
    every = [PresetHere(preset, fitting, _time(found, preset, fitting)) for preset, fitting in preset_fits()]
    every.sort(key=lambda each: (each.problem is not None, facts != teaches_facts(each.preset)))
    best: dict[str, PresetHere] = {}
    for each in every:
        if each.preset.model == model and each.problem is None and teaches_facts(each.preset) == facts:
            best.setdefault(kind_of(each.preset), each)  # they come in the order of what they give up
    chosen = found.preset.name if found.preset else None
    first = [each for each in every if each in best.values() or each.preset.name == chosen]
    rest = [each for each in every if each not in first]
    mine = [each for each in rest if each.preset.model == model]
    return first, mine, [each for each in rest if each.preset.model != model]


def time_here(plan: Plan) -> ExpectedTime | None:
    """How long the planned run takes, as far as this machine has measured anything like it."""
    if plan.seconds is not None:
        return ExpectedTime(plan.seconds, measured=True)
    return expected_time(plan.settings, plan.place.device, plan.shape, plan.tokens, _paces())


def _time(found: FormState, preset: Preset, fitting: PresetFit) -> ExpectedTime | None:
    """For conversations as long as those of the form."""
    if fitting.shape is None or fitting.place is None or found.selection is None:
        return None
    settings, chosen = preset.settings, found.selection
    steps = in_steps(settings, chosen.used, facts=teaches_facts(preset)).steps
    each = min(chosen.tokens / chosen.used, settings.max_length)
    tokens = steps * settings.batch_size * settings.accumulation * each
    return expected_time(settings, fitting.place.device, fitting.shape, tokens, _paces())


@cached(20.0)
def _paces() -> dict[Kind, Pace]:
    return measured_paces()
