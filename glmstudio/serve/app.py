"""OpenAI's chat protocol over one loaded model: `/v1/chat/completions`, `/v1/models`, `/health`."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import traceback
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from glmstudio.chat.protocol import Answer, ProtocolError, assistant_message, to_turns
from glmstudio.data.prompt import chat_ids, is_text
from glmstudio.data.tokenizer import TextStream, Tokenizer
from glmstudio.serve.engine import Engine, Sampling

_LARGEST_BODY = 4_000_000


class Service:
    """One model behind the protocol."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, name: str) -> None:
        self._engine, self._tokenizer, self._name = engine, tokenizer, name
        self._special = tokenizer.special["<|assistant|>"]

    def application(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/health", self.health),
                Route("/v1/models", self.models),
                Route("/v1/chat/completions", self.complete, methods=["POST"]),
            ]
        )

    async def health(self, _: Request) -> Response:
        """Whether the model answers."""
        return JSONResponse({"status": "ready", "model": self._name})

    async def models(self, _: Request) -> Response:
        """The one model that is loaded."""
        return JSONResponse(
            {"object": "list", "data": [{"id": self._name, "object": "model", "owned_by": "glmstudio"}]}
        )

    async def complete(self, request: Request) -> Response:
        """An answer, whole or as server-sent events; errors in OpenAI's shape."""
        try:
            body = await _body(request)
            prompt = self._prompt(body)
            sampling = _sampling(body, room=self._engine.context - len(prompt))
        except ProtocolError as error:
            return _error(400, str(error))
        cancel = threading.Event()
        answer = Answer(may_call=bool(_tools(body)))
        if body.get("stream"):
            options = body.get("stream_options")
            usage = isinstance(options, dict) and bool(options.get("include_usage"))
            events = self._events(prompt, sampling, cancel, answer, usage)
            # The background task runs at the end of a response whose client left, too.
            return StreamingResponse(
                _until_gone(events, cancel), media_type="text/event-stream", background=BackgroundTask(cancel.set)
            )
        watch = asyncio.create_task(_watch(request, cancel))
        try:
            return JSONResponse(await run_in_threadpool(self._whole, prompt, sampling, cancel, answer))
        except Exception as error:  # noqa: BLE001  the model failed; the server stays up and says so
            return _error(500, _plain(error))
        finally:
            watch.cancel()

    def _prompt(self, body: dict[str, Any]) -> list[int]:
        turns = to_turns(body.get("messages"), _tools(body))
        if not is_text(turns):
            raise ProtocolError("The request holds half a character, such as \\ud83d alone.")
        prompt = chat_ids(self._tokenizer, turns)
        if len(prompt) >= self._engine.context:
            raise ProtocolError(f"The conversation has {len(prompt)} tokens; the model reads {self._engine.context}.")
        return prompt

    def _parts(
        self, prompt: list[int], sampling: Sampling, cancel: threading.Event, answer: Answer, count: list[int]
    ) -> Iterator[str]:
        """The texts to show, in order; `answer` is filled, and `count[0]` is the number of tokens."""
        stream = TextStream(self._tokenizer)
        for token in self._engine.generate(prompt, sampling, cancel):
            count[0] += 1
            if token == self._special:  # the model goes on in a new segment: a call after a thought
                yield answer.push(stream.flush())
                yield answer.end_segment()
                stream = TextStream(self._tokenizer)
            elif token not in self._tokenizer.stop_ids:
                yield answer.push(stream.push(token))
        yield answer.push(stream.flush())
        yield answer.end_segment()

    def _whole(self, prompt: list[int], sampling: Sampling, cancel: threading.Event, answer: Answer) -> dict[str, Any]:
        count = [0]
        for _ in self._parts(prompt, sampling, cancel, answer, count):
            pass
        choice = {
            "index": 0,
            "message": assistant_message(answer.text, answer.calls),
            "finish_reason": _finish(answer, count[0], sampling),
        }
        return self._head("chat.completion") | {"choices": [choice], "usage": _usage(prompt, count[0])}

    def _events(
        self, prompt: list[int], sampling: Sampling, cancel: threading.Event, answer: Answer, usage: bool
    ) -> Iterator[str]:
        head, count = self._head("chat.completion.chunk"), [0]

        def event(delta: dict[str, Any], finish: str | None = None, **more: Any) -> str:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            return f"data: {json.dumps(head | {'choices': [choice]} | more, ensure_ascii=False)}\n\n"

        yield event({"role": "assistant", "content": ""})
        try:
            for text in self._parts(prompt, sampling, cancel, answer, count):
                # A comment for a token without text: who left, and who asks to stop, is noticed inside a call, too.
                yield event({"content": text}) if text else ": \n\n"
        except Exception as error:  # noqa: BLE001  headers are sent; the stream itself must say it
            yield f"data: {json.dumps({'error': {'message': _plain(error), 'type': 'server_error'}})}\n\n"
            return
        if answer.calls:
            yield event({"tool_calls": [{"index": i} | call for i, call in enumerate(answer.calls)]})
        yield event({}, _finish(answer, count[0], sampling))
        if usage:
            yield f"data: {json.dumps(head | {'choices': [], 'usage': _usage(prompt, count[0])})}\n\n"
        yield "data: [DONE]\n\n"

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": self._name}


async def _body(request: Request) -> dict[str, Any]:
    raw = b""
    async for piece in request.stream():
        raw += piece
        if len(raw) > _LARGEST_BODY:
            raise ProtocolError("The request is too large.")
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("The request is not valid JSON.") from error
    if not isinstance(body, dict):
        raise ProtocolError("The request must be a JSON object.")
    return body


def _tools(body: dict[str, Any]) -> list[Any] | None:
    """The tools that the model may call."""
    tools = body.get("tools")
    if tools is not None and not isinstance(tools, list):
        raise ProtocolError("tools must be a list.")
    return None if body.get("tool_choice") == "none" else tools


def _sampling(body: dict[str, Any], *, room: int) -> Sampling:
    """How to answer; never more tokens than the model has `room` for."""
    asked = body | {"max_tokens": body.get("max_completion_tokens") or body.get("max_tokens")}
    limits = {"temperature": (0, 2), "top_p": (1e-6, 1), "max_tokens": (1, 32768), "seed": (-(2**63), 2**63 - 1)}
    chosen: dict[str, Any] = {}
    for name, (least, most) in limits.items():
        value = asked.get(name)
        if value is None:
            continue
        whole = name in ("max_tokens", "seed")
        if (
            isinstance(value, bool)
            or not isinstance(value, int if whole else (int, float))
            or not least <= value <= most
        ):
            raise ProtocolError(f"{name} must be {'an integer' if whole else 'a number'} between {least} and {most}.")
        chosen[name] = value
    chosen["max_tokens"] = min(chosen.get("max_tokens", Sampling.max_tokens), room)
    return Sampling(**chosen)


async def _watch(request: Request, cancel: threading.Event) -> None:
    """Ends the generation of a whole answer when its client leaves."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    cancel.set()


async def _until_gone(events: Iterator[str], cancel: threading.Event) -> AsyncIterator[str]:
    """Pass the events on; whatever ends the response, the client leaving too, ends the generation."""
    try:
        async for event in iterate_in_threadpool(events):
            yield event
    finally:
        cancel.set()


def _finish(answer: Answer, count: int, sampling: Sampling) -> str:
    if answer.calls:
        return "tool_calls"
    return "length" if count >= sampling.max_tokens else "stop"


def _usage(prompt: list[int], count: int) -> dict[str, int]:
    return {"prompt_tokens": len(prompt), "completion_tokens": count, "total_tokens": len(prompt) + count}


def _error(status: int, message: str) -> Response:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": None}}, status)


def _plain(error: Exception) -> str:
    """One sentence for the client; the rest goes to the server's log."""
    traceback.print_exception(error)
    if "out of memory" in str(error).lower():
        return "The memory is not enough for this conversation; shorten it."
    return f"The model could not answer ({type(error).__name__})."
