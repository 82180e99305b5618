"""OpenAI's older completions protocol: text that goes on, and how likely its tokens are. Benchmarks ask for both."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.serve.engine import Engine, GenerationJob
from glmstudio.serve.events import JobFailed
from glmstudio.serve.fair_queue import FullError
from glmstudio.serve.job_listener import Heartbeat, Listener
from glmstudio.serve.protocol.completion_request import CompletionRequest
from glmstudio.serve.protocol.completion_writer import CompletionWriter, joined
from glmstudio.serve.protocol.error_response import failed, full, told_of
from glmstudio.serve.protocol.http import EventStream


class Completions:
    """One completion: the prompts of a request, one after the other, so that other clients come between them."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, asked: CompletionRequest, adapter: str) -> None:
        self._engine, self._tokenizer, self._asked, self._adapter = engine, tokenizer, asked, adapter
        self._listener = Listener(engine)
        self._writer: CompletionWriter
        self._known = self._count = 0

    async def reply(self, request: Request) -> Response:
        """The whole reply to the request, or a stream; errors in OpenAI's shape."""
        try:
            self._begin(0)
        except FullError:
            return full()
        if self._asked.stream:
            return EventStream(self._events(), self._listener)
        return await self._whole(request)

    def _begin(self, index: int) -> None:
        """Have the engine go on with one of the prompts. Raises FullError."""
        asked, prompt = self._asked, self._asked.prompts[index]
        scored = asked.logprobs is not None
        room = self._engine.context - len(prompt.ids)
        job = GenerationJob(
            prompt=prompt.ids,
            sampling=replace(asked.sampling, max_tokens=min(asked.sampling.max_tokens, room)),
            put=self._listener.put,
            adapter=self._adapter,
            client=asked.client,
            scored=scored,
            prompt_scored=scored and asked.echo,
        )
        self._writer = CompletionWriter(self._tokenizer, asked, prompt, index, job)
        self._listener.submit(job)

    async def _whole(self, request: Request) -> Response:
        choices: list[str] = []  # as JSON: the numbers of a long prompt take ten times as much otherwise
        async with self._listener.running(request):
            for index in range(len(self._asked.prompts)):
                if self._listener.left:
                    break
                try:
                    if index:
                        self._begin(index)
                except FullError:
                    return full()
                sent = []
                async for event in self._listener.events():
                    if isinstance(event, JobFailed):
                        return failed(event.error)
                    sent.append(self._writer.take(event))
                sent.append(self._end())
                choices.append(_json(joined([each for each in sent if each is not None])))
        head = _json(self._head() | {"usage": self._usage()})
        body = f'{head[:-1]}, "choices": [{", ".join(choices)}]}}'
        return Response(body, media_type="application/json")

    async def _events(self) -> AsyncIterator[str]:
        head = self._head() | ({"usage": None} if self._asked.usage else {})

        def chunk(choice: dict[str, Any] | None) -> str:
            return f"data: {_json(head | {'choices': [choice] if choice else []})}\n\n"

        for index in range(len(self._asked.prompts)):
            try:
                if index:
                    self._begin(index)
            except FullError:
                yield f"data: {bytes(full().body).decode()}\n\n"
                return
            async for event in self._listener.events_or_heartbeats():
                if isinstance(event, Heartbeat):
                    yield event.comment
                elif isinstance(event, JobFailed):
                    yield f"data: {_json(told_of(event.error)[1])}\n\n"
                    return
                elif choice := self._writer.take(event):
                    yield chunk(choice)
            yield chunk(self._end())
        if self._asked.usage:
            yield f"data: {_json(head | {'choices': [], 'usage': self._usage()})}\n\n"
        yield "data: [DONE]\n\n"

    def _end(self) -> dict[str, Any]:
        self._known += self._writer.known
        self._count += self._writer.count
        return self._writer.end()

    def _head(self) -> dict[str, Any]:
        return {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": self._asked.model,
            "system_fingerprint": self._engine.adapters.describe(self._adapter).fingerprint,
        }

    def _usage(self) -> dict[str, Any]:
        prompt = sum(len(each.ids) for each in self._asked.prompts)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self._count,
            "total_tokens": prompt + self._count,
            "prompt_tokens_details": {"cached_tokens": self._known},
        }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
