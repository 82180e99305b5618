"""LoRA in place of P-Tuning v2, on the same data: a prefix has no place in other engines, so the page offers it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from glmstudio.config.presets import Preset, with_lora_beside
from glmstudio.rundir.run import Run
from glmstudio.ui.state.own_list import choose
from glmstudio.ui.state.page_state import FinetuneState

PREFIX = "ptuning_v2"
_OF_THE_METHOD = ("method", "learning_rate", "warm_start")  # settings that mean another thing with LoRA


def learns_prefix(form: FinetuneState, preset: Preset | None) -> bool:
    """Whether the form describes a prefix."""
    return preset is not None and dict(form.changes).get("method", preset.settings.method) == PREFIX


def with_lora(form: FinetuneState, preset: Preset) -> FinetuneState:
    """The form with LoRA: the same data, and the settings that have the same meaning."""
    lora = preset if preset.settings.method == "lora" else with_lora_beside(preset.name, preset.model)
    if lora is None:
        return form
    changes = tuple(
        (name, value) for name, value in form.changes if name not in _OF_THE_METHOD and not name.startswith("prefix_")
    )
    return replace(form, preset=lora.name, changes=changes, settings_problem=None, form_problem=None)


def again_with_lora(form: FinetuneState, run: Run) -> FinetuneState:
    """The form for the data of a run, and LoRA."""
    lora = with_lora_beside(str(run.record.preset or ""), run.model)
    if lora is None:
        return form
    form = replace(choose(form, Path(run.data)), preset=lora.name, name="", settings_problem=None)
    other = () if lora.model == run.model else (("model", run.model),)
    return replace(form, changes=other)
