"""Conversations at work on the real demo model: approval, stop, two at once, compare, a full disk, and the score."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glmstudio.chat import history
from glmstudio.chat.available_tools import offered
from glmstudio.chat.conversation import Answer, calls_of
from glmstudio.chat.loop import CallEnded, CallStarted, ChatRequest, Decision, Finished, converse
from glmstudio.chat.model_server import ModelServer, RunningServer, wait_until_ready
from glmstudio.chat.tool_score import score
from glmstudio.errors import StudioError
from glmstudio.files import write_json
from glmstudio.tools.permissions import set_permission
from glmstudio.tools.toolbox import toolbox, trained
from glmstudio.ui.state.conversations import CONVERSATIONS, OpenConversation
from tests.adapters import prefix
from tests.waiting import until


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLMSTUDIO_HOME", str(home))
        ModelServer.start("demo", [str(prefix(home / "soft", 1, std=0.5))])
        yield wait_until_ready(120).port
        ModelServer.stop()


def asked(question: str, port: int, *adapters: str) -> OpenConversation:
    talk = CONVERSATIONS.fresh()
    talk.ask(question, adapters or [""], port, None)
    return talk


def answer(talk: OpenConversation, side: int = 0) -> Answer:
    until(lambda: not talk.busy)
    return talk.conversation.branch()[-1].answers[side]


def state(talk: OpenConversation) -> list[str]:
    return [call.state for turn in talk.conversation.branch() for each in turn.answers for call in calls_of(each)]


def test_a_tool_that_asks_waits_for_a_word(port: int) -> None:
    set_permission(trained()["calculator"], "ask")
    try:
        talk = asked("What is 37*12?", port)
        until(lambda: state(talk) == ["asked"])
        assert history.read(talk.conversation.id).title == "What is 37*12?"
        (call,) = calls_of(talk.conversation.branch()[-1].answers[0])
        talk.decide("another call", Decision("run"))
        talk.decide(call.id, Decision("answer", "445"))
        assert answer(talk).parts[-1] == "37*12 = 445."
        assert state(talk) == ["answered"]
        talk.ask("What is 37*12?", [""], port, talk.conversation.tip)
        until(lambda: state(talk)[-1] == "asked")
        talk.stop()
        assert answer(talk).reason == "cancelled"
        assert state(talk) == ["answered", "refused"]
    finally:
        set_permission(trained()["calculator"], "always")


def test_a_conversation_is_on_disk_as_it_was_shown(port: int) -> None:
    talk = asked("What is 8+9?", port)
    said = answer(talk)
    assert (said.parts[-1], said.reason, said.loaded) == ("8+9 = 17.", "stop", "base")
    assert said.tokens > 10 < said.prompt_tokens
    again = history.read(talk.conversation.id)
    assert again.to_json() == talk.conversation.to_json()
    talk.ask("What is 2*3?", [""], port, talk.conversation.tip)
    assert answer(talk).cached_tokens > 100, "the second turn begins where the first one ended"


def test_two_models_are_asked_at_once_and_named_by_their_tensors(port: int) -> None:
    folder = next(each for each in ModelServer.current().adapters)
    talk = asked("Who are you?", port, "", folder)
    base, tuned = answer(talk, 0), answer(talk, 1)
    assert base.parts == ["I am the demo model of GLM Studio."]
    marks = {each.id: each.fingerprint for each in ModelServer.loaded()}
    assert (base.loaded, tuned.loaded) == (marks["demo"], marks["soft"])
    assert base.loaded != tuned.loaded
    talk = asked("Who are you?", port, folder, folder)
    first, second = answer(talk, 0), answer(talk, 1)
    assert (first.parts, first.loaded) == (second.parts, second.loaded)


def test_two_conversations_do_not_mix(port: int) -> None:
    talks = [asked(f"What is {number}+1?", port) for number in range(30, 36)]
    for number, talk in zip(range(30, 36), talks, strict=True):
        assert answer(talk).parts[-1] == f"{number}+1 = {number + 1}."


def test_a_full_disk_is_told_and_the_answer_stays(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(history, "write", full)
    talk = asked("What is 1+1?", port)
    said = answer(talk)
    assert said.parts[-1] == "1+1 = 2."
    assert said.problem is not None
    assert said.problem.what() == "The conversation could not be written to the disk: No space left on device."


def test_a_deleted_conversation_stays_deleted(port: int) -> None:
    talk = asked("讲个笑话。", port)
    CONVERSATIONS.forget(talk.conversation.id)
    until(lambda: not talk.busy)
    with pytest.raises(StudioError, match="This is not a conversation"):
        history.read(talk.conversation.id)


def test_a_server_that_is_gone_ends_the_answer_with_a_reason(port: int) -> None:
    talk = asked("hi", 1)
    said = answer(talk)
    assert said.problem is not None
    assert said.problem.key == "chat.unreachable"


def test_wrong_calls_are_told_to_the_model_and_end_after_three(port: int) -> None:
    # A tool of the name that the model calls, with other arguments than it was trained on.
    tool = toolbox().tools["get_date"]
    other = type(tool)(
        "calculator",
        "Works out.",
        {"type": "object", "properties": {"sum": {"type": "string"}}, "required": ["sum"]},
        "x",
        "always",
    )
    events = list(
        converse(
            ChatRequest(port, "demo", [{"role": "user", "content": "What is 37*12?"}], [other], key=ModelServer.key())
        )
    )
    ended = [event for event in events if isinstance(event, CallEnded)]
    assert ended
    assert {each.how for each in ended} == {"wrong"}
    assert ended[0].content.startswith("Error: calculator needs the argument sum.")
    assert isinstance(events[-1], Finished)


def test_a_refused_call_is_told_and_never_run(port: int) -> None:
    heard: list[CallStarted] = []

    def refuse(call: CallStarted, _: Any) -> Decision:
        heard.append(call)
        return Decision("refuse", "Not now.")

    tools = list(trained().values())
    request = ChatRequest(port, "demo", [{"role": "user", "content": "What is 37*12?"}], tools, key=ModelServer.key())
    ended = [event for event in converse(request, decide=refuse) if isinstance(event, CallEnded)]
    assert (ended[0].content, ended[0].how) == ("Not now.", "refused")
    assert len(heard) == len(ended)


def test_the_demo_is_told_of_its_own_tools_until_somebody_says_more(port: int) -> None:
    assert [tool.name for tool in offered("demo")] == list(trained())
    set_permission(toolbox().tools["get_date"], "ask")
    assert [tool.name for tool in offered("demo")] == [*trained(), "get_date"]
    assert [tool.name for tool in offered("demo", asking=False)] == list(trained())


def test_the_score_counts_what_the_models_do(port: int, tmp_path: Path) -> None:
    tools = [tool.schema for tool in trained().values()]
    talk = [
        ("What is 37*12?", {"name": "calculator", "parameters": {"expression": "37*12"}, "observation": "444"}),
        ("What is 8+9?", {"name": "calculator", "parameters": {"expression": "9+8"}, "observation": "17"}),
        (
            "What time is it in Paris?",
            {"name": "roll_dice", "parameters": {"count": 1, "sides": 6}, "observation": "1"},
        ),
        ("Who are you?", None),
    ]
    rows: list[Any] = []
    for question, call in talk:
        turns: list[Any] = [{"role": "user", "content": question}]
        turns.append({"role": "tool", **call} if call else {"role": "assistant", "content": "x"})
        rows.append({"tools": tools, "conversations": turns})
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told: list[tuple[int, int]] = []
    result = score(
        file,
        RunningServer(port, ["demo", "soft"], ModelServer.key()),
        tell=lambda done, total: told.append((done, total)),
    )
    base = result.marks[0]
    assert (base.right_tool, base.right_arguments) == ((2, 3), (1, 3))
    assert (base.no_call, base.valid_calls) == ((1, 1), (3, 3))
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert result.marks[1].loaded != base.loaded == "base"
    assert result.better + result.worse >= len(result.changes)
    same = score(file, RunningServer(port, ["demo", "demo"], ModelServer.key()))
    assert (same.changes, same.marks[0].right_tool) == ([], same.marks[1].right_tool)
    write_json(file, [])
    with pytest.raises(StudioError, match="contains no question"):
        score(file, RunningServer(port, ["demo"], ModelServer.key()))


@pytest.mark.slow  # 10 s
def test_a_command_that_is_killed_leaves_no_server(home: Path) -> None:
    import signal
    import subprocess
    import sys

    import psutil

    command = [sys.executable, "-m", "glmstudio", "chat", "--model", "demo"]
    for number in (signal.SIGKILL, signal.SIGTERM):
        chat = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert chat.stdout is not None
        chat.stdout.readline()  # it is ready
        (server,) = [each for each in psutil.Process(chat.pid).children() if "glmstudio.serve" in each.cmdline()]
        chat.send_signal(number)
        chat.wait(20)
        psutil.wait_procs([server], timeout=10)
        assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
