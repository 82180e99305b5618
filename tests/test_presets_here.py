"""The presets as the page offers them on this machine: what fits, in which order, and how long it takes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from glmstudio.config import devices
from glmstudio.config.devices import Card
from glmstudio.config.presets import list_presets, load_preset
from glmstudio.files import write_json
from glmstudio.planning.pace import expected_time, measured_paces
from glmstudio.planning.plan import make_plan
from glmstudio.ui.finetune import start_bar
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.state import preset_list, presets_here
from glmstudio.ui.state.form_state import FormState, read_form, source_of
from glmstudio.ui.state.page_state import FinetuneState
from tests.waiting import until

SIX_B = SimpleNamespace(name="chatglm3-6b", kind="model", ready=True)


@pytest.fixture
def six_b(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ChatGLM3-6B is in use."""
    for module in (preset_list, presets_here):
        monkeypatch.setattr(module, "model_in_use", lambda: SIX_B)
    monkeypatch.setattr("glmstudio.ui.state.form_state.model_in_use", lambda: SIX_B)
    clear_caches()


def gpus(monkeypatch: pytest.MonkeyPatch, number: int, gib: float) -> None:
    free = round(gib * 1024)
    monkeypatch.setattr(devices, "cards", lambda: [Card(f"GPU-{n}", n, "a card", free, free) for n in range(number)])
    clear_caches()


def names(found: list[presets_here.PresetHere]) -> list[str]:
    return [each.preset.name.partition("/")[2] for each in found]


def of_length(tokens: int) -> FormState:
    """A form whose thousand conversations are so long."""
    selection: Any = SimpleNamespace(tokens=1000 * tokens, used=1000)
    return FormState(selection=selection)


@pytest.mark.parametrize(
    ("number", "gib", "offered"),
    [
        (1, 23.5, ["ptuning_v2", "lora", "smoke"]),
        (1, 15.7, ["ptuning_v2", "lora", "smoke"]),
        (1, 11.8, ["ptuning_v2_12gb", "lora_12gb"]),
        (4, 23.5, ["ptuning_v2", "ptuning_v2_4cards", "lora", "lora_4cards", "smoke"]),
    ],
)
def test_of_each_kind_the_best_that_fits_is_offered_and_the_first_is_chosen(
    six_b: None, monkeypatch: pytest.MonkeyPatch, number: int, gib: float, offered: list[str]
) -> None:
    gpus(monkeypatch, number, gib)
    first, more, others = presets_here.presets_here(of_length(1000), facts=False)
    assert names(first) == offered
    assert len(first) + len(more) == 15
    assert {each.preset.model for each in others} == {each.model for each in list_presets()} - {"chatglm3-6b"}
    chosen = preset_list.first_that_fits()
    assert chosen is not None
    assert (chosen.name, chosen.name in {each.preset.name for each in first}) == (first[0].preset.name, True)


def test_what_a_processor_does_not_finish_in_a_day_is_not_offered(six_b: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cards", list)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=256 << 30, available=250 << 30))
    monkeypatch.setattr("glmstudio.planning.pace.cores", lambda: 8)
    clear_caches()
    first, more, _ = presets_here.presets_here(of_length(1000), facts=False)
    assert "lora" not in names(first)
    lora = next(each for each in more if each.preset.name == "chatglm3-6b/lora")
    assert lora.fit.problem is None, "its memory is here"
    assert lora.problem is not None
    assert lora.problem.key == "ui.preset.days_at_least"
    assert "smoke" in names(first), "twenty steps are no days"
    short = presets_here.presets_here(of_length(30), facts=False)[0]
    assert "lora" in names(short), "of short conversations it would"


def test_the_time_is_what_this_machine_measured_or_is_not_said(home: Path) -> None:
    form = FinetuneState(preset="demo/ptuning_v2")
    until(lambda: (clear_caches(), read_form(form).plan)[1])
    plan = read_form(form).plan
    assert plan is not None
    silent = presets_here.time_here(plan)
    assert silent is not None
    assert not silent.measured
    assert start_bar.takes("en", silent) == ""
    assert "measured" not in start_bar.render_bar("en", form)

    folder, settings = home / "runs/before", dataclasses.asdict(plan.settings)
    write_json(folder / "run.json", {"run_id": "a", "settings": settings, "device": "cpu", "created": 1.0})
    rows = [{"step": step, "tokens": 800, "tokens_per_second": 10.0 if step == 1 else 400.0} for step in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    clear_caches()
    known = presets_here.time_here(plan)
    assert known is not None
    assert (known.measured, known.seconds) == (True, pytest.approx(plan.tokens / 400))
    assert "measured here" in start_bar.render_bar("en", form)
    assert "本机实测" in start_bar.render_bar("zh", form)
    other = dataclasses.replace(plan.settings, method="lora")
    unknown = expected_time(other, "cpu", plan.shape, plan.tokens, measured_paces())
    assert unknown is not None
    assert not unknown.measured, "another method has another speed"


def test_no_preset_promises_minutes_of_another_machine() -> None:
    for preset in ("demo/ptuning_v2", "chatglm3-6b/smoke"):
        for lang, word in (("en", "minutes"), ("zh", "分钟")):
            assert word not in load_preset(preset).about(lang)


def test_with_a_real_model_in_use_the_sample_of_the_demo_is_not_the_data(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert source_of(FinetuneState()) == "sample"
    monkeypatch.setattr("glmstudio.ui.state.form_state.model_in_use", lambda: SIX_B)
    assert source_of(FinetuneState()) == "file"
    assert source_of(FinetuneState(source="sample")) == "sample", "who asks for it gets it"


def test_a_plan_counts_the_tokens_of_all_steps(home: Path) -> None:
    form = FinetuneState(preset="demo/smoke")
    until(lambda: (clear_caches(), read_form(form).plan)[1])
    found = read_form(form)
    assert found.plan is not None
    assert found.data is not None
    assert found.selection is not None
    again = make_plan(
        dataclasses.replace(found.plan.settings, steps=120), found.plan.place, found.data, found.selection
    )
    assert again.tokens == pytest.approx(2 * found.plan.tokens, rel=1e-3)
