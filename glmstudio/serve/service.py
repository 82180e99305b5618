"""OpenAI's protocols over one loaded model and its adapters: the chat here, completions in their own module."""

from __future__ import annotations

import hmac
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from glmstudio.chat.openai_messages import ProtocolError, to_turns
from glmstudio.chat.sampling import Sampling
from glmstudio.data.protocol.prompt import chat_ids
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.errors import StudioError
from glmstudio.families.message import is_text
from glmstudio.files import short
from glmstudio.serve.engine import Engine, GenerationJob
from glmstudio.serve.events import JobFailed
from glmstudio.serve.fair_queue import FullError
from glmstudio.serve.job_listener import Heartbeat, Listener
from glmstudio.serve.protocol.chat_request import Request, read_request
from glmstudio.serve.protocol.chat_writer import Done, Piece, Writer
from glmstudio.serve.protocol.completion_request import read_completion
from glmstudio.serve.protocol.completions import Completions
from glmstudio.serve.protocol.error_response import HANDLERS, failed, full, refusal, told_of
from glmstudio.serve.protocol.http import EventStream, beside, read_body
from glmstudio.serve.protocol.tokenize_routes import token_routes


class Service:
    """One model behind the protocol. `about` says how it is loaded; `control` is the studio's own token; `tuned`, that
    its weights are what a run made of a base."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        name: str,
        *,
        about: dict[str, Any] | None = None,
        control: str = "",
        tuned: bool = False,
    ) -> None:
        self._engine, self._tokenizer, self._name = engine, tokenizer, name
        self._about, self._control, self._began = about or {}, control, int(time.time())
        self._tuned = tuned

    def application(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/health", self.health),
                Route("/v1/models", self.models),
                Route("/v1/models/{name:path}", self.model),
                Route("/v1/chat/completions", self.chat_completions, methods=["POST"]),
                Route("/v1/completions", self.completions, methods=["POST"]),
                *token_routes(self._tokenizer, self._engine.context),
                Route("/studio/state", self.state),
                Route("/studio/adapters", self.add, methods=["POST"]),
            ],
            exception_handlers=HANDLERS,
        )

    async def health(self, _: HttpRequest) -> Response:
        """Whether the model answers."""
        return JSONResponse({"status": "ready", "model": self._name})

    async def models(self, _: HttpRequest) -> Response:
        """The base and every adapter that can be asked for by name."""
        names = [self._name, *self._engine.adapters.names]
        return JSONResponse({"object": "list", "data": [self._model(name) for name in names]})

    async def model(self, request: HttpRequest) -> Response:
        """One of them."""
        name = request.path_params["name"]
        self._adapter(name)
        return JSONResponse(self._model(name))

    async def state(self, request: HttpRequest) -> Response:
        """How busy the engine is; for the studio alone."""
        self._only_studio(request)
        engine = self._engine
        state = {"waiting": len(engine.queue), "busy": engine.busy, "kept_tokens": engine.prefix_cache.tokens}
        return JSONResponse(state | {"in_use": engine.adapters.in_use or self._name})

    async def add(self, request: HttpRequest) -> Response:
        """Put an adapter beside the weights; for the studio alone."""
        self._only_studio(request)
        body = await read_body(request)
        name, folder = str(body.get("name") or ""), str(body.get("folder") or "")
        if not name or name == self._name:
            raise ProtocolError("name must be the name of an adapter.", "name")
        adapters = self._engine.adapters
        if name in adapters.names and adapters.folder(name) != Path(folder):
            return refusal(409, "Another adapter has this name.", param="name", code="name_taken")
        if name not in adapters.names:
            try:
                await run_in_threadpool(self._engine.add, name, Path(folder))
            except StudioError as error:
                return JSONResponse({"problem": error.to_json()}, 400)
            except FullError:
                return full()
        return JSONResponse(self._model(name))

    async def chat_completions(self, request: HttpRequest) -> Response:
        """An answer, whole or as server-sent events; errors in OpenAI's shape."""
        asked = read_request(await read_body(request))
        adapter = self._adapter(asked.model)
        begun = not (asked.first or adapter or self._tuned)
        listener = Listener(self._engine)
        job = GenerationJob(
            prompt=await beside(request, self._prompt, asked, begun),
            sampling=asked.sampling,
            put=listener.put,
            adapter=adapter,
            client=asked.client,
            begin=[self._tokenizer.encode(f"{name}\n") for name in asked.first],
        )
        job.sampling = self._within(job)
        writer = Writer(self._tokenizer, asked, job, begun=begun)
        try:
            listener.submit(job)
        except FullError:
            return full()
        head = self._head(asked, adapter)
        if asked.stream:
            return EventStream(self._events(writer, listener, head, asked), listener)
        return await self._whole(request, writer, listener, head)

    async def completions(self, request: HttpRequest) -> Response:
        """Text that goes on behind each prompt, and how likely its tokens are; whole or as server-sent events."""
        body = await read_body(request)
        asked = await beside(request, read_completion, body, self._tokenizer, self._engine.context)
        return await Completions(self._engine, self._tokenizer, asked, self._adapter(asked.model)).reply(request)

    async def _whole(self, request: HttpRequest, writer: Writer, listener: Listener, head: dict[str, Any]) -> Response:
        async with listener.running(request):
            async for event in listener.events():
                if isinstance(event, JobFailed):
                    return failed(event.error)
                writer.take(event)
            done = writer.end()
        choice = {"index": 0, "message": writer.message(), "finish_reason": done.reason, "logprobs": None}
        return JSONResponse(head | {"object": "chat.completion", "choices": [choice], "usage": done.usage})

    async def _events(
        self, writer: Writer, listener: Listener, head: dict[str, Any], asked: Request
    ) -> AsyncIterator[str]:
        head = head | {"object": "chat.completion.chunk"} | ({"usage": None} if asked.usage else {})

        def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
            choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
            return f"data: {json.dumps(head | {'choices': [choice]}, ensure_ascii=False)}\n\n"

        yield chunk({"role": "assistant", "content": "", "refusal": None})
        async for event in listener.events_or_heartbeats():
            if isinstance(event, Heartbeat):
                yield event.comment
            elif isinstance(event, JobFailed):
                yield f"data: {json.dumps(told_of(event.error)[1])}\n\n"
                return
            else:
                for piece in writer.take(event):
                    yield chunk(_delta(piece))
        done: Done = writer.end()
        for piece in done.pieces:
            yield chunk(_delta(piece))
        yield chunk({}, done.reason)
        if asked.usage:
            yield f"data: {json.dumps(head | {'choices': [], 'usage': done.usage})}\n\n"
        yield "data: [DONE]\n\n"

    def _prompt(self, asked: Request, begun: bool) -> list[int]:
        messages = to_turns(asked.messages, asked.tools)
        if not is_text(messages):
            raise ProtocolError("The request holds half a character, such as \\ud83d alone.", "messages")
        prompt = chat_ids(self._tokenizer, messages, begun=begun)
        if len(prompt) >= self._engine.context:
            raise ProtocolError(
                f"The conversation has {len(prompt)} tokens; the model reads {self._engine.context}.",
                "messages",
                code="context_length_exceeded",
            )
        return prompt

    def _within(self, job: GenerationJob) -> Sampling:
        """The sampling, with no more tokens than the context has room for."""
        room = self._engine.context - len(job.prompt)
        return replace(job.sampling, max_tokens=min(job.sampling.max_tokens, room))

    def _adapter(self, name: str) -> str:
        """The adapter that a model's name stands for. Raises ProtocolError for a name that is none."""
        known = self._engine.adapters.names
        if name == self._name or name in known:
            return "" if name == self._name else name
        there = ", ".join([self._name, *known])
        raise ProtocolError(
            f"The model {short(name, 200)} does not exist. There is: {there}.",
            "model",
            code="model_not_found",
            status=404,
        )

    def _model(self, name: str) -> dict[str, Any]:
        described = self._engine.adapters.describe("" if name == self._name else name)
        about = {"kind": described.kind, "sha256": described.sha256, "norm": described.norm, "size": described.size}
        loaded = {"fingerprint": described.fingerprint, "context": self._engine.context}
        loaded["family"] = self._tokenizer.family.name
        return {
            "id": name,
            "object": "model",
            "created": self._began,
            "owned_by": "glmstudio",
            "root": self._name,
            "parent": None if name == self._name else self._name,
            "glmstudio": about | loaded | self._about,
        }

    def _head(self, asked: Request, adapter: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": asked.model,
            "system_fingerprint": self._engine.adapters.describe(adapter).fingerprint,
        }

    def _only_studio(self, request: HttpRequest) -> None:
        given = request.headers.get("x-studio-token", "")
        if not self._control or not hmac.compare_digest(given.encode(), self._control.encode()):
            raise HTTPException(404)


def _delta(piece: Piece) -> dict[str, Any]:
    return {"content": piece} if isinstance(piece, str) else {"tool_calls": [piece]}
