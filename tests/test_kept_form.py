"""The form that a browser keeps: it comes back whole, and nothing that a browser could bring is trusted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from glmstudio.config.presets import load_preset, save_preset
from glmstudio.ui.finetune import finetune_step, start_bar
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.shell import page
from glmstudio.ui.state.kept_form import bring_back, keep
from glmstudio.ui.state.page_state import FinetuneState
from tests.hostile_text import HOSTILE, harmless


def test_a_form_comes_back_as_it_was(home: Path, tmp_path: Path) -> None:
    data = tmp_path / "数据.jsonl"
    data.write_text("{}")
    form = FinetuneState(
        source="file", data=str(data), preset="demo/lora", name="我的 1", changes=(("steps", "7"), ("device", "cpu"))
    )
    back = replace(form, picked=True)
    assert bring_back(keep(form)) == back
    assert page.arrive({"form": keep(form)}).finetune == back
    assert keep(FinetuneState()) == ""
    assert bring_back("") == FinetuneState()


def test_what_is_gone_is_left_out_and_named_until_something_is_changed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "gone.jsonl"
    data.write_text("{}")
    save_preset("mine", load_preset("demo/lora").settings)
    form = FinetuneState(source="file", data=str(data), preset="mine", name="x", changes=(("steps", "7"),))
    kept, other = keep(form), keep(FinetuneState(preset="demo/lora", changes=(("device", "GPU-5"), ("steps", "8"))))
    data.unlink()
    (home / "presets/mine.toml").unlink()
    back = bring_back(kept)
    assert (back.source, back.data, back.preset, back.name, back.changes) == ("file", "", "", "x", ())
    clear_caches()
    said = {lang: start_bar.render_bar(lang, back) for lang in ("en", "zh")}
    assert f"the file or folder “{data}” is no longer there" in said["en"]
    assert "there is no preset “mine” any more" in said["en"]
    assert f"文件或文件夹“{data}”已经不在了" in said["zh"]
    assert finetune_step.remember_form(back, "file", "", "x").gone == back.gone, "the page's own echo changes nothing"
    assert finetune_step.remember_form(back, "file", "", "y").gone == ()

    device = bring_back(other)
    assert device.changes == (("steps", "8"),)
    assert "the setting “device” cannot be used" in start_bar.render_bar("en", device)
    monkeypatch.setenv("GLMSTUDIO_HOME", str(tmp_path / "another"))
    assert bring_back(other) == FinetuneState(), "another studio had this address before"


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["demo/lora", "steps", HOSTILE]),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=9), each, max_size=3),
    max_leaves=6,
)
forms = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("source", "data", "preset", "name"), values)
    | {"changes": values | st.dictionaries(st.sampled_from(["steps", "device", "model", HOSTILE]), values, max_size=3)},
)


@example({"preset": "../../etc/passwd", "data": "\ud800", "source": "file", "changes": {"steps": "9" * 5000}})
@example(
    {"data": "~nobody-here/x", "source": "file", "name": HOSTILE, "preset": HOSTILE, "changes": {HOSTILE: HOSTILE}}
)
@example({"data": "/etc/" + "x" * 5000, "source": "facts", "changes": {"device": [1], "data": {"a": 1}}})
@given(forms)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_browser_brings_gives_a_form_that_can_be_drawn(home: Path, told: dict[str, Any]) -> None:
    mark = json.loads(keep(FinetuneState(name="x")))["home"]
    form = bring_back(json.dumps(told | {"home": mark}))
    assert bring_back(keep(form)).changes == form.changes
    if form.preset:
        load_preset(form.preset)
    clear_caches()
    assert harmless(start_bar.render_bar("en", form))


@pytest.mark.parametrize("text", ["[", "[]", "null", '"x"', "[" * 100_000, "x" * 100_000, "{}", '{"home": 5}'])
def test_what_is_no_form_is_none(home: Path, text: str) -> None:
    assert bring_back(text) == FinetuneState()
