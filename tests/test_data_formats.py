"""Every format that people bring becomes the same official turns, from files of every kind and encoding."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glmstudio.data.conversion import convert_toolalpaca
from glmstudio.data.readers.sources import MOST, source_files
from glmstudio.data.readers.values import read_values
from glmstudio.data.records import Record, check_file, read_records, record_messages
from glmstudio.errors import StudioError
from glmstudio.families.message import Message, tools_message

WEATHER = {
    "name": "get_weather",
    "description": "Says the weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CALL = Message("assistant", "", "get_weather", trained=True, arguments={"city": "上海"})
BESIDE = replace(CALL, together=True)


def messages_of(folder: Path, *records: Any, name: str = "data.jsonl") -> list[list[Message]]:
    """The messages of records, which the doctor finds no fault with."""
    file = folder / name
    file.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    assert check_file(file).problems == ()
    found = list(read_records(file))
    assert all(isinstance(item, Record) for item in found)
    return [list(item.messages) for item in found if isinstance(item, Record)]


def user(text: str) -> Message:
    return Message("user", text)


def answer(text: str, trained: bool = True) -> Message:
    return Message("assistant", text, trained=trained)


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Hi", "response": "Hello"},
        {"prompt": "Hi", "completion": "Hello"},
        {"question": "Hi", "answer": "Hello"},
        {"query": "Hi", "response": "Hello"},
        {"content": "Hi", "summary": "Hello"},
        {"instruction": "Hi", "output": "Hello"},
        {"instruction": "Hi", "input": "", "output": "Hello"},
        {"instruction": "", "input": "Hi", "output": "Hello"},
        {"instruction": "Hi", "input": None, "output": "Hello", "system": "", "history": []},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        {"conversations": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]},
                {"role": "assistant", "content": "Hello", "tool_calls": None},
            ],
            "tools": [],
        },
    ],
)
def test_one_question_and_answer_in_every_format(tmp_path: Path, record: dict[str, Any]) -> None:
    assert messages_of(tmp_path, record) == [[user("Hi"), answer("Hello")]]


def test_alpaca_with_all_it_may_have(tmp_path: Path) -> None:
    record = {
        "system": "Be brief.", "history": [["a", "b"]], "instruction": "Add.", "input": "1 and 2", "output": "3",
    }  # fmt: skip
    want = [Message("system", "Be brief."), user("a"), answer("b"), user("Add.\n1 and 2"), answer("3")]
    assert messages_of(tmp_path, record) == [want]


OPENAI = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "上海?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "上海"}'}},
                {"id": "b", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "上海"}}},
            ],
        },
        {"role": "tool", "tool_call_id": "b", "content": "second"},
        {"role": "tool", "tool_call_id": "a", "content": "first"},
        {"role": "assistant", "content": "晴。"},
    ],
    "tools": [{"type": "function", "function": WEATHER}],
}


def test_openai_calls_find_their_results_by_id(tmp_path: Path) -> None:
    tools = tools_message([WEATHER], ["Be brief."])  # as the chat puts a system text before tools
    results = [Message("observation", "first"), Message("observation", "second")]
    want = [tools, user("上海?"), CALL, results[0], BESIDE, results[1], answer("晴。")]
    assert messages_of(tmp_path, OPENAI) == [want]


def test_openai_old_function_calls_and_weights(tmp_path: Path) -> None:
    record = {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello", "weight": 0},
            {"role": "user", "content": "上海?"},
            {
                "role": "assistant",
                "content": "",
                "function_call": {"name": "get_weather", "arguments": '{"city": "上海"}'},
            },
            {"role": "function", "name": "get_weather", "content": "晴"},
            {"role": "assistant", "content": "晴。", "weight": 1},
        ],
        "functions": [WEATHER],
    }
    (messages,) = messages_of(tmp_path, record)
    assert messages[0] == tools_message([WEATHER])
    assert messages[2] == answer("Hello", trained=False)
    assert messages[4:] == [CALL, Message("observation", "晴"), answer("晴。")]


def test_a_call_at_the_end_needs_no_result(tmp_path: Path) -> None:
    record = {"messages": OPENAI["messages"][1:3], "tools": OPENAI["tools"]}
    (messages,) = messages_of(tmp_path, record)
    assert messages[2:] == [CALL, Message("observation", ""), BESIDE, Message("observation", "")]


@pytest.mark.parametrize("tools", [[WEATHER], json.dumps([WEATHER]), [{"type": "function", "function": WEATHER}]])
@pytest.mark.parametrize("result", ["observation", "tool"])
def test_sharegpt_with_calls(tmp_path: Path, tools: Any, result: str) -> None:
    call = {"name": "get_weather", "arguments": {"city": "上海"}}
    record = {
        "conversations": [
            {"from": "human", "value": "上海?"},
            {"from": "function_call", "value": json.dumps(call, ensure_ascii=False)},
            {"from": result, "value": "晴"},
            {"from": "gpt", "value": "晴。"},
        ],
        "tools": tools,
    }
    want = [tools_message([WEATHER]), user("上海?"), CALL, Message("observation", "晴"), answer("晴。")]
    assert messages_of(tmp_path, record) == [want]
    (with_system,) = messages_of(tmp_path, record | {"system": "Be brief."})
    assert with_system[0] == tools_message([WEATHER], ["Be brief."])


def test_official_records_keep_two_system_messages(tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
    ]
    record = {"tools": [WEATHER], "conversations": turns}
    assert messages_of(tmp_path, record) == [list(record_messages(record))]
    assert record_messages(record)[:2] == (tools_message([WEATHER]), Message("system", "s"))


def test_toolalpaca_is_read_without_converting(tmp_path: Path) -> None:
    instance = {
        "input": "上海?",
        "intermediate_steps": [[["get_weather", '{"city": "上海"}', "I ask. Action: x"], "晴"]],
        "Final Thought": "I know.",
        "output": "晴。",
    }
    api = {"NLDocumentation": "get_weather: ...", "Instances": [instance, instance | {"input": "b"}, "failed"]}
    file = tmp_path / "train_data.json"
    file.write_text(json.dumps([api]))
    items = list(read_records(file))
    first = items[0]
    assert isinstance(first, Record)
    assert list(first.messages) == [
        tools_message(["get_weather: ..."]), user("上海?"), answer("I ask."), CALL, Message("observation", "晴"),
        answer("I know.\n晴。"),
    ]  # fmt: skip
    assert [isinstance(item, Record) for item in items] == [True, True, False]
    assert convert_toolalpaca(file, tmp_path / "out.jsonl").records == 2
    assert [item.messages for item in read_records(tmp_path / "out.jsonl") if isinstance(item, Record)] == [
        item.messages for item in items if isinstance(item, Record)
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables(tmp_path: Path, delimiter: str, end: str) -> None:
    rows = [["Prompt", "response "], ["Hi", "Hello"], ['"two', 'lines, ""here"""'], ["a", "b"]]
    rows[2] = [f'"two{end}lines; here"', '"say ""x"", y\tz"']
    file = tmp_path / "data.csv"
    file.write_bytes(end.join(delimiter.join(row) for row in rows).encode("utf-8-sig"))
    found = [item for item in read_records(file) if isinstance(item, Record)]
    assert [item.line for item in found] == [2, 3, 5]
    assert [message.content for message in found[1].messages] == [f"two{end}lines; here", 'say "x", y\tz']
    assert check_file(file).problems == ()


def test_a_table_may_have_the_columns_of_alpaca(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_text('instruction,input,output,history\nAdd.,1 and 2,3,"[[""a"", ""b""]]"\nHi,,Hello,\n')
    found = [[message.content for message in item.messages] for item in read_records(file) if isinstance(item, Record)]
    assert found == [["a", "b", "Add.\n1 and 2", "3"], ["Hi", "Hello"]]


@pytest.mark.parametrize(
    "text",
    [
        '[{"prompt": "a", "response": "b"}, {"prompt": "c",\n "response": "d"}]',
        '{"prompt": "a", "response": "b"}\n{"prompt": "c",\n "response": "d"}\n',  # lines under a .json name
        '\ufeff  [\n{"prompt": "a", "response": "b"},\n\n{"prompt": "c", "response": "d"}\n]\n\n',
    ],
)
def test_a_json_file_is_a_list_or_objects(tmp_path: Path, text: str) -> None:
    file = tmp_path / "data.json"
    file.write_text(text, encoding="utf-8")
    assert check_file(file).problems == ()
    assert check_file(file).records == 2


def test_a_json_file_may_be_one_record(tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    file.write_text(json.dumps({"prompt": "a", "response": "b"}, indent=2))
    assert [item.line for item in read_records(file)] == [1]


def test_values_come_whole_over_the_borders_of_chunks(tmp_path: Path) -> None:
    """Strings, escapes, numbers and words lie across every place where a chunk may end."""
    values = [
        ["x" * size, 'é你😀\\"\n' * (size % 7), size * 1.5, True, None, {"k": [size]}] for size in range(0, 3000, 13)
    ]
    long = ["y" * 700_000, *values]
    file = tmp_path / "data.json"
    for ascii_only in (True, False):
        file.write_text(json.dumps(long, ensure_ascii=ascii_only, indent=1), encoding="utf-8")
        assert [value for _, value in read_values(file)] == long
    for pad in range(40):
        file.write_text(" " * ((1 << 18) - 20 + pad) + "[false, 12345, null, -1.5e3, true, {}]")
        assert [value for _, value in read_values(file)] == [False, 12345, None, -1500.0, True, {}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "gb18030"])
@pytest.mark.parametrize("name", ["data.jsonl", "data.json", "data.csv"])
def test_encodings(tmp_path: Path, encoding: str, name: str) -> None:
    table = "prompt,response\n你好，今天天气怎么样？,很好，😀谢谢。\n"
    record = json.dumps({"prompt": "你好，今天天气怎么样？", "response": "很好，😀谢谢。"}, ensure_ascii=False)
    text = {"data.jsonl": record + "\n", "data.json": f"[{record}]", "data.csv": table}[name]
    mark = b"\xff\xfe" if encoding == "utf-16-le" else b""
    (tmp_path / name).write_bytes(mark + text.encode(encoding))
    (item,) = read_records(tmp_path / name)
    assert isinstance(item, Record)
    assert [message.content for message in item.messages] == ["你好，今天天气怎么样？", "很好，😀谢谢。"]


def test_a_folder_is_read_by_name_and_nothing_outside(tmp_path: Path) -> None:
    good = '{"prompt": "a", "response": "%s"}\n'
    folder = tmp_path / "set"
    (folder / "sub").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for name in ("b.jsonl", "a.JSON", "sub/c.jsonl", ".x.jsonl", ".hidden/d.jsonl", "notes.txt"):
        (folder / name).write_text(good % name)
    (folder / "t.csv").write_text("prompt,response\na,t\n")
    (tmp_path / "out.jsonl").write_text(good % "out")
    (folder / "link.jsonl").symlink_to(tmp_path / "out.jsonl")
    (folder / "inside.jsonl").symlink_to(folder / "b.jsonl")
    (folder / "linked").symlink_to(tmp_path)
    assert [file.relative_to(folder).as_posix() for file in source_files(folder)] == [
        "a.JSON", "b.jsonl", "inside.jsonl", "sub/c.jsonl", "t.csv",
    ]  # fmt: skip
    items = list(read_records(folder))
    assert [Path(item.file).name for item in items] == ["a.JSON", "b.jsonl", "inside.jsonl", "c.jsonl", "t.csv"]
    (problem,) = check_file(folder).problems
    assert problem.text() == "The record is the same as the one on line 1 of b.jsonl."


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StudioError, match=r"no training data in the folder"):
        check_file(tmp_path)


def test_a_folder_that_is_no_data_set_is_refused_before_it_is_walked(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text("{}")
    for number in range(MOST // 1000 + 1):
        (tmp_path / str(number)).mkdir()
        for name in range(1000):
            (tmp_path / str(number) / str(name)).touch()
    with pytest.raises(StudioError) as raised:
        source_files(tmp_path)
    assert str(raised.value) == (
        f"The folder {tmp_path} contains more than 10,000 files and folders, so it is hardly a folder of training "
        "data. Choose a folder that contains only your conversations."
    )
