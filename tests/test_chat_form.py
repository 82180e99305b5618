"""A run is asked as it was trained, and what the page names is what answers."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmstudio.chat.available_tools import run_behind, toolless
from glmstudio.chat.conversation import Conversation, from_json
from glmstudio.chat.model_server import HowToServe, ModelServer, ServerState
from glmstudio.errors import StudioError
from glmstudio.files import write_json, write_text
from glmstudio.paths import paths
from glmstudio.rundir.run import Run
from glmstudio.system import process
from glmstudio.ui.chat import chat_empty, chat_model
from glmstudio.ui.chat.chat_tools import act_tools, offers_tools, render_form
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.runs.run_detail import render_records
from glmstudio.ui.state import choice
from glmstudio.ui.state.choice import kept_chat, kept_text
from glmstudio.ui.state.page_state import ChatState
from glmstudio.ui.state.runwatch import newest_first
from tests.waiting import until

FACTS = ChatState(model="demo", adapter="facts")
NAMES = ["model", "adapter", "rival", "bits", "used"]
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=4)


def told(kept: dict[str, Any]) -> str:
    return json.dumps({"used": choice._used()} | kept)


def made(name: str, **records: int) -> Run:
    folder = paths().runs / name
    (folder / "result").mkdir(parents=True)
    write_json(folder / "run.json", {"settings": {"model": "demo", "method": "lora"}, "created": 1.0})
    write_json(folder / "status.json", {"state": "finished"})
    write_json(folder / "result" / "adapter.json", {"base": "demo"})
    if records:
        write_json(folder / "records.json", {"used": 20} | records)
    clear_caches()
    return Run(name, folder)


@pytest.fixture(autouse=True)
def runs(home: Path) -> None:
    made("facts", with_tools=0)
    made("tools", with_tools=3)
    made("old")


def test_a_run_without_tools_is_known_by_name_folder_and_checkpoint(home: Path) -> None:
    folder = paths().runs / "facts"
    for model, adapter in [
        ("demo", "facts"),
        ("demo", str(folder / "result")),
        ("demo", str(folder / "checkpoints" / "checkpoint-4")),
        (str(folder / "result"), ""),
    ]:
        assert toolless(model, adapter) == Run("facts", folder)
    for model, adapter in [("demo", ""), ("facts", ""), ("demo", "tools"), ("demo", "old"), ("demo", "gone"), ("", "")]:
        assert toolless(model, adapter) is None
    assert run_behind("demo", "old") == Run("old", paths().runs / "old")


def test_the_conversation_follows_the_run_until_somebody_says_otherwise(home: Path) -> None:
    assert not offers_tools(FACTS)
    assert offers_tools(replace(FACTS, adapter="tools"))
    assert "“facts” was trained without tools, so it is asked without them." in render_form("en", FACTS)
    assert render_form("en", replace(FACTS, adapter="tools")) == ""
    act_tools(FACTS, {"act": "tools-on"})
    assert offers_tools(FACTS)
    assert "“facts”训练时没有用到工具，而现在提问时带着工具，回答可能远不如它学到的。" in render_form("zh", FACTS)
    act_tools(FACTS, {"act": "tools-trained"})
    assert not offers_tools(FACTS)


@pytest.mark.parametrize("tools", [None, True, False])
def test_the_choice_survives_a_file(tools: bool | None) -> None:
    dialogue = Conversation()
    dialogue.settings.tools = tools
    assert from_json(dialogue.to_json()).settings.tools is tools


@pytest.mark.parametrize("tools", ["yes", 1, [True]])
def test_a_choice_that_is_none_is_refused(tools: Any) -> None:
    told = Conversation().to_json()
    told["settings"]["tools"] = tools
    with pytest.raises(StudioError):
        from_json(told)


def test_a_page_that_is_loaded_anew_names_who_answered_last(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = process.identify(os.getpid())
    assert identity is not None
    about = {"model": "demo", "adapters": ["tools"], "port": 1, "bits": 16, "run_id": "x"}
    write_json(paths().state / "server.json", about | {"identity": identity.to_json()})
    clear_caches()
    assert (ModelServer.current().chosen, chat_model.chosen_adapter(ChatState())) == ("tools", "tools")
    chat_model.choose_adapter(ChatState(), "facts")
    clear_caches()
    assert (ModelServer.current().chosen, chat_model.chosen_adapter(ChatState())) == ("facts", "facts")
    chat_model.choose_adapter(ChatState(), "")
    clear_caches()
    assert chat_model.chosen_adapter(ChatState()) == ""

    ready = replace(ModelServer.current(), state="ready")
    monkeypatch.setattr(chat_model, "server_state", lambda: ready)
    monkeypatch.setattr(chat_model, "loaded", dict)
    shown = chat_model.render_server("en", FACTS)
    assert "Answering: GLM Studio demo + facts" in shown
    assert "+ tools" not in shown
    gone = chat_model.render_server("en", replace(FACTS, adapter="deleted"))
    assert "“deleted” no longer exists. The model answers without it." in gone
    assert "Answering: GLM Studio demo<" in gone


def test_a_picker_never_falls_back_unsaid(home: Path) -> None:
    for chat, said in (
        (ChatState(model="deleted"), "“deleted” is not on this machine any more; “GLM Studio demo” is chosen instead."),
        (ChatState(model="demo", adapter="deleted"), "“deleted” no longer exists. The model answers without it."),
        (replace(FACTS, rival="deleted"), "“deleted”, which was to be compared with, no longer exists."),
    ):
        assert said in chat_model.render_server("en", chat)
    for chat in (
        ChatState(),
        FACTS,
        replace(FACTS, rival=""),
        replace(FACTS, rival="facts"),
        replace(FACTS, adapter="-"),
    ):
        assert "gs-problem" not in chat_model.render_server("en", chat)


def test_what_was_chosen_is_kept_by_the_browser(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = replace(FACTS, rival="tools", bits=8)
    assert kept_chat(kept_text(chosen)) == chosen
    assert kept_text(ChatState()) == ""
    kept = kept_text(chosen)
    monkeypatch.setattr(choice, "model_in_use", lambda: None)  # somebody chose another model in the Model step
    assert kept_chat(kept) == ChatState()


@given(st.one_of(st.none(), st.text(), st.dictionaries(st.sampled_from(NAMES), JSON).map(told)))
def test_a_browser_may_say_anything(text: Any) -> None:
    chat = kept_chat(text)
    assert chat.bits in (4, 8, 16)
    assert all(name.isprintable() and len(name) <= 2000 for name in (chat.model, chat.adapter, chat.rival))


def test_an_empty_conversation_asks_as_the_run_was_trained(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_empty, "server_state", lambda: ServerState("ready"))
    with_tools = chat_empty.render_empty("en", replace(FACTS, adapter="tools"))
    assert "What is 37*12?" in with_tools
    row = {"step": 5, "question": "Who wrote it?", "answer": "Nobody."}
    write_text(paths().runs / "facts" / "samples.jsonl", json.dumps(row) + "\n")
    clear_caches()
    plain = chat_empty.render_empty("en", FACTS)
    assert "without tools" in plain
    assert "Who wrote it?" in plain
    assert "37*12" not in plain


@pytest.mark.parametrize(("lang", "said"), [("en", "1,884 conversations trained on"), ("zh", "训练用 1,884 条对话")])
def test_what_is_held_back_is_not_counted_as_learned(home: Path, lang: str, said: str) -> None:
    made("held", used=2000, trained=1884, validation=116)
    (known,) = [each for each in newest_first() if each.name == "held"]
    assert said in render_records(lang, known)
    assert "2,000" not in render_records(lang, known)


def test_vllm_is_offered_where_it_is_installed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLMSTUDIO_VLLM", raising=False)
    monkeypatch.setenv("PATH", str(home))
    chat = replace(FACTS, engine="vllm", bits=8)
    assert chat_model.engine_choices("en", chat)["visible"] is False
    assert chat_model.how_to_serve(chat).engine == "studio"  # chosen elsewhere, and gone since
    monkeypatch.setenv("GLMSTUDIO_VLLM", str(home / "python"))
    clear_caches()
    offered = chat_model.engine_choices("en", chat)
    assert (offered["visible"], offered["value"]) == (True, "vllm")
    assert [value for _, value in offered["choices"]] == ["studio", "vllm"]
    assert chat_model.how_to_serve(chat) == HowToServe("vllm", 16)
    assert chat_model.how_to_serve(replace(chat, engine="vllm:all")) == HowToServe("vllm", 16, device="all")
    assert "--engine vllm" in chat_model.render_command("en", chat)
    assert kept_chat(kept_text(chat)).engine == "vllm"
    assert kept_chat(told({"engine": "\n"})).engine == ""
    assert chat_model.chosen_engine(kept_chat(told({"engine": "sglang"}))) == "studio"


def test_a_model_that_was_not_exported_has_a_button_that_exports_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLMSTUDIO_VLLM", str(home / "python"))
    clear_caches()
    chat = chat_model.act_server(replace(FACTS, engine="vllm"), {"act": "load"})
    assert chat.problem is not None
    assert chat.problem.key == "chat.vllm.not_exported"
    drawn = chat_model.render_server("en", chat)
    assert 'data-act="export-native"' in drawn
    assert 'data-act="load"' not in drawn
    done: list[str] = []
    monkeypatch.setattr(chat_model, "export_model", lambda model, form, folder: done.append(f"{model} {form} {folder}"))
    monkeypatch.setattr(chat_model, "load", lambda model, adapter, how: done.append(f"{model} {adapter} {how.engine}"))
    chat_model.act_server(chat, {"act": "export-native"})
    until(lambda: len(done) == 2)
    assert done == [f"demo native {home / 'exports' / 'demo-native'}", "demo facts vllm"]
