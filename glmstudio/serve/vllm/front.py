"""The studio's protocol before vLLM: the same names, the same fingerprints, the same errors, and nothing else.

What vLLM answers is handed on, with two things put right: an answer does not begin with the blank that the model itself
puts there, and it carries the fingerprint of the adapter that was asked for.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from glmstudio.access.api_key import bearer
from glmstudio.chat.openai_messages import ProtocolError
from glmstudio.chat.vllm.launch import VllmLaunch, rank_of, refuse_no_lora
from glmstudio.errors import StudioError
from glmstudio.files import short
from glmstudio.serve.protocol.error_response import HANDLERS, refusal
from glmstudio.serve.protocol.http import read_body
from glmstudio.serve.vllm.child_process import VllmServer

_ASKED = ("/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize")
_PREFIX = "base_model.model."  # of a tensor's name in PEFT's files


class VllmFront:
    """What `glmstudio.serve.service.Service` is for the studio's own engine."""

    def __init__(self, server: VllmServer, launch: VllmLaunch, *, control: str = "") -> None:
        name, adapters = launch.name, launch.adapters
        self._name, self._control, self._began = name, control, int(time.time())
        self._reads_calls = launch.reads_calls
        self._folders: dict[str, Path] = {}
        self._described: dict[str, dict[str, Any]] = {name: _BASE}
        for each, folder in adapters.items():
            self._known(each, folder)
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(server.socket), limits=httpx.Limits(max_connections=None)),
            base_url="http://vllm",
            headers=bearer(server.key),
            timeout=None,  # noqa: S113  an answer takes as long as it takes; who leaves ends it
        )
        self._context = 0

    def application(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/health", self.health),
                Route("/v1/models", self.models),
                Route("/v1/models/{name:path}", self.model),
                *(Route(path, self.forward, methods=["POST"]) for path in _ASKED),
                Route("/studio/adapters", self.add, methods=["POST"]),
            ],
            exception_handlers=HANDLERS | {httpx.HTTPError: _unreachable},
        )

    async def health(self, _: HttpRequest) -> Response:
        """Whether vLLM answers."""
        reply = await self._client.get("/health")
        if reply.status_code != 200:
            return refusal(503, "vLLM does not answer.")
        return JSONResponse({"status": "ready", "model": self._name})

    async def models(self, _: HttpRequest) -> Response:
        """The base and every adapter that can be asked for by name."""
        return JSONResponse({"object": "list", "data": [await self._model(name) for name in self._described]})

    async def model(self, request: HttpRequest) -> Response:
        """One of them."""
        return JSONResponse(await self._model(self._checked(request.path_params["name"])))

    async def add(self, request: HttpRequest) -> Response:
        """Put an adapter beside the weights; for the studio alone."""
        given = request.headers.get("x-studio-token", "")
        if not self._control or not hmac.compare_digest(given.encode(), self._control.encode()):
            raise HTTPException(404)
        body = await read_body(request)
        name, folder = str(body.get("name") or ""), Path(str(body.get("folder") or ""))
        if not name or name == self._name:
            raise ProtocolError("name must be the name of an adapter.", "name")
        if name in self._folders:
            if self._folders[name] != folder:
                return refusal(409, "Another adapter has this name.", param="name", code="name_taken")
            return JSONResponse(await self._model(name))
        try:
            refuse_no_lora(name, folder)
            reply = await self._client.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": str(folder)})
            if reply.status_code != 200:
                raise StudioError("chat.refused", reason=_said(reply))
            await run_in_threadpool(self._known, name, folder)
        except StudioError as problem:
            return JSONResponse({"problem": problem.to_json()}, 400)
        return JSONResponse(await self._model(name))

    async def forward(self, request: HttpRequest) -> Response:
        """Have vLLM answer."""
        body = await read_body(request)
        asked = self._checked(body.get("model", self._name))
        if body.get("tools") and not self._reads_calls:
            raise ProtocolError(
                "vLLM has no tool parser for this model: ask without tools, or serve without vLLM.", "tools"
            )
        upstream = self._client.build_request("POST", request.url.path, json=body | {"model": asked})
        reply = await self._client.send(upstream, stream=True)
        if reply.status_code != 200:
            await reply.aread()
            return _refused(reply)
        mark = self._described[asked]["fingerprint"]
        if body.get("stream") is True:
            return StreamingResponse(_events(reply, mark), media_type="text/event-stream", headers=_STREAM)
        return await _whole(request, reply, mark)

    def _checked(self, name: Any) -> str:
        """A model's name. Raises ProtocolError for one that is none."""
        if name in self._described:
            return str(name)
        there = ", ".join(self._described)
        raise ProtocolError(
            f"The model {short(name, 200)} does not exist. There is: {there}.",
            "model",
            code="model_not_found",
            status=404,
        )

    def _known(self, name: str, folder: Path) -> None:
        self._folders[name] = folder
        self._described[name] = described(folder)

    async def _model(self, name: str) -> dict[str, Any]:
        if not self._context:
            told = (await self._client.get("/v1/models")).json()
            self._context = next((int(each["max_model_len"]) for each in told["data"] if each.get("max_model_len")), 0)
        return {
            "id": name,
            "object": "model",
            "created": self._began,
            "owned_by": "glmstudio",
            "root": self._name,
            "parent": None if name == self._name else self._name,
            "glmstudio": self._described[name] | {"context": self._context, "engine": "vllm"},
        }


_BASE = {"kind": "base", "sha256": "", "norm": 0.0, "size": 0, "fingerprint": "base"}
_STREAM = {"cache-control": "no-store", "x-accel-buffering": "no"}


def described(folder: Path) -> dict[str, Any]:
    """An adapter by its tensors in the file, as the studio's own server computes it of those in use. Raises
    StudioError."""
    try:
        tensors = load_file(folder / "adapter_model.safetensors")
    except (OSError, SafetensorError, TypeError, AttributeError) as error:  # bfloat16 is none of numpy's types
        raise StudioError("adapters.missing", folder=str(folder)) from error
    digest, square = hashlib.sha256(), 0.0
    for name in sorted(tensors, key=lambda each: each.removeprefix(_PREFIX)):
        numbers = np.ascontiguousarray(tensors[name], dtype=np.float32)
        digest.update(name.removeprefix(_PREFIX).encode())
        digest.update(numbers.tobytes())
        square += float(np.square(numbers, dtype=np.float64).sum())
    sha = digest.hexdigest()
    return {"kind": "lora", "sha256": sha, "norm": square**0.5, "size": rank_of(folder), "fingerprint": sha[:12]}


async def _whole(request: HttpRequest, reply: httpx.Response, mark: str) -> Response:
    """The answer once it is whole; a client that leaves before ends it."""

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    read, leaving = asyncio.create_task(reply.aread()), asyncio.create_task(left())
    try:
        await asyncio.wait({read, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not read.done():
            return refusal(400, "The request was not whole.")
        told = json.loads(read.result())
    finally:
        for each in (read, leaving):
            each.cancel()
        await reply.aclose()
    if isinstance(told.get("choices"), list):
        told["system_fingerprint"] = mark
        for choice in told["choices"]:
            message = choice.get("message")
            if isinstance(message, dict) and isinstance(message.get("content"), str):
                message["content"] = message["content"].strip()
    return JSONResponse(told)


async def _events(reply: httpx.Response, mark: str) -> AsyncIterator[str]:
    """The pieces of an answer as they come."""
    begun: set[int] = set()
    try:
        async for line in reply.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                yield f"{line}\n\n" if line else ""
                continue
            chunk = json.loads(line[6:])
            if isinstance(chunk, dict) and "error" not in chunk:
                chunk["system_fingerprint"] = mark
                for choice in chunk.get("choices", ()):
                    _without_first_blank(choice, begun)
            yield f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"
    except httpx.HTTPError:
        error = {"message": "vLLM ended in the middle of the answer.", "type": "server_error", "code": None}
        yield f"data: {json.dumps({'error': error})}\n\n"
    finally:
        await reply.aclose()


def _without_first_blank(choice: dict[str, Any], begun: set[int]) -> None:
    """Take the blank before the first word of an answer away; `begun`: those that have had one."""
    delta, at = choice.get("delta"), int(choice.get("index") or 0)
    if at in begun or not isinstance(delta, dict) or not isinstance(delta.get("content"), str):
        return
    delta["content"] = delta["content"].lstrip()
    if delta["content"]:
        begun.add(at)


def _refused(reply: httpx.Response) -> Response:
    """What vLLM refuses, with the codes of this protocol."""
    said = _said(reply)
    long = reply.status_code == 400 and ("context length" in said or "max_model_len" in said)
    return refusal(reply.status_code, said, code="context_length_exceeded" if long else None)


def _said(reply: httpx.Response) -> str:
    try:
        told = reply.json()
        error = told.get("error", told)
        return str(error.get("message") or error) if isinstance(error, dict) else str(error)
    except (ValueError, AttributeError):
        return f"HTTP {reply.status_code}"


async def _unreachable(_: HttpRequest, __: Exception) -> Response:
    return refusal(503, "vLLM does not answer.")
