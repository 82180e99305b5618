"""What the data doctor says about files that somebody spoilt: the exact line and the exact sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmstudio.data import problems
from glmstudio.data.formats.plain import QUESTION_AND_ANSWER
from glmstudio.data.problems import Problem
from glmstudio.data.readers import json_text
from glmstudio.data.records import DataCheck, check_file, read_examined
from glmstudio.errors import StudioError
from glmstudio.families.message import Message
from glmstudio.words import LANGUAGES

ROLES = (
    "system, developer, user, human, assistant, gpt, chatgpt, function_call, tool_call, tool, function, observation, "
    "tool_response, function_response"
)
GOOD = '{"prompt": "good", "response": "yes"}'
TOOLS = [
    {
        "name": "f",
        "parameters": {
            "type": "object",
            "properties": {
                "a": {"type": "integer"},
                "b": {"type": "string", "enum": ["x", "y"]},
                "c": {"type": ["array", "null"], "items": {"type": "number"}},
                "d": {"type": "object", "properties": {"e": {"type": "boolean"}}, "required": ["e"]},
            },
            "required": ["a"],
        },
    }
]


def turns(*said: Any, **more: Any) -> str:
    """A record of official turns: a letter for the role and the content, or a whole turn."""
    roles = {"s": "system", "u": "user", "a": "assistant", "o": "observation"}
    listed = [each if isinstance(each, dict) else {"role": roles[each[0]], "content": each[1]} for each in said]
    return json.dumps({**more, "conversations": listed}, ensure_ascii=False)


def call(name: str = "f", **arguments: Any) -> dict[str, Any]:
    return {"role": "tool", "name": name, "parameters": arguments, "observation": "r"}


def called(name: str = "f", tools: Any = TOOLS, **arguments: Any) -> str:
    return turns(("u", "q"), call(name, **arguments), ("a", "x"), tools=tools)


def openai(*messages: dict[str, Any], **more: Any) -> str:
    return json.dumps({"messages": list(messages), **more})


def share(*said: tuple[str, Any], **more: Any) -> str:
    return json.dumps({"conversations": [{"from": role, "value": value} for role, value in said], **more})


ASK, SAY = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
ASKED = {"id": "1", "function": {"name": "f", "arguments": "{}"}}

# The record on line 3 of a .jsonl file between good ones, and what is said about it.
RECORDS: list[tuple[str, str]] = [
    ("{", "This is not valid JSON; it breaks at column 2."),
    ('{"prompt": "a" "response": "b"}', "This is not valid JSON; it breaks at column 16."),
    ('{"prompt": "a\x00", "response": "b"}', "This is not valid JSON; it breaks at column 14."),
    ('{"prompt": "a", "response": "b"} {}', "This is not valid JSON; it breaks at column 34."),
    ("[" * 100_000, "This is not valid JSON; it breaks at column 1."),
    ("1" * 5000, "This is not valid JSON; it breaks at column 1."),
    ("[1]", "The record is not an object in braces."),
    ("null", "The record is not an object in braces."),
    ('"text"', "The record is not an object in braces."),
    ("{}", "The record has no list of messages under “conversations”."),
    ('{"conversations": []}', "The record has no list of messages under “conversations”."),
    ('{"conversations": {"role": "user"}}', "The record has no list of messages under “conversations”."),
    ('{"conversations": ["hi"]}', "Message 1 is not an object in braces."),
    (turns({"content": "x"}), "Message 1 has the role “None”; it must be one of system, user, assistant, observation, tool."),
    (
        turns(("u", "x"), {"role": ["bot"] * 50, "content": "y"}),
        "Message 2 has the role “['bot', 'bot', 'bot', 'bot', 'bot', 'bot', 'bot', 'bot', 'b…”; it must be one of "
        "system, user, assistant, observation, tool.",
    ),
    (turns(("u", "x"), {"role": "assistant"}), "Message 2 has no text under “content”."),
    (turns(("u", "x"), ("a", None)), "Message 2 has no text under “content”."),
    (turns(("u", "x"), ("a", 5)), "Message 2 has something other than text under “content”."),
    (turns(("u", {"a": [1]}), ("a", "x")), "Message 1 has something other than text under “content”."),
    (turns(("u", "x")), "The record has nothing to learn: no message of the assistant or of a tool is trained on."),
    (
        turns(("u", "x"), {"role": "assistant", "content": "y", "loss": False}),
        "The record has nothing to learn: no message of the assistant or of a tool is trained on.",
    ),
    (turns(("u", "x"), {**SAY, "loss": 1}), "Message 2 has a “loss” that is neither true nor false."),
    (turns(("u", "x"), ("a", "\ud83d")).replace("\ud83d", "\\ud83d"),
     "The record contains half a character: an escape such as \\ud83d without its second half."),
    (turns(("u", "x"), ("a", "y"), ("u", "z")), "The record ends with message 3 from the user, which has no answer."),
    (turns(("u", "x"), ("u", "y"), ("a", "z")), "Message 2 is from the user, like the one before it."),
    (turns(("u", "x"), ("a", "y"), ("a", "z")), "Message 3 is from the assistant, like the one before it."),
    (turns(("a", "y"), ("u", "x"), ("a", "z")), "Message 1 is from the assistant, but the user has not said anything yet."),
    (turns(("s", "y"), ("a", "z")), "Message 2 is from the assistant, but the user has not said anything yet."),
    (turns(call(), ("a", "z")), "Message 1 is from the assistant, but the user has not said anything yet."),
    (turns(("u", "x"), ("s", "y"), ("a", "z")), "Message 2 is a system prompt; there may be only one, at the beginning."),
    (turns(("s", "x"), ("s", "y"), ("u", "a"), ("a", "z")), "Message 2 is a system prompt; there may be only one, at the beginning."),
    (turns(("u", "x"), ("o", "y"), ("a", "z")), "Message 2 is a tool result, but the message before it calls no tool."),
    (turns(("u", "x"), ("a", "y"), ("o", "z"), ("a", "w")), "Message 3 is a tool result, but the message before it calls no tool."),
    (turns(("u", "x"), ("a", "")), "Message 2 is an empty answer."),
    (turns(("u", "x"), ("a", " \n"), ("u", "y"), ("a", "z")), "Message 2 is an empty answer."),
    (turns(("u", "x"), ("a", "y"), ("u", "z"), ("a", "")), "Message 4 is an empty answer."),
    (GOOD, "The record is the same as the one on line 1."),
    (called(tools="f"), "“tools” is not a list."),
    (called(tools={"f": 1}), "“tools” is not a list."),
    (called("g", a=1), "Message 2 calls the tool g, which is not among the tools of the record."),
    (called("f", tools=[]), "Message 2 calls the tool f, which is not among the tools of the record."),
    (called(), "Message 2 calls the tool f without the required argument “a”."),
    (called(a=1, z=2), "Message 2 calls the tool f with the argument “z”, which the tool does not have."),
    (called(a="1"), "Message 2 calls the tool f with the argument “a” = \"1\"; its type must be integer."),
    (called(a=True), "Message 2 calls the tool f with the argument “a” = true; its type must be integer."),
    (called(a=1, b="z"), "Message 2 calls the tool f with the argument “b” = \"z\"; it must be one of \"x\", \"y\"."),
    (called(a=1, c=[1, "2"]), "Message 2 calls the tool f with the argument “c[1]” = \"2\"; its type must be number."),
    (called(a=1, c={}), "Message 2 calls the tool f with the argument “c” = {}; its type must be array / null."),
    (called(a=1, d={}), "Message 2 calls the tool f without the required argument “d.e”."),
    (called(a=float("nan")), "Message 2 calls the tool f with arguments that cannot be read back from the written call."),
    (called(a=1, b="x" * 30_000), "Message 2 calls the tool f with arguments that cannot be read back from the written call."),
    (turns(("u", "x"), {"role": "tool", "name": "a\nb", "parameters": {}}), "Message 2 is a tool call whose name is missing, or not on one line."),
    (turns(("u", "x"), {"role": "tool", "name": "f", "parameters": "{}"}),
     "Message 2 calls the tool f without an object under “parameters”."),
    (turns(("u", "x"), {"role": "tool", "name": "f", "parameters": {"a b": 1}}),
     "Message 2 calls the tool f with the argument “a b”, which cannot be written in a call; use letters, digits and underscores."),
    ('{"instruction": "a"}', "The record has no “output”."),
    ('{"instruction": "a", "output": "b", "history": [["a"]]}', "The “history” must be a list of pairs, each a question and its answer."),
    ('{"prompt": "a", "response": null}', "Message 2 has no text under “content”."),
    ('{"question": "a", "answer": ""}', "Message 2 is an empty answer."),
    ('{"messages": {}}', "“messages” is not a list with at least one message."),
    (openai(ASK, {"role": "bot"}), f"Message 2 has the role “bot”; it must be one of {ROLES}."),
    (openai(ASK, {"role": "assistant", "tool_calls": "f"}), "Message 2 has “tool_calls” that are not a list of function calls."),
    (openai(ASK, {"role": "assistant", "tool_calls": [{}]}), "Message 2 has “tool_calls” that are not a list of function calls."),
    (openai(ASK, SAY | {"weight": 2}), "Message 2 has a “weight” that is neither 0 nor 1."),
    (openai({"role": "user", "content": [{"type": "image_url"}]}, SAY), "Message 1 has a part that is not text, such as an image."),
    (openai(ASK, {"role": "assistant", "tool_calls": [ASKED]}, SAY),
     "Message 2 calls a tool, but its result is missing before the conversation goes on."),
    (openai(ASK, {"role": "assistant", "tool_calls": [ASKED]}, {"role": "tool", "tool_call_id": "2", "content": ""}),
     "Message 3 is the result of a tool that no earlier message calls."),
    (openai(ASK, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}),
     "Message 2 calls the tool f with arguments that are not a JSON object."),
    (openai(ASK, {"role": "assistant", "tool_calls": [ASKED, ASKED]}, {"role": "tool", "content": "r"},
            {"role": "tool", "content": "r"}, SAY, SAY), "Message 6 is from the assistant, like the one before it."),
    (share(("human", "q"), ("function_call", "f()")), "Message 2 is a tool call that is not a JSON object with “name” and “arguments”."),
    (share(("human", "q"), ("observation", "r"), ("gpt", "a")), "Message 2 is the result of a tool that no earlier message calls."),
    (share(("human", "q"), ("gpt", "a"), tools="[{"), "“tools” is text, but not valid JSON."),
    (share(("human", "q"), ("bing", "a")),
     f"Message 2 has the role “bing”; it must be one of {ROLES}."),
    ('{"Instances": []}', "The entry is not an API of ToolAlpaca: it needs “NLDocumentation” and a list of “Instances”."),
    ('{"NLDocumentation": "d", "Instances": [{"input": "a"}]}', "Instance 1 has no “intermediate_steps”."),
]  # fmt: skip


def check(folder: Path, text: str | bytes, name: str = "data.jsonl") -> DataCheck:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return check_file(file)


@pytest.mark.parametrize(("record", "sentence"), RECORDS)
def test_a_spoilt_record_is_told_with_its_line(tmp_path: Path, record: str, sentence: str) -> None:
    found = check(tmp_path, f'{GOOD}\n\n{record}\n{{"prompt": "a", "response": "last"}}\n')
    assert [(each.line, each.text()) for each in found.problems] == [(3, sentence)]
    assert found.records == 2
    assert found.problems[0].file == str(tmp_path / "data.jsonl")
    for lang in LANGUAGES:
        assert found.problems[0].text(lang).encode()


def test_there_are_many_spoilt_files() -> None:
    assert len({record for record, _ in RECORDS}) + len(FILES) >= 60


# Whole files: the name, the bytes, and every problem with its line.
FILES: list[tuple[str, bytes, list[tuple[int, str]]]] = [
    ("a.json", b"", [(1, "The file must be a list: it has to start with [ and end with ].")]),
    ("a.json", b"7", [(1, "The file must be a list: it has to start with [ and end with ].")]),
    ("a.json", b"\n\n[\n {}\n]", [(4, "The record has no list of messages under \u201cconversations\u201d.")]),
    ("a.json", b'[{"prompt": "a", "response": "b"}\n', [
        (2, "A comma or a closing ] is missing after this record; what follows it in this file could not be read.")]),
    ("a.json", b'[{"prompt": "a",\n "response": "b"},\n {"prompt" 1}, {}]', [
        (3, "This is not valid JSON; it breaks at column 12. Nothing after it in this file could be read.")]),
    ("a.json", b"[1] [2]", [(1, "The record is not an object in braces."),
                            (1, "There is more text after the closing ] of the list.")]),
    ("a.json", b"[" * 200_000, [
        (1, "This is not valid JSON; it breaks at column 1. Nothing after it in this file could be read.")]),
    ("a.json", b'{"prompt": "a", "response": "b"}\n\nx', [
        (3, "The file must be a list: it has to start with [ and end with ].")]),
    ("a.json", b'[{"prompt": "\xff\xfe", "response": "b"}, {"prompt": "a", "response": "b"}]', [
        (1, "Some bytes here are not valid in the encoding of the file; save it as UTF-8.")]),
    ("a.jsonl", '{"prompt": "天", "response": "b"}\n{"prompt": "'.encode() + b'\xe5", "response": "b"}\n', [
        (2, "Some bytes here are not valid in the encoding of the file; save it as UTF-8.")]),
    ("a.jsonl", b"\x00\x00\n", [(1, "This is not valid JSON; it breaks at column 1.")]),
    ("a.csv", b"prompt,response\na\nb,c,d\ne,f\n", [
        (2, "The row has 1 cells, but the table has 2 columns."), (3, "The row has 3 cells, but the table has 2 columns.")]),
    ("a.csv", b"prompt,prompt\na,b\n", [(1, "Two columns of the table have the same name.")]),
    ("a.csv", b"x,y\na,b\nc,d\n", [
        (1, f"The columns of the table are x, y; no question and answer were recognised. Name two of them like one of these pairs: {QUESTION_AND_ANSWER}.")]),
    ("a.csv", b'prompt,response\n"a\nb",c\nd,""\n', [(4, "Message 2 is an empty answer.")]),
    ("a.csv", b'prompt,response\na,b\nc,"d\ne\n', [
        (3, "The table cannot be read from here on: a quotation mark is missing or misplaced. Nothing after it was "
            "read.")]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "problems"), FILES)
def test_a_spoilt_file_is_told_with_its_lines(
    tmp_path: Path, name: str, content: bytes, problems: list[tuple[int, str]]
) -> None:
    assert [(each.line, each.text()) for each in check(tmp_path, content, name).problems] == problems


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize("depth", [50, 300, 900, 960, 2_000, 50_000])
@pytest.mark.parametrize(
    "around",
    [
        '{"prompt": %s, "response": "a"}', '{"tools": [%s], "prompt": "a", "conversations": [%s]}',
        '{"conversations": [{"role": "user", "content": "a"}, {"role": "tool", "name": "f", "parameters": {"a": %s}}]}',
        '{"conversations": [{"role": "user", "content": "a"}, {"role": "tool", "name": "f", "parameters": {}, "observation": %s}]}',
        '{"tools": [{"name": "f", "parameters": %s}], "conversations": [{"role": %s, "content": "a"}]}',
        '{"messages": [{"role": %s}]}', '{"instruction": "a", "input": %s, "output": "b"}',
    ],
)  # fmt: skip
def test_deep_nesting_ends_in_words(tmp_path: Path, depth: int, around: str) -> None:
    found = check(tmp_path, around.replace("%s", nested(depth)) + f"\n{GOOD}\n")
    assert found.records + len(found.problems) == 2
    assert all(each.text() and each.line == 1 for each in found.problems)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_an_endless_line_ends_in_words(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "LONGEST_RECORD", 1 << 20)
    long = '{"prompt": "' + "x" * 3_000_000 + '", "response": "y"}'
    text = {
        "a.jsonl": f'{GOOD}\n{long}\n{GOOD[:-5]}no"}}\n',
        "a.json": f"[{GOOD},\n{long}]",
        "a.csv": f"prompt,response\ngood,yes\n{'x' * 3_000_000},y\n",
    }[name]
    found = check(tmp_path, text, name)
    assert [each.text() for each in found.problems] == ["The record is longer than 1 million characters."]
    assert found.problems[0].line == {"a.jsonl": 2, "a.json": 2, "a.csv": 3}[name]
    assert found.records == (2 if name == "a.jsonl" else 1)


def mended(folder: Path, record: str) -> list[tuple[str, str]] | None:
    check(folder, record + "\n")
    ((_, _, examined),) = read_examined(folder / "data.jsonl")
    said: tuple[Message, ...] | None = examined.mended
    return None if said is None else [(message.role[0], message.content) for message in said]


@pytest.mark.parametrize(
    ("record", "after"),
    [
        (turns(("u", "x"), ("u", "y"), ("a", "z"), ("a", "w")), [("u", "x\ny"), ("a", "z\nw")]),
        (turns(("u", "x"), ("a", "y"), ("u", "z"), ("u", "w")), [("u", "x"), ("a", "y")]),
        (turns(("u", "x"), ("a", "y"), ("u", "z"), ("a", " ")), [("u", "x"), ("a", "y")]),
        (turns(("u", 1), ("a", {"b": [True, None]})), [("u", "1"), ("a", '{"b": [true, null]}')]),
        (turns(("u", "x"), ("a", "y"), {"role": "assistant", "content": "z", "loss": False}), None),
        (turns(("u", "x"), ("a", "")), None),
        (turns(("s", "x"), ("a", "y"), ("u", "z")), None),
        (turns(("u", "x"), ("a", ""), ("u", "z"), ("a", "w")), None),
    ],
)
def test_what_has_a_safe_mend_is_mended(tmp_path: Path, record: str, after: Any) -> None:
    assert mended(tmp_path, record) == after
    (problem,) = check_file(tmp_path / "data.jsonl").problems
    assert (problem.fix is not None) == (after is not None)


def test_a_faultless_record_is_left_as_it_is(tmp_path: Path) -> None:
    record = turns(
        ("s", "s"), ("u", "x"), ("a", "thought"), call(a=1, b="x", c=[1, 2.5], d={"e": True}), ("a", ""), call(a=2.0),
        ("a", "y"), ("u", "z"), ("a", "f\ntool_call(a=1)"), ("o", "r"), ("a", "w"), tools=TOOLS,
    )  # fmt: skip
    assert check(tmp_path, record).problems == ()
    free = [{"name": "f", "parameters": {"type": "object", "properties": {}, "additionalProperties": True}}]
    assert check(tmp_path, called(tools=free, z=1)).problems == ()
    assert check(tmp_path, called(tools=["f: described in words"], z=1)).problems == ()
    assert (
        check(tmp_path, called(tools=[{"name": "f", "parameters": [{"name": "a", "type": "str"}]}], z=1)).problems == ()
    )


def test_slips_in_other_encodings_are_told(tmp_path: Path) -> None:
    lines = ['{"prompt": "你好你好", "response": "再见"}', '{"prompt": "天气天气", "response": "很好"}']
    wide = b"\xff\xfe" + "\n".join(lines).encode("utf-16-le")
    assert check(tmp_path, wide).records == 2
    with pytest.raises(StudioError, match="is not text in its encoding"):
        check(tmp_path, wide[:-30] + b"\x00\xd8" + wide[-30:])
    head = (GOOD + "\n").encode() * 30_000  # more than what the encoding is known by
    chinese = "\n".join(lines).encode("gb18030")
    late = check(tmp_path, chinese + b"\n" + head + chinese.replace("再见".encode("gb18030"), b"\xff\xff") + b"\n")
    assert [(each.line, each.reason.key) for each in late.problems if each.fix is None] == [
        (30_003, "data.line_encoding")
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(StudioError, match="cannot be read"):
        check_file(tmp_path / "a.jsonl")
    with pytest.raises(StudioError, match=r"cannot be read|There is no file"):
        check_file(tmp_path / "a\0b.jsonl")


@pytest.mark.parametrize(
    ("schema", "value", "fine"),
    [
        ({"type": "integer"}, 2.0, True), ({"type": "integer"}, 2.5, False), ({"type": "number"}, True, False),
        ({"enum": [1, "a"]}, 1.0, True), ({"enum": [1]}, True, False), ({"type": "string", "nullable": True}, None, True),
        ({"type": "string"}, None, False), ({"type": ["string", "null"]}, None, True), ({"type": "str"}, 5, True),
        ({"type": "object", "properties": {}}, {"x": 1}, False), ({"type": "object"}, {"x": 1}, True),
        ({"type": "object", "properties": {}, "additionalProperties": {}}, {"x": 1}, True),
        ({"type": "object", "properties": {}, "patternProperties": {"x": {}}}, {"x": 1}, True),
        ({"type": "array", "items": {"enum": ["a"]}}, ["a", "b"], False), ({"anyOf": [{"type": "null"}]}, 1, True),
        ({"type": {}, "enum": 5, "items": 1, "properties": [], "required": 3}, [1], True), (7, 1, True),
    ],
)  # fmt: skip
def test_values_against_their_schema(tmp_path: Path, schema: Any, value: Any, fine: bool) -> None:
    tools = [{"name": "f", "parameters": {"type": "object", "properties": {"v": schema}}}]
    assert (check(tmp_path, called(tools=tools, v=value)).problems == ()) == fine


@given(kinds=st.lists(st.sampled_from("abc"), max_size=60), most=st.integers(1, 9))
def test_a_tally_keeps_the_first_of_each_kind_and_counts_all(kinds: list[str], most: int) -> None:
    found = [Problem("f", line, StudioError(kind), kind if kind == "a" else None) for line, kind in enumerate(kinds)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(problems, "KEPT", most)
        tally = problems.ProblemTally.of(found)
        assert tally.kept == [each for at, each in enumerate(found) if kinds[:at].count(each.reason.key) < most]
        assert (tally.count, tally.fixable) == (len(kinds), kinds.count("a"))
        assert {key: count for (_, key), count in tally.not_kept.items()} == {
            kind: kinds.count(kind) - most for kind in set(kinds) if kinds.count(kind) > most
        }
