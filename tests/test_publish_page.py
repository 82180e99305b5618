"""Publishing from the page, which asks twice; and LoRA in place of a prefix, which one click sets up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from glmstudio.config.presets import find_preset, list_presets, with_lora_beside
from glmstudio.files import write_json
from glmstudio.paths import paths
from glmstudio.rundir.run import Run
from glmstudio.runs.publishing.publish_run import Publication
from glmstudio.ui.finetune import form_actions
from glmstudio.ui.finetune.preset_cards import render_presets
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.runs import publish_view, run_actions
from glmstudio.ui.runs.after_view import render_after
from glmstudio.ui.runs.runs_view import render_open
from glmstudio.ui.state.page_state import FinetuneState, PageState, RunsState
from glmstudio.ui.state.runwatch import newest_first
from tests.waiting import until

TYPED = {"hub": "modelscope", "repo": "me/my-glm", "form": "peft", "seen": "private"}


def a_run(home: Path, method: str = "lora", preset: str = "demo/lora") -> Run:
    folder = paths().runs / "mine"
    (folder / "result").mkdir(parents=True)
    data = home / "data.jsonl"
    data.write_text('{"conversations": []}\n')
    settings = {"model": "demo", "method": method, "data": str(data)}
    write_json(folder / "run.json", {"settings": settings, "preset": preset, "created": 1.0})
    write_json(folder / "status.json", {"state": "finished"})
    write_json(folder / "result" / "adapter.json", {"base": "demo"})
    clear_caches()
    return Run("mine", folder)


def press(state: PageState, act: str, **fields: str) -> PageState:
    return run_actions.act(state, {"act": act, "run": "mine", "fields": fields})


@pytest.mark.parametrize(
    ("lang", "question", "yes"),
    [
        ("en", "Publish mine at ModelScope as me/my-glm, private? PEFT adapter.", "Publish privately"),
        ("zh", "把 mine 以私有方式发布到 ModelScope 的 me/my-glm？格式：PEFT 适配器。", "以私有方式发布"),
    ],
)
def test_what_where_and_for_whom_is_asked_before_anything_is_sent(
    home: Path, monkeypatch: pytest.MonkeyPatch, lang: str, question: str, yes: str
) -> None:
    run = a_run(home)
    sent: list[Publication] = []
    monkeypatch.setattr(publish_view, "publish_run", lambda _, asked: sent.append(asked) or "http://hub/me/my-glm")
    state = press(PageState(), "publish", **TYPED)  # nobody was asked yet
    assert sent == []
    state = press(state, "publish-ask", **TYPED)
    drawn = render_open(lang, state.runs)
    assert question in drawn
    assert f'data-act="publish" data-run="{run.name}">{yes}<' in drawn
    assert 'data-act="publish-ask"' not in drawn
    dropped = press(state, "publish-drop")
    assert (dropped.runs.publication, 'data-act="publish-ask"' in render_open(lang, dropped.runs)) == (None, True)
    state = press(state, "publish")
    until(lambda: sent == [Publication("modelscope", "me/my-glm", "peft")])
    until(lambda: "http://hub/me/my-glm" in render_open(lang, state.runs))


def test_only_the_word_makes_it_public_and_what_is_wrong_is_said(home: Path) -> None:
    a_run(home)
    for seen, private in (("public", False), ("Public", True), ("", True), ("private", True)):
        asked = press(PageState(), "publish-ask", **TYPED | {"seen": seen}).runs.publication
        assert asked is not None
        assert asked.private is private
    assert "for everybody to see and download?" in render_open(
        "en", press(PageState(), "publish-ask", **TYPED | {"seen": "public"}).runs
    )
    wrong = press(PageState(), "publish-ask", **TYPED | {"repo": "../x"})
    assert wrong.runs.publication is None
    assert "“../x” is not the name of a repository." in render_open("en", wrong.runs)


def test_every_preset_of_a_prefix_has_one_of_lora_beside_it(home: Path) -> None:
    found = {
        preset.name: with_lora_beside(preset.name, preset.model)
        for preset in list_presets()
        if preset.settings.method == "ptuning_v2"
    }
    assert {name: lora.name if lora else None for name, lora in found.items()} == {
        "chatglm3-6b-32k/ptuning_v2": "chatglm3-6b-32k/lora",
        "chatglm3-6b/facts_ptuning": "chatglm3-6b/facts_lora",
        "chatglm3-6b/ptuning_v2": "chatglm3-6b/lora",
        "chatglm3-6b/ptuning_v2_12gb": "chatglm3-6b/lora_12gb",
        "chatglm3-6b/ptuning_v2_16gb": "chatglm3-6b/lora_16gb",
        "chatglm3-6b/ptuning_v2_4cards": "chatglm3-6b/lora_4cards",
        "demo/ptuning_v2": "demo/lora",
        "demo/smoke": "demo/lora",
        "glm-4-9b-0414/ptuning_v2": "glm-4-9b-0414/lora",
        "glm-4-9b-0414/ptuning_v2_12gb": "glm-4-9b-0414/lora_12gb",
        "glm-4-9b-0414/ptuning_v2_16gb": "glm-4-9b-0414/lora_16gb",
        "glm-4-9b-chat/ptuning_v2": "glm-4-9b-chat/lora",
        "glm-4-9b-chat/ptuning_v2_12gb": "glm-4-9b-chat/lora_12gb",
        "glm-4-9b-chat/ptuning_v2_16gb": "glm-4-9b-chat/lora_16gb",
        "glm-edge-1.5b-chat/ptuning_v2": "glm-edge-1.5b-chat/lora",
        "glm-edge-4b-chat/ptuning_v2": "glm-edge-4b-chat/lora",
    }


def test_where_a_prefix_is_chosen_it_says_who_can_use_it_and_offers_lora(home: Path) -> None:
    data = home / "mine.jsonl"
    home.mkdir(exist_ok=True)
    data.write_text("{}\n")
    changes = (("steps", "7"), ("prefix_length", "9"), ("learning_rate", "0.01"), ("device", "cpu"))
    form = FinetuneState(source="file", data=str(data), preset="demo/ptuning_v2", changes=changes)
    assert "vLLM, SGLang and llama.cpp cannot." in render_presets("en", form)
    assert "vLLM、SGLang 和 llama.cpp 不能用。" in render_presets("zh", form)
    lora = form_actions.act(form, {"act": "lora-instead"})
    assert lora == replace(form, preset="demo/lora", changes=(("steps", "7"), ("device", "cpu")))
    assert 'data-act="lora-instead"' not in render_presets("en", lora)
    typed = FinetuneState(preset="demo/lora", changes=(("method", "ptuning_v2"),))
    assert 'data-act="lora-instead"' in render_presets("en", typed)
    assert form_actions.act(typed, {"act": "lora-instead"}).changes == ()


def test_where_a_prefix_is_exported_one_click_sets_up_lora_on_the_same_data(home: Path) -> None:
    run = a_run(home, "ptuning_v2", "demo/ptuning_v2")
    (known,) = newest_first()
    for lang in ("en", "zh"):
        assert 'data-act="lora-instead" data-run="mine" data-go="finetune"' in render_after(lang, known)
    before = PageState(finetune=FinetuneState(preset="demo/full", name="other", changes=(("steps", "3"),)))
    form = press(before, "lora-instead").finetune
    assert (form.source, form.data, form.preset, form.name, form.changes) == ("file", run.data, "demo/lora", "", ())
    assert find_preset("demo/lora").settings.method == "lora"


def test_a_run_of_lora_offers_no_other(home: Path) -> None:
    a_run(home)
    drawn = render_open("en", RunsState(run="mine"))
    assert 'data-act="lora-instead"' not in drawn
    assert 'data-act="publish-ask"' in drawn
