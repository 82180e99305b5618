"""Training, the score and the server show the model the same tokens for the same messages and tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from glmstudio.chat.openai_messages import to_turns
from glmstudio.chat.tool_score import questions
from glmstudio.data.formats import ParsedConversation, conversations
from glmstudio.data.protocol.prompt import chat_ids, training_example
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.data.protocol.turns import record_messages
from glmstudio.errors import StudioError
from glmstudio.families.chatglm3 import INTERPRETER_PROMPT, TOOL_PROMPT
from glmstudio.paths import DEMO
from tests.written import written

TOKENIZER = Tokenizer(DEMO / "model")
MANY = settings(max_examples=300, deadline=None)

texts = st.text("ab 5.,{}\"'\\\n你好🙂<|", max_size=12)
names = st.sampled_from(["get_time", "add", "interpreter", "天气"])
keys = st.sampled_from(["a", "b", "城市", "code"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-2, 2) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=2),
    max_leaves=4,
)
schemas = st.sampled_from([{}, None, {"type": "object", "properties": {}}, {"properties": {"b": {}}, "type": "object"}])


@st.composite
def tools(draw: Any) -> dict[str, Any]:
    """A tool as people send it: fields left out, null, more of them, in any order; with or without OpenAI's wrapping."""
    fields: dict[str, Any] = {"name": draw(names)}
    for name, value in [
        ("description", st.none() | texts),
        ("parameters", schemas),
        ("strict", st.booleans()),
        ("more", values),
    ]:
        if draw(st.booleans()):
            fields[name] = draw(value)
    shuffled = dict(draw(st.permutations(list(fields.items()))))
    wrapped = {"type": "function", "function": shuffled}
    return draw(st.sampled_from([wrapped, shuffled, {"function": shuffled}, {"type": "code_interpreter"}]))


@st.composite
def messages(draw: Any) -> list[dict[str, Any]]:
    """A conversation in OpenAI's words that ends with an answer."""
    made = [{"role": draw(st.sampled_from(["system", "developer"])), "content": draw(texts)} for _ in draw(short)]
    for number in range(draw(st.integers(1, 3))):
        made.append({"role": "user", "content": draw(texts) or "?"})
        for place in range(draw(st.integers(0, 2))):
            made += draw(calls(f"{number}.{place}"))
        made.append({"role": "assistant", "content": draw(texts) or "!"})
    return made


short = st.sampled_from([(), (), (0,), (0, 1)])


@st.composite
def calls(draw: Any, mark: str) -> list[dict[str, Any]]:
    """An assistant's message with calls, and their results in any order."""
    content = draw(st.sampled_from([None, "", "I look."]))
    asked = [{"name": draw(names), "arguments": draw(arguments)} for _ in range(draw(st.integers(1, 2)))]
    if len(asked) == 1 and draw(st.booleans()):
        said = {"role": "assistant", "content": content, "function_call": asked[0]}
        return [said, {"role": "function", "name": asked[0]["name"], "content": draw(texts)}]
    made = [{"id": f"{mark}-{at}", "type": "function", "function": each} for at, each in enumerate(asked)]
    results = [{"role": "tool", "tool_call_id": each["id"], "content": draw(st.none() | texts)} for each in made]
    return [{"role": "assistant", "content": content, "tool_calls": made}, *draw(st.permutations(results))]


given_arguments = st.dictionaries(keys, values, max_size=3)
arguments = given_arguments.map(json.dumps) | given_arguments | st.sampled_from(["", "  ", "{}", None])


def learned_ids(found: ParsedConversation) -> tuple[list[int], list[int]]:
    """The ids of a record, and each place where a message of it begins to be learned: after its role's token."""
    record = record_messages(found.record, found.system)
    example = training_example(TOKENIZER, record)
    assistant = TOKENIZER.special["<|assistant|>"]
    places = [at + 1 for at, token in enumerate(example.input_ids) if token == assistant]
    return example.input_ids, places


def assert_same(record: dict[str, Any], folder: Path) -> int:
    """Every prompt that the server or the score would make of a record begins its training tokens; how many there are."""
    (found,) = conversations(record)
    if isinstance(found, StudioError):
        return 0
    ids, places = learned_ids(found)
    asked = 0
    for number, message in enumerate(record["messages"]):
        if message["role"] == "assistant":
            prompt = chat_ids(TOKENIZER, to_turns(record["messages"][:number], record.get("tools")))
            assert prompt == ids[: len(prompt)]
            assert len(prompt) in places
            asked += 1
    file = folder / "one.jsonl"
    file.write_text(json.dumps(record), encoding="utf-8")
    for question in questions(file):
        prompt = chat_ids(TOKENIZER, to_turns(question.messages, question.tools))
        assert prompt == ids[: len(prompt)]
        assert len(prompt) in places
    return asked


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("same")


@given(said=messages(), offered=st.none() | st.lists(tools(), max_size=3))
@MANY
def test_a_conversation_in_openai_words(said: list[dict[str, Any]], offered: Any, folder: Path) -> None:
    record = {"messages": said} | ({} if offered is None else {"tools": offered})
    try:
        asked = assert_same(record, folder)
    except StudioError:  # two system texts without tools, say: such a record is not learned from
        return
    assert asked


@example(
    offered=[{"name": "interpreter", "description": "", "parameters": {"type": "object", "properties": {}}}],
    parameters={}, name="interpreter", system=False,
)  # fmt: skip
@given(
    offered=st.lists(tools(), max_size=2) | st.just(["words"]),
    parameters=given_arguments,
    name=names,
    system=st.booleans(),
)
@MANY
def test_the_score_asks_official_records_as_they_were_learned(
    offered: Any, parameters: dict[str, Any], name: str, system: bool, folder: Path
) -> None:
    record = {
        "tools": offered,
        "conversations": [
            *([{"role": "system", "content": "Be kind."}] if system else []),
            {"role": "user", "content": "5?"},
            {"role": "tool", "name": name, "parameters": parameters, "observation": "6"},
            {"role": "assistant", "content": "6."},
        ],
    }
    (found,) = conversations(record)
    assert isinstance(found, ParsedConversation)
    ids, places = learned_ids(found)
    file = folder / "official.jsonl"
    file.write_text(json.dumps(record), encoding="utf-8")
    prompts = [chat_ids(TOKENIZER, to_turns(each.messages, each.tools)) for each in questions(file)]
    assert [len(prompt) for prompt in prompts] == places
    assert all(prompt == ids[: len(prompt)] for prompt in prompts)


def test_fields_that_openai_has_and_the_model_never_saw(folder: Path) -> None:
    lean = {"type": "function", "function": {"name": "get_time"}}
    rich = {
        "type": "function",
        "function": {"strict": True, "more": [1], "parameters": {}, "name": "get_time", "description": None},
    }
    whole = {"name": "get_time", "description": "", "parameters": {"type": "object", "properties": {}}}
    said = [{"role": "user", "content": "5?"}, {"role": "assistant", "content": "6."}]
    found = [
        learned_ids(next(iter(conversations({"messages": said, "tools": [tool]})))) for tool in (lean, rich, whole)
    ]  # type: ignore[arg-type]
    assert found[0] == found[1] == found[2]
    assert assert_same({"messages": said, "tools": [rich]}, folder) == 1


def test_the_code_interpreter_is_learned_as_it_is_asked(folder: Path) -> None:
    code = {"id": "1", "type": "function", "function": {"name": "interpreter", "arguments": '{"code": "print(5)"}'}}
    record = {
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "5?"},
            {"role": "assistant", "content": None, "tool_calls": [code]},
            {"role": "tool", "tool_call_id": "1", "content": "5"},
            {"role": "assistant", "content": "5."},
        ],
        "tools": [{"type": "code_interpreter"}],
    }
    (found,) = conversations(record)
    assert isinstance(found, ParsedConversation)
    system, _, call, *_ = written(record_messages(found.record, found.system))
    assert system.content == f"Be kind.\n{INTERPRETER_PROMPT}"
    assert (call.metadata, call.content) == ("interpreter", "```python\nprint(5)\n```")
    assert assert_same(record, folder) == 2


def test_an_official_record_keeps_the_original_scripts_text_for_the_code_interpreter() -> None:
    tools = [{"name": "interpreter", "description": "", "parameters": {}}]
    turn = {"role": "tool", "name": "interpreter", "parameters": {"code": "print(5)"}, "observation": "5"}
    (found,) = conversations({"tools": tools, "conversations": [{"role": "user", "content": "5?"}, turn]})
    assert isinstance(found, ParsedConversation)
    system, _, call, _ = written(record_messages(found.record, found.system))
    assert system.content == f"{TOOL_PROMPT}\n{json.dumps(tools, indent=4, ensure_ascii=False)}"
    assert (call.metadata, call.content) == ("interpreter", "```python\ntool_call(code='print(5)')\n```")
