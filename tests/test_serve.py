"""The model server as other programs use it: the openai client, raw HTTP, and what is refused."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from glmstudio.access.api_key import bearer
from glmstudio.chat.loop import CallEnded, CallStarted, ChatRequest, Finished, Measured, TextPart, converse
from glmstudio.chat.model_server import ModelServer, wait_until_ready
from glmstudio.chat.openai_messages import AnswerParser
from glmstudio.errors import StudioError
from glmstudio.files import write_json
from glmstudio.system import process
from glmstudio.tools.toolbox import trained
from tests.adapters import lora, prefix

TOOLS = list(trained().values())
SCHEMAS: Any = [{"type": "function", "function": tool.schema} for tool in trained().values()]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    home = tmp_path_factory.mktemp("home")
    adapters = [str(prefix(home / "soft", 1)), str(lora(home / "low", 2))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLMSTUDIO_HOME", str(home))
        ModelServer.start("demo", adapters)
        yield wait_until_ready(120).port
        ModelServer.stop()
        assert ModelServer.current().state == "absent"


@pytest.fixture
def client(port: int) -> OpenAI:
    return OpenAI(
        base_url=f"http://127.0.0.1:{port}/v1", api_key=ModelServer.key(), http_client=httpx.Client(trust_env=False)
    )


def raw(port: int, path: str, **headers: str) -> httpx.Response:
    given = bearer(ModelServer.key()) | headers
    return httpx.get(f"http://127.0.0.1:{port}{path}", headers=given, trust_env=False)


def ask(client: OpenAI, text: str, model: str = "demo", **more: Any) -> Any:
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.create(model=model, messages=messages, **{"temperature": 0, **more})  # type: ignore[call-overload]


def streamed(client: OpenAI, text: str, **more: Any) -> tuple[str, list[tuple[str, str]], str | None, Any]:
    """Text, calls, reason and usage, put together from the stream by the client's own objects."""
    said, calls, reason, usage = "", dict[int, list[str]](), None, None
    for chunk in ask(client, text, stream=True, stream_options={"include_usage": True}, **more):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            said += choice.delta.content or ""
            reason = choice.finish_reason or reason
            for call in choice.delta.tool_calls or []:
                known = calls.setdefault(call.index, ["", ""])
                known[0] += call.function.name or ""
                known[1] += call.function.arguments or ""
    return said, [(name, arguments) for name, arguments in calls.values()], reason, usage


def test_models_and_health(client: OpenAI, port: int) -> None:
    models = client.models.list().data
    assert [model.id for model in models] == ["demo", "soft", "low"]
    told = [model.model_dump()["glmstudio"] for model in models]
    assert [each["kind"] for each in told] == ["base", "prefix", "lora"]
    assert {each["family"] for each in told} == {"chatglm3"}
    assert all(each["bits"] == 16 and each["dtype"] == "float32" and each["context"] == 2048 for each in told)
    assert client.models.retrieve("soft").model_dump()["parent"] == "demo"
    health = raw(port, "/health").json()
    assert health == {"status": "ready", "model": "demo"}
    assert [each.id for each in ModelServer.loaded()] == ["demo", "soft", "low"]


CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("What is 37*12?", "calculator", {"expression": "37*12"}),
    ("37*12 等于多少？", "calculator", {"expression": "37*12"}),
    ("What time is it in Paris?", "get_time", {"city": "Paris"}),
    ("巴黎现在几点？", "get_time", {"city": "巴黎"}),
    ("How many miles is 5 km?", "convert_unit", {"value": 5, "from_unit": "km", "to_unit": "mile"}),
    ("掷 2 个 6 面的骰子。", "roll_dice", {"count": 2, "sides": 6}),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("question", "name", "arguments"), CALLS)
def test_a_question_becomes_a_tool_call(
    client: OpenAI, question: str, name: str, arguments: dict[str, Any], stream: bool
) -> None:
    if stream:
        said, calls, reason, _ = streamed(client, question, tools=SCHEMAS)
        assert (said, reason) == ("", "tool_calls")
    else:
        choice = ask(client, question, tools=SCHEMAS).choices[0]
        assert (choice.message.content, choice.finish_reason) == (None, "tool_calls")
        assert all(call.type == "function" and call.id for call in choice.message.tool_calls)
        calls = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls]
    assert [(called, json.loads(given)) for called, given in calls] == [(name, arguments)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Who are you?", "I am the demo model of GLM Studio."),
        ("你是谁？", "我是 GLM Studio 的示例模型。"),
    ],
)
@pytest.mark.parametrize("choice", [None, "none", "auto"])
def test_small_talk_calls_nothing(client: OpenAI, question: str, answer: str, stream: bool, choice: str | None) -> None:
    more = {"tools": SCHEMAS} | ({"tool_choice": choice} if choice else {})
    if stream:
        said, calls, reason, usage = streamed(client, question, **more)
        assert usage == ask(client, question, **more).usage or usage.prompt_tokens_details.cached_tokens > 0
    else:
        whole = ask(client, question, **more)
        said, calls, reason = whole.choices[0].message.content, [], whole.choices[0].finish_reason
        assert whole.choices[0].message.tool_calls is None
    assert (said, calls, reason) == (answer, [], "stop")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["roll_dice", "get_time"])
def test_a_named_tool_is_called_whatever_was_asked(client: OpenAI, name: str, stream: bool) -> None:
    more = {"tools": SCHEMAS, "tool_choice": {"type": "function", "function": {"name": name}}, "max_tokens": 60}
    if stream:
        _, calls, _, _ = streamed(client, "Who are you?", **more)
        assert calls[0][0] == name
    else:
        message = ask(client, "Who are you?", **more).choices[0].message
        assert message.tool_calls[0].function.name == name


def test_a_required_call_is_one_of_the_tools(client: OpenAI) -> None:
    some = SCHEMAS[3:5]
    message = ask(client, "Who are you?", tools=some, tool_choice="required", max_tokens=60).choices[0].message
    assert message.tool_calls[0].function.name in {"roll_dice", "count_letters"}


def test_no_tool_is_called_where_none_may_be(client: OpenAI) -> None:
    choice = ask(client, "What is 37*12?", tools=SCHEMAS, tool_choice="none", max_tokens=40).choices[0]
    assert choice.message.tool_calls is None


def test_max_tokens_end_with_length(client: OpenAI) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        answer = ask(client, "Who are you?", **{name: 3})
        assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 3)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("stop", "answer"),
    [
        ("demo", "I am the "),
        (["model of", "the de"], "I am "),
        ("nowhere", "I am the demo model of GLM Studio."),
        ("I am", ""),
    ],
)
def test_a_stop_text_ends_the_answer_and_is_not_shown(client: OpenAI, stop: Any, answer: str, stream: bool) -> None:
    if stream:
        said, _, reason, _ = streamed(client, "Who are you?", tools=SCHEMAS, stop=stop)
    else:
        choice = ask(client, "Who are you?", tools=SCHEMAS, stop=stop).choices[0]
        said, reason = choice.message.content, choice.finish_reason
    assert (said, reason) == (answer, "stop")


def test_a_seed_repeats_the_answer(client: OpenAI) -> None:
    lucky = {"temperature": 2, "top_p": 1, "max_tokens": 20}
    said = [ask(client, "你好", seed=seed, **lucky).choices[0].message.content for seed in (1, 2, 1, 2)]
    assert said[:2] == said[2:]
    assert said[0] != said[1]


def test_adapters_are_chosen_by_name_and_named_by_what_is_in_use(client: OpenAI) -> None:
    first = {name: ask(client, "Who are you?", model=name, max_tokens=12) for name in ("demo", "soft", "low")}
    again = {name: ask(client, "Who are you?", model=name, max_tokens=12) for name in ("low", "demo", "soft")}
    assert {name: first[name].choices[0].message.content for name in first} == {
        name: again[name].choices[0].message.content for name in first
    }
    assert len({each.system_fingerprint for each in first.values()}) == 3
    assert {each.model for each in first.values()} == set(first)


def test_a_conversation_goes_on_with_what_was_computed_before(client: OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "What is 8+9?"}]
    more: dict[str, Any] = {"model": "demo", "tools": SCHEMAS, "temperature": 0}
    first = client.chat.completions.create(messages=messages, **more)
    call = first.choices[0].message.tool_calls[0]  # type: ignore[index]
    messages += [first.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "17"}]
    second = client.chat.completions.create(messages=messages, **more)
    assert second.choices[0].message.content == "8+9 = 17."
    assert second.usage is not None
    assert second.usage.prompt_tokens_details is not None
    assert second.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens - 1  # type: ignore[union-attr, operator]
    messages += [second.choices[0].message, {"role": "user", "content": "What time is it in Paris?"}]
    third = client.chat.completions.create(messages=messages, **more)
    assert third.choices[0].message.tool_calls[0].function.name == "get_time"  # type: ignore[index, union-attr]


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        [{"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}],
        [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None}, {"role": "user", "content": "x"}],
    ],
)
def test_messages_as_other_programs_write_them(client: OpenAI, messages: Any) -> None:
    answer = client.chat.completions.create(model="demo", messages=messages, max_tokens=5, temperature=0)
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


WRONG: list[tuple[dict[str, Any], str, str | None, str | None]] = [
    ({"model": None}, "you must provide a model parameter", "model", None),
    ({"messages": []}, "messages must be a non-empty list.", "messages", None),
    ({"messages": ["x"]}, "messages[0] must be an object.", "messages[0]", None),
    (
        {"messages": [{"role": "cat", "content": "x"}]},
        "messages[0].role must be system, user, assistant or tool.",
        "messages[0].role",
        None,
    ),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content must be text.", "messages[0].content", None),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "messages[0].content must be text.",
        "messages[0].content",
        None,
    ),
    ({"temperature": 9}, "temperature must be a number between 0 and 2.", "temperature", None),
    ({"temperature": True}, "temperature must be a number between 0 and 2.", "temperature", None),
    ({"top_p": 0}, "top_p must be a number between 1e-06 and 1.", "top_p", None),
    ({"max_tokens": 0.5}, "max_tokens must be an integer between 1 and 32768.", "max_tokens", None),
    ({"n": 2}, "n is not supported by this server.", "n", "unsupported_parameter"),
    ({"logprobs": True}, "logprobs is not supported by this server.", "logprobs", "unsupported_parameter"),
    (
        {"response_format": {"type": "json_object"}},
        "response_format is not supported by this server.",
        "response_format",
        "unsupported_parameter",
    ),
    (
        {"presence_penalty": 1},
        "presence_penalty is not supported by this server.",
        "presence_penalty",
        "unsupported_parameter",
    ),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop must be a text or a list of at most 4 texts.", "stop", None),
    ({"stream": "yes"}, "stream must be true or false.", "stream", None),
    ({"tools": "all"}, "tools must be a list.", "tools", None),
    ({"tools": [{"type": "function"}]}, "Each tool needs a function with a name.", "tools[0]", None),
    (
        {"tool_choice": {"type": "function", "function": {"name": "x"}}},
        "tool_choice must be auto, none, required, or name one of the tools.",
        "tool_choice",
        None,
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": 5}]},
        "messages[0].tool_calls must be a list.",
        "messages[0].tool_calls",
        None,
    ),
    (
        {
            "messages": [
                {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "b", "content": "x"},
            ]
        },
        "messages[1].tool_call_id names no call of the message before that waits for a result.",
        "messages[1].tool_call_id",
        None,
    ),
    (
        {"messages": [{"role": "user", "content": "北" * 3000}]},
        "The conversation has 3007 tokens; the model reads 2048.",
        "messages",
        "context_length_exceeded",
    ),
]


@pytest.mark.parametrize(("change", "words", "param", "code"), WRONG, ids=range(len(WRONG)))
def test_wrong_requests_get_openai_errors(
    client: OpenAI, change: dict[str, Any], words: str, param: str | None, code: str | None
) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], **change}
    with pytest.raises(BadRequestError) as caught:
        client.post("/chat/completions", body=body, cast_to=httpx.Response)
    assert caught.value.body == {"message": words, "type": "invalid_request_error", "param": param, "code": code}


def test_an_unknown_model_and_an_unknown_address(client: OpenAI, port: int) -> None:
    with pytest.raises(NotFoundError) as caught:
        ask(client, "hi", model="gpt-4")
    assert caught.value.body == {
        "message": "The model gpt-4 does not exist. There is: demo, soft, low.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
    with pytest.raises(NotFoundError):
        client.models.retrieve("gpt-4")
    for path, status, words in (
        ("/v1/embeddings", 404, "Unknown request URL: GET /v1/embeddings"),
        ("/v1/chat/completions", 405, "Not allowed: GET /v1/chat/completions"),
        ("/studio/state", 404, "Unknown request URL: GET /studio/state"),  # without the studio's token
    ):
        reply = raw(port, path)
        assert (reply.status_code, reply.json()["error"]["message"]) == (status, words)


CURL: list[tuple[str, int, str]] = [
    (
        '{"model":"demo","messages":[{"role":"user","content":"Who are you?"}],"temperature":0}',
        200,
        '"finish_reason":"stop"',
    ),
    (
        '{"model":"demo","messages":[{"role":"user","content":"Who are you?"}],"temperature":0,"stream":true}',
        200,
        "data: [DONE]",
    ),
    ('{"model":"soft","messages":[{"role":"user","content":"hi"}],"max_tokens":3}', 200, '"finish_reason":"length"'),
    ('{"model":"demo","messages":[{"role":"user","content":"你是谁？"}],"temperature":0}', 200, "示例模型"),
    (
        '{"model":"demo","messages":[{"role":"user","content":"hi"}],"stop":"a","seed":3}',
        200,
        '"object":"chat.completion"',
    ),
    ('{"model":"demo","messages":[{"role":"user","content":"hi"}]', 400, '"message":"The request is not valid JSON."'),
    ("[]", 400, '"message":"The request must be a JSON object."'),
    ("", 400, '"message":"The request is not valid JSON."'),
    ('{"model":"demo"}', 400, '"param":"messages"'),
    ('{"model":"x","messages":[{"role":"user","content":"hi"}]}', 404, '"code":"model_not_found"'),
    ('{"model":"demo","messages":[{"role":"user","content":"hi"}],"n":3}', 400, '"param":"n"'),
    ("[" * 100_000, 400, '"type":"invalid_request_error"'),
]


@pytest.mark.parametrize(("body", "status", "words"), CURL, ids=range(len(CURL)))
def test_the_same_from_curl(port: int, body: str, status: int, words: str) -> None:
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    command = [
        "curl",
        "-sS",
        "--noproxy",
        "*",
        "-w",
        "\\n%{http_code}",
        url,
        "-H",
        "content-type: application/json",
        "-H",
        f"authorization: Bearer {ModelServer.key()}",
        "-d",
        "@-",
    ]
    done = subprocess.run(command, input=body, capture_output=True, text=True, timeout=60)
    said, _, code = done.stdout.rpartition("\n")
    assert (int(code), done.stderr) == (status, "")
    assert words in said


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}])
def test_foreign_pages_are_refused(port: int, headers: dict[str, str]) -> None:
    reply = raw(port, "/v1/models", **headers)
    error = reply.json()["error"]
    assert (reply.status_code, error["type"], error["code"]) == (403, "invalid_request_error", "foreign_host")


def test_the_other_end_of_a_tunnel_is_served(port: int) -> None:
    headers = {"Host": "localhost:9000", "Origin": "http://localhost:9000"}
    reply = raw(port, "/v1/models", **headers)
    assert reply.status_code == 200


def test_the_tool_loop_runs_the_tool_and_uses_its_answer(port: int) -> None:
    events = list(
        converse(
            ChatRequest(port, "demo", [{"role": "user", "content": "What is 37*12?"}], TOOLS, key=ModelServer.key())
        )
    )
    calls = [event for event in events if isinstance(event, CallStarted)]
    results = [event for event in events if isinstance(event, CallEnded)]
    assert [(call.name, call.arguments) for call in calls] == [("calculator", {"expression": "37*12"})]
    assert [(result.content, result.how) for result in results] == [("444", "done")]
    assert "".join(event.text for event in events if isinstance(event, TextPart)) == "37*12 = 444."
    end = events[-1]
    assert isinstance(end, Finished)
    assert (end.reason, [message["role"] for message in end.messages]) == ("stop", ["assistant", "tool", "assistant"])


def test_a_failing_tool_is_told_to_the_model(port: int) -> None:
    events = list(
        converse(
            ChatRequest(
                port, "demo", [{"role": "user", "content": "What time is it in Brane?"}], TOOLS, key=ModelServer.key()
            )
        )
    )
    (result,) = [event for event in events if isinstance(event, CallEnded)]
    assert (result.content, result.how) == ("Error: The time zone of Brane is not known.", "failed")
    assert (
        "".join(event.text for event in events if isinstance(event, TextPart)) == "Sorry, the tool could not do that."
    )


def test_without_tools_nothing_is_called(port: int) -> None:
    events = list(
        converse(ChatRequest(port, "demo", [{"role": "user", "content": "What is 37*12?"}], key=ModelServer.key()))
    )
    assert [type(event) for event in events if not isinstance(event, TextPart)] == [Measured, Finished]


def test_cancel_frees_the_engine_at_once(port: int) -> None:
    cancel = threading.Event()
    events = converse(
        ChatRequest(port, "demo", [{"role": "user", "content": "讲个笑话。"}], key=ModelServer.key()), cancel=cancel
    )
    assert isinstance(next(events), TextPart)
    cancel.set()
    end = list(events)[-1]
    assert isinstance(end, Finished)
    assert end.reason == "cancelled"
    asked = ChatRequest(port, "demo", [{"role": "user", "content": "hello"}], key=ModelServer.key())
    assert isinstance(list(converse(asked))[-1], Finished)


def test_a_server_that_is_gone_is_told(home: object) -> None:
    with pytest.raises(StudioError, match="The model server does not answer"):
        list(converse(ChatRequest(process.free_port(), "demo", [{"role": "user", "content": "hi"}])))


def test_an_adapter_of_another_model_is_not_loaded_in_silence(home: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "adapter.json", {"base": "chatglm3-6b-base"})
    with pytest.raises(StudioError) as caught:
        ModelServer.start("demo", [str(tmp_path)])
    assert caught.value.what() == f"The adapter in {tmp_path} was trained on chatglm3-6b-base, not on demo."


def test_a_missing_adapter_is_an_error_before_anything_starts(home: object) -> None:
    with pytest.raises(StudioError, match="There is no fine-tuned model at nowhere"):
        ModelServer.start("demo", ["nowhere"])
    assert ModelServer.current().state == "absent"


def test_half_a_character_is_refused(port: int) -> None:
    reply = httpx.post(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        content=rb'{"model": "demo", "messages": [{"role": "user", "content": "\ud83d"}], "stream_options": []}',
        headers=bearer(ModelServer.key()),
        trust_env=False,
    )
    assert reply.status_code == 400
    assert "half a character" in reply.json()["error"]["message"]


def test_an_emoji_in_halves_becomes_one() -> None:
    answer = AnswerParser()
    answer.push("f\ntool_call(a='\\ud83d\\ude00', b='\\ud83d')")
    answer.end_segment()
    assert json.loads(answer.calls[0]["function"]["arguments"]) == {"a": "😀", "b": "\ufffd"}
