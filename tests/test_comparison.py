"""One question to the base and to what a run made of it: what is loaded stays, and no question is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmstudio.chat.comparison import Compared, ask_both, needs_loading
from glmstudio.chat.kept_prompts import MOST, KeptPrompt, drop_prompt, keep_prompt, kept_prompts
from glmstudio.chat.model_server import ModelServer
from glmstudio.chat.whole_pair import PAIR, WholePair
from glmstudio.data.protocol.prompt import chat_ids
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.errors import StudioError
from glmstudio.families.message import Message
from glmstudio.files import read_table, write_json
from glmstudio.models import ready_model
from glmstudio.paths import paths
from glmstudio.rundir.run import Run
from glmstudio.serve import versus
from glmstudio.ui.chat.versus_view import act_versus, render_versus
from glmstudio.ui.framework.ttl_cache import clear_caches
from glmstudio.ui.state.comparisons import COMPARISONS, Comparisons
from glmstudio.ui.state.runwatch import newest_first
from tests.adapters import prefix
from tests.waiting import until

PLAIN, SUM = "Who are you?", "What is 37*12?"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["question", "base", "asked"]), inner),
    max_leaves=6,
)


@pytest.fixture(scope="module", autouse=True)
def kept_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLMSTUDIO_HOME", str(home))
        yield home
        ModelServer.stop()
        PAIR.end()


def made(name: str, method: str) -> Run:
    """A finished run without tools in its data; its result is an adapter, or the base itself as a whole model."""
    folder = paths().runs / name
    folder.mkdir(parents=True)
    write_json(folder / "run.json", {"settings": {"model": "demo", "method": method}, "created": 1.0})
    write_json(folder / "status.json", {"state": "finished"})
    tokenizer = Tokenizer(ready_model("demo").path)
    write_json(folder / "opening.json", {"ids": tokenizer.start, "tools": False})
    if method == "full":
        (folder / "result").symlink_to(ready_model("demo").path)
    else:
        prefix(folder / "result", 1, std=0.5)
    clear_caches()
    return Run(name, folder)


def prompt(question: str) -> list[int]:
    return chat_ids(Tokenizer(ready_model("demo").path), [Message("user", question)])


def serving() -> Any:
    return read_table(paths().state / "server.json")["identity"]


def test_two_questions_at_once_from_one_server_and_again_by_a_click() -> None:
    run = made("tuned", "ptuning_v2")
    (known,) = [each for each in newest_first() if each.name == "tuned"]
    assert needs_loading(run)
    assert "Asking loads demo; it then stays loaded." in render_versus("en", known)
    for question in (PLAIN, SUM, PLAIN):
        act_versus(run, {"act": "versus", "fields": {"question": question}})
    assert COMPARISONS.waiting("tuned") == [PLAIN, SUM]
    until(lambda: not COMPARISONS.waiting("tuned"), 120)
    first, server = kept_prompts(run), serving()
    assert [each.question for each in first] == [SUM, PLAIN]
    assert all(each.asked and each.base for each in first), first
    assert first[0].base != first[0].tuned
    assert not needs_loading(run)
    assert "The model that is loaded answers both." in render_versus("en", known)
    assert first[1].base in render_versus("zh", known)

    act_versus(run, {"act": "versus-all"})
    until(lambda: not COMPARISONS.waiting("tuned"), 120)
    again = kept_prompts(run)
    assert [(each.base, each.tuned) for each in again] == [(each.base, each.tuned) for each in first]
    assert all(new.asked > old.asked for new, old in zip(again, first, strict=True))
    assert serving() == server
    # The base is the bare one: loaded alone, by another process, it says the same.
    alone = versus._Pair(ready_model("demo").path, ready_model("demo").path).ask(prompt(PLAIN))
    assert (again[1].base, alone["tuned"]) == (alone["base"], alone["base"])
    act_versus(run, {"act": "versus-drop", "question": PLAIN})
    assert [each.question for each in kept_prompts(run)] == [SUM]


@pytest.mark.slow
def test_two_whole_models_stay_loaded_until_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    run = made("whole", "full")
    first = ask_both(run, PLAIN)
    assert first == Compared(first.base, first.base, first.seconds)
    process = PAIR._process
    assert process is not None
    assert ask_both(run, PLAIN).base == first.base
    assert PAIR._process is process
    monkeypatch.setattr("glmstudio.chat.whole_pair.IDLE", 0.0)
    until(lambda: process.poll() is not None, 30)


def test_models_that_do_not_fit_beside_each_other_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ready_model("demo").path
    beside = versus._Pair(folder, folder).ask(prompt(PLAIN))
    monkeypatch.setattr(versus, "_free", lambda: 0)
    turned = versus._Pair(folder, folder)
    assert turned.ask(prompt(PLAIN)) == beside | {"in_turn": True}
    assert list(turned._engines) == ["tuned"]


@pytest.mark.slow
def test_a_pair_that_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    pair = WholePair()
    with pytest.raises(StudioError) as told:
        pair.ask(tmp_path, tmp_path, [1])
    assert told.value.key == "data.tokenizer_missing"
    pair.end()


def test_what_breaks_is_told_with_its_question_and_the_next_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    run = made("broken", "ptuning_v2")

    def breaks(_: Run, question: str) -> Compared:
        time.sleep(0.05)
        if question == "one":
            raise ValueError
        return Compared("a", "b")

    monkeypatch.setattr("glmstudio.ui.state.comparisons.ask_both", breaks)
    monkeypatch.setattr("glmstudio.ui.state.comparisons.needs_loading", lambda _: False)
    several = Comparisons()
    for question in ("one", "two", "three"):
        several.ask(run, question)
    several.drop("broken", "three")
    until(lambda: not several.waiting("broken"))
    assert [(each.question, each.base) for each in kept_prompts(run)] == [("three", ""), ("two", "a"), ("one", "")]
    assert several.problem("broken", "one") is not None
    assert several.problem("broken", "two") is None


def test_so_many_are_kept(tmp_path: Path) -> None:
    run = Run("many", tmp_path)
    for number in range(MOST + 2):
        keep_prompt(run, KeptPrompt(f"question {number}"))
    assert [each.question for each in kept_prompts(run)][:2] == [f"question {MOST + 1}", f"question {MOST}"]
    assert len(kept_prompts(run)) == MOST
    drop_prompt(run, f"question {MOST}")
    assert len(kept_prompts(run)) == MOST - 1


@given(JSON)
def test_a_file_may_say_anything(value: Any) -> None:
    folder = paths().runs / "odd"
    for told in (value, {"prompts": value}, {"prompts": [value, {"question": "q", "asked": value, "base": value}]}):
        write_json(folder / "prompts.json", told)
        assert all(each.question.strip() for each in kept_prompts(Run("odd", folder)))
