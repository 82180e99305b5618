"""Tokens, prompts, labels, records and ToolAlpaca against the original code's output."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from glmstudio.data.conversion import convert_toolalpaca
from glmstudio.data.protocol.prompt import chat_ids, training_example
from glmstudio.data.protocol.tokenizer import TextStream, Tokenizer
from glmstudio.data.records import Problem, Record, check_file, read_records, record_messages
from glmstudio.errors import StudioError
from glmstudio.families.chatglm3 import TOOL_PROMPT
from glmstudio.families.message import Message, tools_message
from glmstudio.families.python_calls import CallError, parse_call, render_call
from glmstudio.paths import DEMO
from tests.vocabulary import BESIDE, GOLDEN, VOCABULARY, needs_vocabulary


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(VOCABULARY)


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    data: dict[str, Any] = json.loads((GOLDEN / "prompts.json").read_text(encoding="utf-8"))
    return data


def as_message(turn: dict[str, Any]) -> Message:
    if "tools" in turn:
        assert turn["content"].endswith(TOOL_PROMPT)
        return tools_message(turn["tools"], turn["content"].removesuffix(TOOL_PROMPT).splitlines())
    return Message(turn["role"], turn["content"], turn.get("metadata", ""))


@needs_vocabulary
def test_chat_prompts_equal_the_original(tokenizer: Tokenizer, expected: dict[str, Any]) -> None:
    assert len(expected["chat"]) == 6
    for case in expected["chat"]:
        turns = [as_message(turn) for turn in case["history"]]
        turns.append(Message(case.get("role", "user"), case["query"]))
        assert chat_ids(tokenizer, turns) == case["input_ids"]


@needs_vocabulary
def test_training_labels_equal_the_original(tokenizer: Tokenizer, expected: dict[str, Any]) -> None:
    assert len(expected["train"]) == 4
    for case in expected["train"]:
        example = training_example(tokenizer, record_messages(case["item"]))
        assert example.input_ids == case["input_ids"]
        assert example.labels == case["labels"]


@needs_vocabulary
def test_text_survives_the_tokenizer(tokenizer: Tokenizer, expected: dict[str, Any]) -> None:
    assert len(expected["decode"]) == 10
    for case in expected["decode"]:
        assert tokenizer.encode(case["text"]) == case["ids"]
        assert tokenizer.decode(case["ids"]) == case["decoded"]
        stream = TextStream(tokenizer)
        assert "".join(stream.push(index) for index in case["ids"]) + stream.flush() == case["decoded"]


class Whole:
    """What `TextStream` says, by decoding the whole answer again for every id."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._ids, self._given = tokenizer, [], 0

    def push(self, index: int) -> str:
        self._ids.append(index)
        return "" if self._tokenizer.decode(self._ids).endswith("\ufffd") else self.flush()

    def flush(self) -> str:
        text = self._tokenizer.decode(self._ids)[self._given :]
        self._given += len(text)
        return text


@pytest.mark.parametrize("folder", [DEMO / "model", pytest.param(VOCABULARY, marks=needs_vocabulary)])
def test_a_stream_says_what_the_whole_text_says(folder: Path) -> None:
    """Random ids, among them many bytes of characters, spaces and special tokens."""
    tokenizer, draw = Tokenizer(folder), random.Random(1)
    names = [tokenizer.name(index) for index in range(tokenizer.pieces)]
    bytes_ = [index for index, name in enumerate(names) if name.startswith("<0x")] or [5]
    spaces = [index for index, name in enumerate(names) if name.startswith("\u2581") and len(name) < 3]
    for _ in range(1000):
        kinds = (range(tokenizer.size), bytes_, spaces, range(3, tokenizer.pieces))
        ids = [draw.choice(draw.choice(kinds)) for _ in range(draw.randrange(1, 30))]
        mine, whole = TextStream(tokenizer), Whole(tokenizer)
        assert [mine.push(index) for index in ids] == [whole.push(index) for index in ids]
        assert mine.flush() == whole.flush()


@needs_vocabulary
def test_special_ids(tokenizer: Tokenizer) -> None:
    assert tokenizer.pieces == 64789
    assert tokenizer.special == {
        "[MASK]": 64789, "[gMASK]": 64790, "[sMASK]": 64791, "sop": 64792, "eop": 64793, "<|system|>": 64794,
        "<|user|>": 64795, "<|assistant|>": 64796, "<|observation|>": 64797,
    }  # fmt: skip
    assert tokenizer.stop_ids == (2, 64795, 64797)


# Ours, and in full where the reference data lies beside the clone: the words of that are not ours to carry.
TOOLALPACA = [(GOLDEN / "toolalpaca", 3, 2), (BESIDE / "toolalpaca", 70, 30)]


@pytest.mark.parametrize(("folder", "records", "dropped"), [each for each in TOOLALPACA if each[0].is_dir()])
def test_toolalpaca_equals_the_original(folder: Path, records: int, dropped: int, tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    conversion = convert_toolalpaca(folder / "train_data_sample.json", target)
    want = (folder / "expected_formatted.jsonl").read_text(encoding="utf-8").splitlines()
    got = target.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in got] == [json.loads(line) for line in want]
    assert (conversion.records, len(conversion.dropped)) == (records, dropped)
    assert all("are not a JSON object" in problem.text() for problem in conversion.dropped)
    assert check_file(target).problems == ()


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudioError, match=r"There is no tokenizer at .*tokenizer\.model"):
        Tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(StudioError, match="is a placeholder of 43 bytes"):
        Tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "This is not valid JSON; it breaks at column 2."),
        ("[]", "The record is not an object in braces."),
        ("{}", "The record has no list of messages under “conversations”."),
        ('{"conversations": [1]}', "Message 1 is not an object in braces."),
        (
            '{"conversations": [{"role": "bot", "content": "x"}]}',
            "Message 1 has the role “bot”; it must be one of system, user, assistant, observation, tool.",
        ),
        ('{"conversations": [{"role": "user", "content": null}]}', "Message 1 has no text under “content”."),
        (
            '{"conversations": [{"role": "user", "content": "x"}]}',
            "The record has nothing to learn: no message of the assistant or of a tool is trained on.",
        ),
        (
            '{"conversations": [{"role": "assistant", "content": "x", "loss": "no"}]}',
            "Message 1 has a “loss” that is neither true nor false.",
        ),
        (
            '{"conversations": [{"role": "tool", "parameters": {}}]}',
            "Message 1 is a tool call whose name is missing, or not on one line.",
        ),
        (
            '{"conversations": [{"role": "tool", "name": "f", "parameters": [1]}]}',
            "Message 1 calls the tool f without an object under “parameters”.",
        ),
        (
            '{"conversations": [{"role": "tool", "name": "f", "parameters": {"a-b": 1}}]}',
            "Message 1 calls the tool f with the argument “a-b”, which cannot be written in a call; use letters, "
            "digits and underscores.",
        ),
    ],
)
def test_a_bad_record_is_told_with_its_line(tmp_path: Path, line: str, reason: str) -> None:
    good = '{"conversations": [{"role": "assistant", "content": "hi"}]}'
    file = tmp_path / "data.jsonl"
    file.write_text(f"{good}\n\n{line}\n{good}\n", encoding="utf-8")
    items = list(read_records(file))
    assert [type(item) for item in items] == [Record, Problem, Record]
    problem = items[1]
    assert isinstance(problem, Problem)
    assert problem.to_json() == {"file": str(file), "line": 3, "reason": reason}


def test_a_json_list_counts_lines_and_stops_where_it_breaks(tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    good = '{"conversations": [\n{"role": "assistant", "content": "hi"}]}'
    file.write_text(f"[\n{good},\n{good}\n {good}]", encoding="utf-8")
    lines = [(item.line, isinstance(item, Record)) for item in read_records(file)]
    assert lines == [(2, True), (4, True), (6, False)]


@pytest.mark.parametrize("name", ["data.txt", "missing.jsonl", "folder.json"])
def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(StudioError, match=name.replace(".", r"\.")):
        check_file(tmp_path / name)


def test_calls_go_there_and_back() -> None:
    arguments = {"city": "Pa'ris", "days": 3, "ok": True, "none": None, "y": 1.5, "tags": ["a", {"b": -2}]}
    assert parse_call(render_call(arguments)) == arguments
    assert parse_call("tool_call()") == {}
    assert parse_call("Sure.\n```python\ntool_call(a=1)\n``` and so on") == {"a": 1}


@pytest.mark.parametrize(
    "text",
    [
        "tool_call(a=__import__('os').system('true'))", "print(1)", "tool_call(1)", "tool_call(**{'a': 1})",
        "tool_call(a=1, a=2)", "tool_call(a=b)", "x.tool_call(a=1)", "tool_call(a=1); print(2)", "", "```python\n```",
        "tool_call(a=" + "(" * 500 + ")" * 500 + ")", "tool_call(a='" + "x" * 30_000 + "')", "tool_call(a=\x00)",
        "tool_call(a={[]: 1})", "tool_call(a=f'{1}')", "lambda: tool_call()", "tool_call(a=1)(b=2)",
    ],
)  # fmt: skip
def test_what_is_no_call_is_refused(text: str) -> None:
    with pytest.raises(CallError):
        parse_call(text)


def test_arguments_may_be_words_of_python() -> None:
    arguments = {"from": "CNY = ¥", "to": "if=1", "class": None, "in_": 2}
    assert parse_call(render_call(arguments)) == arguments
    with pytest.raises(CallError, match="The argument from is given twice"):
        parse_call("tool_call(from=1, from=2)")


def test_half_a_character_is_told_before_training(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text(
        '{"conversations": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "\\ud83d"}]}\n'
    )
    (problem,) = check_file(file).problems
    assert problem.reason.key == "data.record_half_character"
    file.write_text(
        '{"conversations": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "\\ud83d\\ude00"}]}\n'
    )
    assert check_file(file).problems == ()


def test_an_instance_without_steps_is_left_out(tmp_path: Path) -> None:
    whole: dict[str, Any] = {"input": "a", "intermediate_steps": [], "Final Thought": "b", "output": "c"}
    file = tmp_path / "in.json"
    file.write_text(json.dumps([{"NLDocumentation": "x", "Instances": [whole | {"intermediate_steps": None}, whole]}]))
    conversion = convert_toolalpaca(file, tmp_path / "out.jsonl")
    assert (conversion.records, [problem.reason.key for problem in conversion.dropped]) == (1, ["data.toolalpaca_step"])
