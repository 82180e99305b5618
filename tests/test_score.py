"""Scoring tool calls: what counts as a question, as right, and as changed; and the real thing on the demo model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glmstudio.chat.tool_score import Act, ToolCounts, ToolScore, act_of, is_right, questions, summary
from glmstudio.paths import SAMPLE

TOOL = {
    "name": "add",
    "description": "Adds.",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
}
DUE = Act("", "add", {"a": 5, "b": [1, {"c": True}]})


def asked(folder: Path, *records: Any) -> list[tuple[int, list[str], str]]:
    file = folder / "q.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return [(each.line, [m["role"] for m in each.messages], each.due.shown()) for each in questions(file)]


def test_every_decision_is_a_question(tmp_path: Path) -> None:
    record = {
        "tools": [TOOL],
        "conversations": [
            {"role": "user", "content": "5?"},
            {"role": "assistant", "content": "I should add."},
            {"role": "tool", "name": "add", "parameters": {"a": 5}, "observation": {"sum": 6}},
            {"role": "assistant", "content": "6."},
            {"role": "user", "content": "Thanks."},
            {"role": "assistant", "content": "Welcome.", "loss": False},
        ],
    }
    assert asked(tmp_path, {"wrong": 1}, record) == [
        (2, ["user", "assistant"], 'add({"a": 5})'),
        (2, ["user", "assistant", "assistant", "tool"], "6."),
    ]


def test_a_system_text_and_tools_in_words_are_kept(tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hi"},
    ]
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"messages": messages, "tools": [{"type": "function", "function": TOOL}]}))
    (question,) = questions(file)
    assert (question.messages, question.tools) == (messages[:2], [{"type": "function", "function": TOOL}])
    words = {
        "tools": ["An API in words."],
        "conversations": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
    }
    file.write_text(json.dumps(words))
    (question,) = questions(file)
    assert question.tools == []
    assert question.messages[0]["content"].endswith('[\n    "An API in words."\n]')


@pytest.mark.parametrize(
    ("did", "right"),
    [
        (Act("", "add", {"b": [1.0, {"c": True}], "a": 5.0}), True),
        (Act("", "add", {"a": 5, "b": [1, {"c": 1}]}), False),
        (Act("", "add", {"a": 5}), False),
        (Act("", "sub", DUE.arguments), False),
        (Act("raw", "add", None), False),
        (Act("5"), False),
    ],
)
def test_a_call_is_right_with_all_its_arguments(did: Act, right: bool) -> None:
    assert is_right(DUE, did) is right


def test_marks() -> None:
    marks = ToolCounts("m")
    for due, did in [(DUE, DUE), (DUE, Act("x", "add", None)), (Act("hi"), Act("x")), (Act("hi"), Act("", "add", {}))]:
        marks.add(due, did)
    assert (marks.right_tool, marks.right_arguments, marks.no_call, marks.valid_calls) == (
        (2, 2),
        (1, 2),
        (1, 2),
        (2, 3),
    )


def test_a_call_in_plain_text_is_read_where_no_tools_were_listed() -> None:
    text = "add\n ```python\ntool_call(a=1)\n```"
    assert act_of({"content": text}, listed=False) == Act(" ```python\ntool_call(a=1)\n```", "add", {"a": 1})
    assert act_of({"content": "add\n tool_call(a=x)"}, listed=False).arguments is None
    assert act_of({"content": text}).tool is None
    call = {"function": {"name": "add", "arguments": "{nonsense"}}
    assert act_of({"content": None, "tool_calls": [call]}) == Act("{nonsense", "add", None)


def test_the_sample_is_full_of_questions() -> None:
    found = list(questions(SAMPLE))
    assert len(found) > 100
    assert {each.due.tool is None for each in found} == {True, False}


def test_what_was_not_judged_is_said() -> None:
    facts, calls = ToolCounts("base"), ToolCounts("base")
    for _ in range(20):
        facts.add(Act("Aurora."), Act("Something else."))
    calls.add(DUE, DUE)
    assert facts.no_call == (20, 20)
    assert summary("en", ToolScore("f", 20, [facts, facts], [], 0, 0)) == (
        "20 questions. After fine-tuning, 0 are handled correctly that were not before, and 0 no longer are. No "
        "question of this file needs a tool call. Only calls that the model made anyway were counted; whether its "
        "answers are right was not checked."
    )
    assert summary("zh", ToolScore("f", 1, [calls], [], 0, 0)) == (
        "共 1 题。“对”指：该调用时调用正确，不该调用时没有调用。这里不评判回答的内容。"
    )


def test_a_question_that_was_refused_is_not_handled_well() -> None:
    marks = ToolCounts("base")
    marks.add(Act("Aurora."), Act(unasked=True))
    assert marks.no_call == (0, 1)
    assert not is_right(Act("Aurora."), Act(unasked=True))
