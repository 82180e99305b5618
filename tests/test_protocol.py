"""OpenAI's messages as ChatGLM3's turns, and answers as OpenAI's messages, without a server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmstudio.chat.openai_messages import (
    AnswerParser,
    Begun,
    Filled,
    ProtocolError,
    assistant_message,
    to_turns,
    tool_names,
)
from glmstudio.chat.sampling import Sampling
from glmstudio.data.protocol.prompt import chat_ids
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.families.chatglm3 import INTERPRETER_PROMPT, TOOL_PROMPT
from glmstudio.families.message import Message
from glmstudio.paths import DEMO
from glmstudio.serve.engine import GenerationJob
from glmstudio.serve.events import NewToken, PrefixHit
from glmstudio.serve.protocol.chat_request import read_request
from glmstudio.serve.protocol.chat_writer import Done, Writer
from glmstudio.serve.protocol.stops import Stops
from tests.vocabulary import GOLDEN, VOCABULARY, needs_vocabulary
from tests.written import written as as_written

CUTS = settings(max_examples=100, deadline=None)
DEMO_TOKENIZER = Tokenizer(DEMO / "model")
CODE = [{"type": "code_interpreter"}]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return DEMO_TOKENIZER


def call(name: str, key: str | None = None, **arguments: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
    return {"id": key or name, "type": "function", "function": function}


def calling(*calls: dict[str, Any], text: str | None = None) -> dict[str, Any]:
    return {"role": "assistant", "content": text, "tool_calls": list(calls)}


def result(key: str, content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": key, "content": content}


def turn(role: str, content: str, metadata: str = "") -> Message:
    return Message(role, content, metadata=metadata)


def openai_form(case: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A conversation of the original code as another program would send it: messages and tools."""
    messages: list[dict[str, Any]] = []
    tools: list[dict[str, Any]] = []
    for each in [*case["history"], {"role": case.get("role", "user"), "content": case["query"]}]:
        if each.get("tools"):
            tools = [{"type": "function", "function": tool} for tool in each["tools"]]
        elif each.get("metadata"):
            assert each["content"] == "```python\ntool_call(city='北京')\n```"
            messages.append(calling(call(each["metadata"], city="北京")))
        elif each["role"] == "observation":
            messages.append(result("get_weather", each["content"]))
        else:
            messages.append({"role": each["role"], "content": each["content"]})
    return messages, tools


@needs_vocabulary
def test_the_ids_are_those_of_the_original_code() -> None:
    cases = json.loads((GOLDEN / "prompts.json").read_text(encoding="utf-8"))["chat"]
    published = Tokenizer(VOCABULARY)
    seen = set()
    for case in cases:
        messages, tools = openai_form(case)
        seen |= {message["role"] for message in messages} | ({"tools"} if tools else set())
        assert chat_ids(published, to_turns(messages, tools)) == case["input_ids"]
    assert (len(cases), seen) == (6, {"system", "user", "assistant", "tool", "tools"})


def test_results_stand_behind_their_calls_in_whatever_order_they_came() -> None:
    messages = [
        {"role": "user", "content": "Q"},
        calling(call("f", "1", a=1), call("g", "2", b="x"), text="I look."),
        result("2", "second"),
        result("1", "first"),
        {"role": "assistant", "content": "A"},
        {"role": "user", "content": "again"},
        calling(call("f", "1", a=2)),
        result("1", "third"),
    ]
    assert as_written(to_turns(messages)) == [
        turn("user", "Q"),
        turn("assistant", "I look."),
        turn("assistant", "```python\ntool_call(a=1)\n```", "f"),
        turn("observation", "first"),
        turn("assistant", "```python\ntool_call(b='x')\n```", "g"),
        turn("observation", "second"),
        turn("assistant", "A"),
        turn("user", "again"),
        turn("assistant", "```python\ntool_call(a=2)\n```", "f"),
        turn("observation", "third"),
    ]


def test_a_call_without_result_and_one_with_a_used_name() -> None:
    """A call that never ran stays what the model said; two calls with one id take one result each at most."""
    assert as_written(
        to_turns([calling(call("f", "1", a=1), call("g", "1", b=2)), result("1", "r"), turnless("user", "go")])
    ) == [
        turn("assistant", "```python\ntool_call(a=1)\n```", "f"),
        turn("observation", "r"),
        turn("assistant", "```python\ntool_call(b=2)\n```", "g"),
        turn("user", "go"),
    ]
    with pytest.raises(ProtocolError) as caught:
        to_turns([calling(call("f", "1", a=1)), result("1", "r"), result("1", "r")])
    assert (str(caught.value), caught.value.param, caught.value.status) == (
        "messages[2].tool_call_id names no call of the message before that waits for a result.",
        "messages[2].tool_call_id",
        400,
    )


def turnless(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def test_tools_stand_behind_what_the_user_wants_of_the_system() -> None:
    tool = {"type": "function", "function": {"name": "f", "description": "d", "strict": True}}
    listed = json.dumps(
        [{"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}],
        indent=4,
        ensure_ascii=False,
    )
    asked = [turnless("system", "Be brief."), turnless("user", "Q"), turnless("developer", "And kind.")]
    assert as_written(to_turns(asked, [tool])) == [
        turn("system", f"Be brief.\nAnd kind.\n{TOOL_PROMPT}\n{listed}"),
        turn("user", "Q"),
    ]
    assert as_written(to_turns([turnless("user", "Q")], [tool["function"]])) == [
        turn("system", f"{TOOL_PROMPT}\n{listed}"),
        turn("user", "Q"),
    ]


def test_the_code_interpreter_has_its_own_prompt_and_rounds() -> None:
    ran = calling(call("interpreter", "1", code="print(1)\nprint('```')"))
    messages = [turnless("user", "Q"), ran, result("1", "1\n```")]
    assert as_written(to_turns(messages, CODE)) == [
        turn("system", INTERPRETER_PROMPT),
        turn("user", "Q"),
        turn("assistant", "```python\nprint(1)\nprint('```')\n```", "interpreter"),
        turn("observation", "1\n```"),
    ]
    (system, *_) = as_written(to_turns([turnless("system", "S"), turnless("user", "Q")], CODE))
    assert system == turn("system", f"S\n{INTERPRETER_PROMPT}")
    # Beside other tools it is one of the list, as the model knows only one system message.
    both = [*CODE, {"type": "function", "function": {"name": "f"}}]
    assert tool_names(both) == ["interpreter", "f"]
    assert as_written(to_turns([turnless("user", "Q")], both))[0].content.startswith(f"{TOOL_PROMPT}\n[\n")


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ('{"a": 1}', "```python\ntool_call(a=1)\n```"),
        ("", "```python\ntool_call()\n```"),
        ("not json", "not json"),
        ("[1]", "[1]"),
        ('{"a b": 1}', '{"a b": 1}'),
        ("[" * 100_000, "[" * 100_000),
    ],
    ids=["arguments", "empty", "no-json", "list", "no-names", "deep"],
)
def test_a_past_call_is_shown_as_the_model_writes_it_or_as_it_came(written: str, seen: str) -> None:
    past = {"id": "1", "type": "function", "function": {"name": "f\nevil", "arguments": written}}
    assert as_written(to_turns([calling(past)])) == [turn("assistant", seen, "f")]


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "x" * 65, "\x00"])
def test_a_tools_name_cannot_break_out_of_its_line(name: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        to_turns([turnless("user", "Q")], [{"type": "function", "function": {"name": name}}])
    assert (str(caught.value), caught.value.param) == (
        "A tool's name is 1 to 64 letters, digits or signs, without spaces.",
        "tools[0]",
    )


def shown(pieces: Sequence[str], *, may_call: bool = True) -> tuple[AnswerParser, list[Any]]:
    answer = AnswerParser(may_call=may_call)
    seen: list[Any] = []
    for piece in pieces:
        seen += answer.push(piece)
    return answer, seen + answer.end_segment()


def test_text_is_shown_as_it_comes_and_a_call_only_when_it_is_whole() -> None:
    answer = AnswerParser()
    assert [answer.push(piece) for piece in (" ", "\n", "  ", "He", "llo ", "you")] == [[], [], [], ["He"], ["llo "], ["you"]]  # fmt: skip
    assert answer.end_segment() == []
    (begun,) = answer.push("calculator\n```python\n")
    assert isinstance(begun, Begun)
    assert (begun.index, begun.name, answer.calls[0]["id"]) == (0, "calculator", begun.id)
    assert answer.push("tool_call(expression='1+1')\n```") == []
    assert answer.end_segment() == [Filled(0, '{"expression": "1+1"}')]
    (second,) = answer.push("interpreter\n")
    assert isinstance(second, Begun)
    assert answer.push("```python\nprint(1)\n```") == []
    assert answer.end_segment() == [Filled(1, '{"code": "print(1)"}')]
    assert assistant_message(answer.text, answer.calls) == {
        "role": "assistant",
        "content": "Hello you",
        "tool_calls": [
            {"id": begun.id, "type": "function", "function": {"name": "calculator", "arguments": '{"expression": "1+1"}'}},
            {"id": second.id, "type": "function", "function": {"name": "interpreter", "arguments": '{"code": "print(1)"}'}},
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("segment", "arguments"),
    [
        ("f\ntool_call(a=__import__('os').system('x'))", "tool_call(a=__import__('os').system('x'))"),
        ("f\n```python\ntool_call(a=1", "```python\ntool_call(a=1"),
        ("f\n", ""),
        ("f\ntool_call(a={1, 2})", "tool_call(a={1, 2})"),
        ("f\ntool_call(a=b'x')", "tool_call(a=b'x')"),
    ],
)
def test_what_is_no_call_is_handed_on_as_it_was_written(segment: str, arguments: str) -> None:
    answer, _ = shown([segment])
    assert answer.calls[0]["function"] == {"name": "f", "arguments": arguments}


def test_half_a_character_does_not_repeat_what_was_said(tokenizer: Tokenizer) -> None:
    answer, _ = shown(["\n Hi ", "", "😀", "", "!"])
    assert answer.text == "Hi 😀!"
    _, _, message, _ = written(tokenizer, ["\n Hi 😀😀 you"])  # each of several ids
    assert message["content"] == "Hi 😀😀 you"


SEGMENTS = st.lists(st.text("ab\n` 北😀f(=1)'", max_size=12), max_size=6)


@CUTS
@given(SEGMENTS, st.booleans())
def test_however_an_answer_is_cut_the_same_is_shown(pieces: list[str], may_call: bool) -> None:
    def plain(parts: Sequence[str]) -> tuple[str, list[Any], str]:
        answer, seen = shown(parts, may_call=may_call)
        text = "".join(piece for piece in seen if isinstance(piece, str))
        calls = [(p.name if isinstance(p, Begun) else p.arguments) for p in seen if not isinstance(p, str)]
        assert [each["function"] for each in answer.calls] == (
            [{"name": calls[0], "arguments": calls[1]}] if calls else []
        )
        return text, calls, answer.text

    whole = "".join(pieces)
    assert plain(pieces) == plain([whole]) == plain(list(whole))
    text, calls, kept = plain(pieces)
    assert text == kept
    assert not (calls and not may_call)


@CUTS
@given(SEGMENTS, st.lists(st.text("ab\n`北", min_size=1, max_size=4), min_size=1, max_size=4))
def test_however_a_text_is_cut_no_stop_is_seen_and_the_same_is_left(pieces: list[str], texts: list[str]) -> None:
    def left(parts: Sequence[str]) -> tuple[str, bool]:
        stops = Stops(texts)
        seen = "".join(stops.push(part) for part in parts)
        return seen + stops.flush(), stops.met

    whole = "".join(pieces)
    seen, met = left(pieces)
    assert (seen, met) == left([whole]) == left(list(whole))
    assert not any(stop in seen for stop in texts)
    assert whole.startswith(seen)
    assert met is any(stop in whole for stop in texts)
    assert met or seen == whole


def test_of_two_stops_the_one_that_is_whole_first_ends_the_answer() -> None:
    for parts in (["xabcd"], ["xab", "cd"], list("xabcd")):
        stops = Stops(["abcd", "bc"])
        assert ("".join(stops.push(part) for part in parts), stops.met, stops.flush()) == ("xa", True, "")


def written(
    tokenizer: Tokenizer, segments: Sequence[str], *, most: int = 10_000, end: bool = True, **more: Any
) -> tuple[list[Any], Done, dict[str, Any], GenerationJob]:
    """What a client sees of an answer of these segments: the pieces, the end, and the whole message."""
    body = {"model": "demo", "messages": [{"role": "user", "content": "Q"}], **more}
    job = GenerationJob([1, 2, 3], Sampling(max_tokens=most), lambda _: None)
    writer = Writer(tokenizer, read_request(body), job)
    ids: list[int] = []
    for number, segment in enumerate(segments):
        ids += [tokenizer.special["<|assistant|>"]] * bool(number) + tokenizer.encode(segment)
    seen: list[Any] = []
    ids += [tokenizer.stop_ids[1]] if end else []
    for event in [PrefixHit(2), *map(NewToken, ids)][: most + 1]:
        seen += writer.take(event)
    done = writer.end()
    return [*seen, *done.pieces], done, writer.message(), job


def text_of(pieces: Sequence[Any]) -> str:
    return "".join(piece for piece in pieces if isinstance(piece, str))


TOOLS = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]
CALL = "f\n```python\ntool_call(a='x')\n```"


def test_a_thought_two_calls_and_their_pieces(tokenizer: Tokenizer) -> None:
    pieces, done, message, job = written(
        tokenizer, ["\n I look.", CALL, "g\n```python\ntool_call(b=2)\n```"], tools=TOOLS
    )
    assert text_of(pieces) == "I look."
    deltas = [piece for piece in pieces if not isinstance(piece, str)]
    first, second = message["tool_calls"]
    assert deltas == [
        {"index": 0, "id": first["id"], "type": "function", "function": {"name": "f", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"a": "x"}'}},
        {"index": 1, "id": second["id"], "type": "function", "function": {"name": "g", "arguments": ""}},
        {"index": 1, "function": {"arguments": '{"b": 2}'}},
    ]
    assert (message["content"], message["refusal"], done.reason) == ("I look.", None, "tool_calls")
    counted = done.usage["completion_tokens"]
    assert done.usage == {
        "prompt_tokens": 3,
        "completion_tokens": counted,
        "total_tokens": 3 + counted,
        "prompt_tokens_details": {"cached_tokens": 2},
    }
    assert not job.cancel.is_set()


def test_one_call_is_one_call_and_frees_the_engine(tokenizer: Tokenizer) -> None:
    segments = [CALL, "g\n```python\ntool_call(b=2)\n```"]
    _, done, message, job = written(tokenizer, segments, tools=TOOLS, parallel_tool_calls=False)
    assert [each["function"]["name"] for each in message["tool_calls"]] == ["f"]
    assert (done.reason, job.cancel.is_set()) == ("tool_calls", True)
    # What the engine did until it heard of it is not the client's.
    assert done.usage["completion_tokens"] == len(tokenizer.encode(CALL)) + 1


def test_a_call_where_none_may_be_is_text(tokenizer: Tokenizer) -> None:
    pieces, done, message, _ = written(tokenizer, [CALL])
    assert text_of(pieces) == message["content"] == CALL
    assert ("tool_calls" in message, done.reason) == (False, "stop")


def test_a_call_that_was_cut_ends_with_length(tokenizer: Tokenizer) -> None:
    _, done, message, _ = written(tokenizer, [CALL], most=len(tokenizer.encode(CALL)) - 3, tools=TOOLS)
    assert done.reason == "length"
    assert message["tool_calls"][0]["function"]["arguments"].startswith("```python\ntool_call(a=")


def test_a_stop_frees_the_engine_and_counts_no_further(tokenizer: Tokenizer) -> None:
    cut, done, message, job = written(tokenizer, ["\nabc STOP and more"], stop="STOP")
    assert text_of(cut) == message["content"] == "abc "
    assert (done.reason, job.cancel.is_set()) == ("stop", True)
    assert done.usage["completion_tokens"] < len(tokenizer.encode("\nabc STOP and more"))


@CUTS
@given(
    st.lists(st.text("ab\n` 北😀", max_size=10), min_size=1, max_size=3),
    st.lists(st.text("ab`北😀", min_size=1, max_size=3), max_size=4),
    st.booleans(),
    st.integers(1, 40),
)
def test_the_stream_says_what_the_whole_answer_says(
    segments: list[str], stops: list[str], tools: bool, most: int
) -> None:
    more: dict[str, Any] = {"stop": stops} | ({"tools": TOOLS} if tools else {})
    pieces, done, message, _ = written(DEMO_TOKENIZER, segments, most=most, **more)
    assert text_of(pieces) == (message["content"] or "")
    assert not any(stop in text_of(pieces) for stop in stops)
    calls: dict[int, list[str]] = {}
    for piece in pieces:
        if not isinstance(piece, str):
            known = calls.setdefault(piece["index"], ["", ""])
            known[0] += piece["function"].get("name", "")
            known[1] += piece["function"]["arguments"]
    told = [[each["function"]["name"], each["function"]["arguments"]] for each in message.get("tool_calls", [])]
    assert [*calls.values()] == told
    assert done.usage["completion_tokens"] <= most
    assert done.reason in ({"tool_calls", "length"} if told else {"stop", "length"})


def test_a_message_calls_so_many_tools_at_most() -> None:
    many = [{"id": str(number), "function": {"name": "f", "arguments": "{}"}} for number in range(129)]
    with pytest.raises(ProtocolError, match="at most 128 tools"):
        to_turns([{"role": "assistant", "content": None, "tool_calls": many}])


def test_a_call_that_no_syntax_can_write_goes_in_as_it_came() -> None:
    for name in ("add", "interpreter"):
        odd = {"id": "1", "function": {"name": name, "arguments": '{"a b": 1}'}}
        assert to_turns([{"role": "assistant", "content": None, "tool_calls": [odd]}])[0].content == '{"a b": 1}'
