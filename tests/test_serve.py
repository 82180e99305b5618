"""The model server as other programs use it: the openai client, raw HTTP, and what is refused."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import uvicorn
from openai import BadRequestError, OpenAI

from glmstudio import process
from glmstudio.chat.loop import CallEnded, CallStarted, Finished, TextPart, converse
from glmstudio.chat.protocol import Answer
from glmstudio.chat.server import ModelServer, wait_until_ready
from glmstudio.chat.tools import TOOLS
from glmstudio.data.tokenizer import Tokenizer
from glmstudio.errors import StudioError
from glmstudio.files import write_json
from glmstudio.paths import DEMO
from glmstudio.serve.app import Service
from glmstudio.serve.engine import Engine

SCHEMAS: Any = [{"type": "function", "function": tool.schema} for tool in TOOLS.values()]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLMSTUDIO_HOME", str(tmp_path_factory.mktemp("home")))
        ModelServer.start("demo")
        yield wait_until_ready(120).port
        ModelServer.stop()
        assert ModelServer.current().state == "absent"


@pytest.fixture
def client(port: int) -> OpenAI:
    return OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", http_client=httpx.Client(trust_env=False))


def ask(client: OpenAI, text: str, **more: Any) -> Any:
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.create(model="demo", messages=messages, temperature=0, **more)  # type: ignore[call-overload]


def test_models_and_health(client: OpenAI, port: int) -> None:
    assert [model.id for model in client.models.list()] == ["demo"]
    health = httpx.Client(trust_env=False).get(f"http://127.0.0.1:{port}/health").json()
    assert health == {"status": "ready", "model": "demo"}


@pytest.mark.parametrize(
    ("question", "name", "arguments"),
    [
        ("What is 37*12?", "calculator", {"expression": "37*12"}),
        ("37*12 等于多少？", "calculator", {"expression": "37*12"}),
        ("What time is it in Paris?", "get_time", {"city": "Paris"}),
        ("巴黎现在几点？", "get_time", {"city": "巴黎"}),
        ("How many miles is 5 km?", "convert_unit", {"value": 5, "from_unit": "km", "to_unit": "mile"}),
        ("掷 2 个 6 面的骰子。", "roll_dice", {"count": 2, "sides": 6}),
    ],
)
def test_a_question_becomes_a_tool_call(client: OpenAI, question: str, name: str, arguments: dict[str, Any]) -> None:
    choice = ask(client, question, tools=SCHEMAS).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls
    assert (call.type, call.function.name, json.loads(call.function.arguments)) == ("function", name, arguments)


def test_small_talk_calls_nothing(client: OpenAI) -> None:
    choice = ask(client, "Who are you?", tools=SCHEMAS).choices[0]
    assert (choice.finish_reason, choice.message.tool_calls) == ("stop", None)
    assert choice.message.content == "I am the demo model of GLM Studio."


def test_a_stream_is_the_same_answer_in_pieces(client: OpenAI) -> None:
    whole = ask(client, "你是谁？", tools=SCHEMAS)
    chunks = list(ask(client, "你是谁？", tools=SCHEMAS, stream=True, stream_options={"include_usage": True}))
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(pieces) > 1
    assert "".join(pieces) == whole.choices[0].message.content == "我是 GLM Studio 的示例模型。"
    assert chunks[-1].usage == whole.usage
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"


def test_a_streamed_call(client: OpenAI) -> None:
    chunks = list(ask(client, "What is 8+9?", tools=SCHEMAS, stream=True))
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert [(call.index, call.function.name, call.function.arguments) for call in calls] == [
        (0, "calculator", '{"expression": "8+9"}')
    ]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_max_tokens_end_with_length(client: OpenAI) -> None:
    answer = ask(client, "Who are you?", max_tokens=3)
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"messages": []}, "messages must be a non-empty list."),
        ({"messages": [{"role": "cat", "content": "x"}]}, "messages[0].role must be system, user, assistant or tool."),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content must be text."),
        ({"temperature": 9}, "temperature must be a number between 0 and 2."),
        ({"max_tokens": 0.5}, "max_tokens must be an integer between 1 and 32768."),
        ({"tools": "all"}, "tools must be a list."),
        ({"messages": [{"role": "assistant", "tool_calls": 5}]}, "messages[0].tool_calls must be a list."),
        ({"tools": [{"type": "function"}]}, "Each tool needs a function with a name."),
        (
            {"messages": [{"role": "user", "content": "北" * 3000}]},
            "The conversation has 3007 tokens; the model reads 2048.",
        ),
    ],
)
def test_wrong_requests_get_openai_errors(client: OpenAI, change: dict[str, Any], words: str) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], **change}
    with pytest.raises(BadRequestError) as caught:
        client.post("/chat/completions", body=body, cast_to=httpx.Response)
    assert caught.value.body == {"message": words, "type": "invalid_request_error", "param": None, "code": None}


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}])
def test_foreign_pages_are_refused(port: int, headers: dict[str, str]) -> None:
    reply = httpx.Client(trust_env=False).get(f"http://127.0.0.1:{port}/v1/models", headers=headers)
    assert reply.status_code == 403


def test_the_tool_loop_runs_the_tool_and_uses_its_answer(port: int) -> None:
    events = list(converse(port, [{"role": "user", "content": "What is 37*12?"}], list(TOOLS)))
    calls = [event for event in events if isinstance(event, CallStarted)]
    results = [event for event in events if isinstance(event, CallEnded)]
    assert [(call.name, call.arguments) for call in calls] == [("calculator", {"expression": "37*12"})]
    assert [(result.content, result.failed) for result in results] == [("444", False)]
    assert "".join(event.text for event in events if isinstance(event, TextPart)) == "37*12 = 444."
    end = events[-1]
    assert isinstance(end, Finished)
    assert (end.reason, [message["role"] for message in end.messages]) == ("stop", ["assistant", "tool", "assistant"])


def test_a_failing_tool_is_told_to_the_model(port: int) -> None:
    events = list(converse(port, [{"role": "user", "content": "What time is it in Brane?"}], list(TOOLS)))
    (result,) = [event for event in events if isinstance(event, CallEnded)]
    assert (result.content, result.failed) == ("Error: The time zone of Brane is not known.", True)
    assert (
        "".join(event.text for event in events if isinstance(event, TextPart)) == "Sorry, the tool could not do that."
    )


def test_without_tools_nothing_is_called(port: int) -> None:
    events = list(converse(port, [{"role": "user", "content": "What is 37*12?"}], []))
    assert [type(event) for event in events if not isinstance(event, TextPart)] == [Finished]


def test_cancel_frees_the_engine_at_once(port: int) -> None:
    cancel = threading.Event()
    events = converse(port, [{"role": "user", "content": "讲个笑话。"}], [], cancel=cancel)
    assert isinstance(next(events), TextPart)
    cancel.set()
    end = list(events)[-1]
    assert isinstance(end, Finished)
    assert end.reason == "cancelled"
    began = time.monotonic()
    assert isinstance(list(converse(port, [{"role": "user", "content": "hello"}], []))[-1], Finished)
    assert time.monotonic() - began < 20


def test_a_server_that_is_gone_is_told(home: object) -> None:
    with pytest.raises(StudioError, match="The model server does not answer"):
        list(converse(process.free_port(), [{"role": "user", "content": "hi"}], []))


def test_an_adapter_of_another_model_is_not_loaded_in_silence(home: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "adapter.json", {"base": "chatglm3-6b-base"})
    with pytest.raises(StudioError) as caught:
        ModelServer.start("demo", str(tmp_path))
    assert caught.value.what() == f"What lies in {tmp_path} was tuned on chatglm3-6b-base, not on demo."


def test_a_missing_adapter_is_an_error_before_anything_starts(home: object) -> None:
    with pytest.raises(StudioError, match="There is no tuned model at nowhere"):
        ModelServer.start("demo", "nowhere")
    assert ModelServer.current().state == "absent"


def test_a_killed_server_is_seen(home: object) -> None:
    import os
    import signal

    from glmstudio.files import read_json
    from glmstudio.paths import paths

    ModelServer.start("demo")
    identity = process.Identity.from_json(read_json(paths().state / "server.json")["identity"])
    assert identity is not None
    os.kill(identity.pid, signal.SIGKILL)
    for _ in range(100):
        if ModelServer.current().state == "failed":
            break
        time.sleep(0.05)
    state = ModelServer.current()
    assert state.state == "failed"
    assert state.problem is not None
    assert state.problem.what() == "The model server ended unexpectedly."
    ModelServer.stop()


def test_half_a_character_is_refused(port: int) -> None:
    reply = httpx.post(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        content=rb'{"messages": [{"role": "user", "content": "\ud83d"}], "stream_options": []}',
        trust_env=False,
    )
    assert reply.status_code == 400
    assert "half a character" in reply.json()["error"]["message"]


def test_an_emoji_in_halves_becomes_one() -> None:
    answer = Answer()
    answer.push("f\ntool_call(a='\\ud83d\\ude00', b='\\ud83d')")
    answer.end_segment()
    assert json.loads(answer.calls[0]["function"]["arguments"]) == {"a": "😀", "b": "\ufffd"}


class Talker:
    """A model that writes a call without an end, a token every 20 ms."""

    device = "cpu"
    config = type("Config", (), {"max_position_embeddings": 2048})

    def __init__(self, ids: list[int]) -> None:
        self.ids, self.written, self.running = ids, 0, 0

    def generate(self, prompt: Any, *, streamer: Any, stopping_criteria: Any, **_: Any) -> None:
        streamer.put(prompt)
        self.running += 1
        for index in itertools.chain(self.ids, itertools.repeat(self.ids[-1], 2000)):
            time.sleep(0.02)
            self.written += 1
            streamer.put(torch.tensor([index]))
            if stopping_criteria(prompt, None).all():
                break
        self.running -= 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_the_model(stream: bool) -> None:
    tokenizer = Tokenizer(DEMO / "model")
    talker = Talker(tokenizer.encode("calculator\ntool_call(a"))
    port = process.free_port()
    service = Service(Engine(talker, tokenizer.stop_ids), tokenizer, "talker")  # type: ignore[arg-type]
    server = uvicorn.Server(uvicorn.Config(service.application(), port=port, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": stream}
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    while not server.started:
        time.sleep(0.02)
    for _ in range(2):  # the second one needs the turn that the first one gave back
        before = talker.written
        if stream:
            with httpx.stream("POST", url, json=body, trust_env=False, timeout=5) as reply:
                for _line, _number in zip(reply.iter_lines(), range(9), strict=False):
                    pass
        else:
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(url, json=body, trust_env=False, timeout=0.5)
        assert talker.written > before
        end = time.monotonic() + 5
        while talker.running:
            assert time.monotonic() < end, "it writes on for nobody"
            time.sleep(0.02)
    server.should_exit = True
    thread.join(10)
