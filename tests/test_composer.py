"""What is sent while another question is answered waits, and no question is asked twice or lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmstudio.chat.loop import Finished, TextPart
from glmstudio.chat.model_server import LoadedModel, ModelServer, ServerState
from glmstudio.errors import StudioError
from glmstudio.ui.chat import chat_model, chat_step
from glmstudio.ui.chat.chat_log import render_log
from glmstudio.ui.state import conversations
from glmstudio.ui.state.conversations import CONVERSATIONS, OpenConversation
from glmstudio.ui.state.page_state import ChatState
from tests.waiting import until

MARKS = ("a" * 12, "b" * 12, "c" * 12)
BASE = LoadedModel("demo", "base", "", 0.0, 0, 100, "base")


@pytest.fixture
def gate(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A model that answers each question once the gate is open."""
    opened = threading.Event()

    def answers(asked: Any, *, cancel: threading.Event, **_: Any) -> Iterator[Any]:
        until(lambda: opened.is_set() or cancel.is_set())
        text = "re: " + asked.messages[-1]["content"]
        yield TextPart(text)
        yield Finished([{"role": "assistant", "content": text}], "stop")

    monkeypatch.setattr(conversations, "converse", answers)
    monkeypatch.setattr(ModelServer, "current", staticmethod(lambda: ServerState("ready", "demo", port=1)))
    monkeypatch.setattr(ModelServer, "loaded", staticmethod(lambda: [BASE]))
    monkeypatch.setattr(chat_model, "port_for", lambda _: 1)
    yield opened
    opened.set()


def sent(chat: ChatState, mark: str, text: str) -> ChatState:
    return chat_step.send_question(chat, json.dumps({"mark": mark, "text": text}))


def questions(talk: OpenConversation) -> list[str]:
    return [turn.question for turn in talk.conversation.branch()]


def test_questions_while_one_is_answered_wait_their_turn(gate: threading.Event) -> None:
    talk = CONVERSATIONS.fresh()
    chat = ChatState(conversation=talk.conversation.id)
    for mark, text in zip(MARKS, ("one", "two", "three"), strict=True):
        chat = sent(chat, mark, text)
        assert sent(chat, mark, text) == chat  # the network sent it twice
    assert questions(talk) == ["one"]
    assert CONVERSATIONS.waiting() == list(MARKS[1:])
    shown = render_log("en", chat, talk, {})
    assert shown.count("Asked after this answer") == 2
    chat = chat_step.act_log(chat, {"act": "take-back", "mark": MARKS[1]})
    told = chat_step._render_problem("en", chat)
    assert f'data-waiting="{MARKS[2]}"' in told
    assert MARKS[1] in told.partition("data-returned=")[2]
    gate.set()
    until(lambda: not talk.busy and not talk.waiting)
    assert questions(talk) == ["one", "three"]
    first, last = talk.conversation.branch()
    assert (last.parent, last.id, last.answers[0].parts) == (first.id, MARKS[2], ["re: three"])
    assert MARKS[0] in CONVERSATIONS.asked
    assert MARKS[1] not in CONVERSATIONS.asked


def test_a_question_that_cannot_be_asked_goes_back(gate: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = CONVERSATIONS.fresh()
    chat = ChatState(conversation=talk.conversation.id)

    def absent(_: ChatState) -> int:
        raise StudioError("ui.chat.not_loaded")

    monkeypatch.setattr(chat_model, "port_for", absent)
    refused = sent(chat, MARKS[0][::-1].replace("a", "d"), "one")
    assert refused == replace(chat, problem=refused.problem, returned="d" * 12)
    assert 'data-returned="' in chat_step._render_problem("zh", refused)
    assert "d" * 12 in chat_step._render_problem("zh", refused)
    assert questions(talk) == []


def test_unloading_gives_back_what_waits(gate: threading.Event) -> None:
    talk = CONVERSATIONS.fresh()
    chat = sent(sent(ChatState(conversation=talk.conversation.id), "e" * 12, "one"), "f" * 12, "two")
    CONVERSATIONS.stop_all()
    until(lambda: not talk.busy)
    assert questions(talk) == ["one"]
    assert "f" * 12 in CONVERSATIONS.returned
    for number in range(21):
        gate.clear()
        chat = sent(chat, f"{number:012x}", "more")
    assert len(talk.waiting) == 20
    chat = sent(chat, "9" * 12, "one too many")
    assert chat.problem is not None
    assert (chat.problem.key, chat.returned) == ("ui.chat.too_many_waiting", "9" * 12)
    CONVERSATIONS.forget(talk.conversation.id)
    assert CONVERSATIONS.waiting() == []


@given(st.one_of(st.text(), st.dictionaries(st.text(), st.text()).map(json.dumps), st.just('{"mark": "<", "text": 1}')))
def test_a_browser_may_send_anything(text: str) -> None:
    assert chat_step.send_question(ChatState(), text) == ChatState()
