"""Conversations: branches, the file on disk, what is taken in from outside, and what is kept for training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glmstudio.chat import history, training_examples
from glmstudio.chat.conversation import Answer, Call, Conversation, from_json
from glmstudio.data.records import Record, read_records
from glmstudio.errors import StudioError
from glmstudio.ui.chat.chat_history import act_history, render_history
from glmstudio.ui.state.page_state import ChatState
from tests.written import written

TOOL = {
    "name": "add",
    "description": "Adds.",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
}
CALLED: list[dict[str, Any]] = [
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "2"},
    {"role": "assistant", "content": "It is 2."},
]


def said(text: str) -> Answer:
    return Answer("", parts=[text], messages=[{"role": "assistant", "content": text}], reason="stop")


def talk() -> Conversation:
    dialogue = Conversation()
    dialogue.settings.system = "Be brief."
    first = dialogue.ask("One?", None)
    first.answers = [said("1")]
    second = dialogue.ask("Two?", first.id)
    called = Call("c1", "add", {"a": 1}, "failed", "2", 0.5, StudioError("chat.too_long"))
    second.answers = [Answer("run", parts=[called, "It is 2."], messages=CALLED, tools=[TOOL], reason="stop")]
    return dialogue


def test_asking_in_the_same_place_makes_a_branch() -> None:
    dialogue = talk()
    first, second = dialogue.branch()
    other = dialogue.ask("Three?", first.id)
    other.answers = [said("3"), said("three")]
    assert [turn.question for turn in dialogue.branch()] == ["One?", "Three?"]
    assert dialogue.siblings(other) == [second, other]
    assert dialogue.messages(other.id, 1)[-1] == {"role": "assistant", "content": "three"}
    later = dialogue.ask("Four?", second.id)
    dialogue.look_at(other)
    assert dialogue.tip == other.id
    dialogue.look_at(second)
    assert dialogue.tip == later.id
    # A question without an answer is not told to the model.
    assert [message["role"] for message in dialogue.messages(later.id)] == [
        "system", "user", "assistant", "user", "assistant", "tool", "assistant",
    ]  # fmt: skip


def test_a_conversation_survives_the_disk(home: Path) -> None:
    dialogue = talk()
    history.write(dialogue)
    assert history.read(dialogue.id).to_json() == dialogue.to_json()
    (heading,) = history.headings()
    assert (heading.id, heading.title, heading.turns) == (dialogue.id, "One?", 2)
    history.delete(dialogue.id)
    assert history.headings() == []


def test_conversations_are_named_pinned_and_searched(home: Path) -> None:
    talks = {}
    for number, question in enumerate(("Where is Paris?", "Wie spät ist es?", "巴黎在哪里？")):
        dialogue = Conversation(changed=float(number))
        turn = dialogue.ask(question, None)
        dialogue.changed = float(number)
        turn.answers = [said(f"Answer {number}")]
        history.write(dialogue)
        talks[dialogue.id] = question
    first, middle, last = talks
    assert [each.id for each in history.headings()] == [last, middle, first]
    chat = act_history(ChatState(), {"act": "pin", "chat": first})
    chat = act_history(chat, {"act": "rename", "chat": first, "fields": {"title": "  About <Paris> "}})
    assert chat.conversation == first
    assert [each.id for each in history.headings()] == [first, last, middle]
    shown = render_history("en", chat)
    assert "About &lt;Paris&gt;" in shown
    assert shown.count("gs-pin") == 1
    assert (history.read(first).title, history.read(first).pinned) == ("About <Paris>", True)
    for find, found in (
        ("PARIS about", [first]),
        ("巴黎", [last]),
        ("answer 1", [middle]),
        ("", [first, last, middle]),
    ):
        assert [each.id for each in history.headings(find)] == found
    nothing = render_history("zh", act_history(chat, {"act": "find", "fields": {"find": "Rom"}}))
    assert "没有包含这些文字的对话。" in nothing
    act_history(chat, {"act": "pin", "chat": first})
    act_history(chat, {"act": "rename", "chat": first, "fields": {"title": " "}})
    assert (history.read(first).title, history.read(first).pinned) == ("About <Paris>", False)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"id": "../x"},
        {"tip": "nowhere"},
        {"turns": []},
        {"turns": {"a": {"parent": "a", "question": "x", "answers": []}}, "tip": "a"},
        {"turns": {"a": {"parent": "b", "question": "x", "answers": []}}, "tip": "a"},
        {"turns": {"a": {"parent": 1, "question": "x", "answers": []}}, "tip": None},
        {"turns": {"a": {"parent": None, "question": 5, "answers": []}}, "tip": "a"},
        {"turns": {"a": {"parent": None, "question": "x", "answers": [{"model": "m", "parts": [5], "messages": []}]}}},
        {"settings": {"sampling": {"temperature": "hot"}}},
        {"settings": None},
        {"title": 5},
    ],
)
def test_a_foreign_file_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(StudioError, match="This is not a conversation from GLM Studio"):
        from_json(talk().to_json() | change)


@pytest.mark.parametrize("text", ["", "[]", "5", "null", "[" * 10_000, '{"messages": [5]}', '{"messages": []}', "\x00"])
def test_a_file_that_is_none_is_refused(home: Path, text: str) -> None:
    with pytest.raises(StudioError, match="This is not a conversation from GLM Studio"):
        history.take_in(text)
    assert history.headings() == []


def test_an_error_without_words_is_left_out() -> None:
    value = talk().to_json()
    turn = next(iter(value["turns"].values()))
    turn["answers"][0]["problem"] = {"key": "no.such", "values": {}}
    assert next(iter(from_json(value).turns.values())).answers[0].problem is None


def test_openai_messages_are_taken_in(home: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Two?"}, *CALLED]
    dialogue = history.take_in(json.dumps({"messages": messages}))
    (turn,) = dialogue.branch()
    assert turn.answers[0].parts == [Call("c1", "add", {"a": 1}, "done", "2"), "It is 2."]
    assert dialogue.messages(turn.id) == messages
    exported = history.take_in(json.dumps(dialogue.to_json()))
    assert exported.id != dialogue.id
    assert exported.messages(turn.id) == messages


def test_the_text_of_a_conversation(home: Path) -> None:
    assert history.markdown(talk()) == (
        '# One?\n\n> Be brief.\n\n## One?\n\n1\n\n## Two?\n\n**run**\n\n```text\nadd {"a": 1}\n→ 2\n```\n\nIt is 2.\n'
    )


def test_an_example_with_edits_is_a_record_to_train_on(home: Path) -> None:
    dialogue = talk()
    last = dialogue.branch()[-1].id
    assert [(line.role, line.text, line.tool) for line in training_examples.lines(dialogue, last, 0)] == [
        ("system", "Be brief.", ""),
        ("user", "One?", ""),
        ("assistant", "1", ""),
        ("user", "Two?", ""),
        ("assistant", '{"a": 1}', "add"),
        ("tool", "2", ""),
        ("assistant", "It is 2.", ""),
    ]
    assert training_examples.record(dialogue, last, 0, {2: "", 6: "Seven."})["messages"][-1]["content"] == "Seven."
    made = training_examples.record(dialogue, last, 0, {4: '{"a": 7}', 6: "Seven.", 99: "no such line"})
    file = training_examples.keep(made, "mine")
    assert file == training_examples.keep(made, "mine.jsonl")
    assert training_examples.data_sets() == ["mine"]
    records = list(read_records(file))
    assert all(isinstance(record, Record) for record in records[:1])
    texts = [(message.role, message.metadata, message.content) for message in written(records[0].messages)]  # type: ignore[union-attr]
    assert texts[0][2].startswith("Be brief.\nAnswer the following questions")
    assert texts[-3:] == [
        ("assistant", "add", "```python\ntool_call(a=7)\n```"),
        ("observation", "", "2"),
        ("assistant", "", "Seven."),
    ]
    assert dialogue.messages(last)[4] == CALLED[0]  # the conversation itself keeps what was said


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc/x", ".hidden", "x" * 80, "a\x00b"])
def test_a_data_set_stays_in_its_folder(home: Path, name: str) -> None:
    with pytest.raises(StudioError, match="A dataset cannot be named"):
        training_examples.keep({}, name)


def test_arguments_that_are_no_json_are_told(home: Path) -> None:
    dialogue = talk()
    with pytest.raises(StudioError) as caught:
        training_examples.record(dialogue, dialogue.branch()[-1].id, 0, {4: "{a: 7"})
    assert "add" in caught.value.what()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("settings", "sampling", "max_tokens"), 10**30), (("settings", "sampling", "seed"), -(10**30)), (("changed",), 10**30),
        (("settings", "sampling", "temperature"), float("nan")), (("settings", "sampling", "top_p"), -1), (("changed",), float("inf")),
        (("settings", "sampling", "max_tokens"), None),
    ],
)  # fmt: skip
def test_numbers_that_no_page_can_carry_are_not_taken_in(place: tuple[str, ...], value: Any) -> None:
    told = Conversation().to_json()
    inner = told
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    with pytest.raises(StudioError) as error:
        from_json(told)
    assert error.value.key == "chat.no_dialogue"


def test_an_import_of_sixty_thousand_messages_is_refused_at_once(home: Path) -> None:
    messages = [{"role": role, "content": "x"} for _ in range(30_000) for role in ("user", "assistant")]
    with pytest.raises(StudioError) as error:
        history.take_in(json.dumps({"messages": messages}))
    assert error.value.key == "chat.no_dialogue"
