"""The tool loop: ask the model server, run the tools it calls, tell it what they said, until it answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from glmstudio.chat.protocol import assistant_message
from glmstudio.chat.tools import TOOLS, ToolError
from glmstudio.errors import StudioError

_LONGEST_RESULT = 4000


@dataclass(frozen=True)
class TextPart:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True)
class CallStarted:
    """The model called a tool."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class CallEnded:
    """What the tool said, or why it could not (`failed`)."""

    id: str
    name: str
    content: str
    seconds: float
    failed: bool


@dataclass(frozen=True)
class Finished:
    """The end: every message that was added, in OpenAI's form, and what it cost.

    `reason` is `stop`, `length`, `cancelled`, or `rounds` where the model kept calling tools.
    """

    messages: list[dict[str, Any]]
    reason: str
    tokens: int
    seconds: float


Event = TextPart | CallStarted | CallEnded | Finished


@dataclass
class _Round:
    """One answer of the server, put together from its stream."""

    text: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    reason: str = "stop"
    tokens: int = 0


def converse(
    port: int,
    messages: list[dict[str, Any]],
    tools: Sequence[str],
    *,
    max_rounds: int = 5,
    temperature: float = 0.0,
    cancel: threading.Event | None = None,
) -> Iterator[Event]:
    """Answer the last user message of `messages` (OpenAI's form, not changed), calling tools by name.

    Ends with one `Finished`. Raises StudioError where the model server cannot be reached or reports an error.
    """
    cancel = cancel or threading.Event()
    added: list[dict[str, Any]] = []
    began, tokens = time.monotonic(), 0
    schemas = [{"type": "function", "function": TOOLS[name].schema} for name in tools]
    for _ in range(max_rounds):
        current = _Round()
        body = {"model": "glm", "messages": messages + added, "tools": schemas, "temperature": temperature}
        yield from _stream(port, body, current, cancel)
        tokens += current.tokens
        if current.text or current.calls or not cancel.is_set():
            added.append(assistant_message(current.text, current.calls))
        if cancel.is_set():
            yield Finished(_answered(added), "cancelled", tokens, time.monotonic() - began)
            return
        if not current.calls:
            yield Finished(added, current.reason, tokens, time.monotonic() - began)
            return
        for call in current.calls:
            yield from _run(call, tools, added)
    yield Finished(added, "rounds", tokens, time.monotonic() - began)


def _stream(port: int, body: dict[str, Any], current: _Round, cancel: threading.Event) -> Iterator[TextPart]:
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    request = body | {"stream": True, "stream_options": {"include_usage": True}}
    try:
        # Proxy variables are for the world outside, not for this machine.
        with (
            httpx.Client(trust_env=False, timeout=httpx.Timeout(600, connect=5)) as client,
            client.stream("POST", url, json=request) as response,
        ):
            if response.status_code != 200:
                response.read()
                raise StudioError("chat.refused", reason=_reason(response))
            for line in response.iter_lines():
                if cancel.is_set():
                    return
                if line.startswith("data: ") and line != "data: [DONE]":
                    yield from _take(json.loads(line[6:]), current)
    except httpx.HTTPError as error:
        raise StudioError("chat.unreachable") from error


def _take(chunk: dict[str, Any], current: _Round) -> Iterator[TextPart]:
    if chunk.get("error"):
        raise StudioError("chat.refused", reason=str(chunk["error"].get("message", "")))
    current.tokens = (chunk.get("usage") or {}).get("completion_tokens", current.tokens)
    for choice in chunk.get("choices", ()):
        delta = choice.get("delta", {})
        if delta.get("content"):
            current.text += delta["content"]
            yield TextPart(delta["content"])
        current.calls += [{k: v for k, v in call.items() if k != "index"} for call in delta.get("tool_calls") or ()]
        current.reason = choice.get("finish_reason") or current.reason


def _run(call: dict[str, Any], tools: Sequence[str], added: list[dict[str, Any]]) -> Iterator[Event]:
    name, began = call["function"]["name"], time.monotonic()
    arguments: dict[str, Any] | None
    try:
        arguments = json.loads(call["function"]["arguments"])
    except ValueError:
        arguments = None
    yield CallStarted(call["id"], name, arguments if isinstance(arguments, dict) else {})
    try:
        if name not in tools:
            raise ToolError(f"There is no tool named {name[:100]}.")
        if not isinstance(arguments, dict):
            raise ToolError("The tool call is not valid. Write tool_call(name=value).")
        content, failed = TOOLS[name].run(arguments), False
    except ToolError as error:
        content, failed = f"Error: {error}", True
    content = content if len(content) <= _LONGEST_RESULT else content[:_LONGEST_RESULT] + " …"
    added.append({"role": "tool", "tool_call_id": call["id"], "content": content})
    yield CallEnded(call["id"], name, content, time.monotonic() - began, failed)


def _answered(added: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages without a call that was never answered, which no server would accept."""
    if added and added[-1].get("tool_calls"):
        last = {key: value for key, value in added[-1].items() if key != "tool_calls"}
        return added[:-1] + ([last] if last["content"] else [])
    return added


def _reason(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {response.status_code}"
