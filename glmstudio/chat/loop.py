"""The tool loop: ask the model server, run the tools it calls, tell it what they said, until it answers.

What runs is decided outside: `decide` is asked before every call, and may run it, refuse it, or answer it by hand.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import httpx

from glmstudio.access.api_key import bearer
from glmstudio.chat.openai_messages import assistant_message
from glmstudio.chat.sampling import PRESETS, Sampling
from glmstudio.errors import StudioError
from glmstudio.tools.call import call as run_tool
from glmstudio.tools.toolbox import Tool, ToolError, check

MOST_ROUNDS = 8
_MOST_REPAIRS = 2  # wrong calls in a row; a model that has not understood by then does not
_REFUSED = "The user refused this call. Answer without it."


@dataclass(frozen=True)
class ChatRequest:
    """What is asked of whom: `messages` in OpenAI's form, the last one the user's, and the tools that are offered.

    `key` is the server's."""

    port: int
    model: str
    messages: list[dict[str, Any]]
    tools: Sequence[Tool] = ()
    sampling: Sampling = PRESETS["precise"]
    key: str = ""


@dataclass(frozen=True)
class Decision:
    """What becomes of a call: `run` it, `refuse` it, or tell the model `text` instead of running it."""

    kind: Literal["run", "refuse", "answer"]
    text: str = ""


@dataclass(frozen=True)
class Waiting:
    """So many others are served first."""

    before: int


@dataclass(frozen=True)
class TextPart:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True)
class CallStarted:
    """The model called a tool; `decide` is asked now."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class CallEnded:
    """What the tool said, or why it could not. `how` is done, failed, wrong (the call itself), refused or answered."""

    id: str
    name: str
    content: str
    seconds: float
    how: str
    stopped: StudioError | None = None


@dataclass(frozen=True)
class Measured:
    """What the last round cost: tokens, how many of the prompt's were still known, and seconds."""

    prompt_tokens: int
    cached_tokens: int
    tokens: int
    first_token: float
    seconds: float
    fingerprint: str


@dataclass(frozen=True)
class Finished:
    """The end: every message that was added, in OpenAI's form.

    `reason` is `stop`, `length`, `cancelled`, or `rounds` where the model kept calling tools.
    """

    messages: list[dict[str, Any]]
    reason: str


Event = Waiting | TextPart | CallStarted | CallEnded | Measured | Finished
Decide = Callable[[CallStarted, Tool], Decision]


def run_all(_call: CallStarted, _tool: Tool) -> Decision:
    """The `decide` of somebody who offers only tools that may always run."""
    return Decision("run")


def converse(asked: ChatRequest, *, decide: Decide = run_all, cancel: threading.Event | None = None) -> Iterator[Event]:
    """Answer the last user message, calling tools; ends with one `Finished`.

    Raises StudioError where the model server cannot be reached or reports an error.
    """
    cancel = cancel or threading.Event()
    added: list[dict[str, Any]] = []
    wrong = 0
    for _ in range(MOST_ROUNDS):
        current = _Round()
        yield from _ask(asked, added, current, cancel)
        if current.text or current.calls or not cancel.is_set():
            added.append(assistant_message(current.text, list(current.calls.values())))
        if cancel.is_set() or not current.calls:
            yield Finished(_answered(added), "cancelled" if cancel.is_set() else current.reason)
            return
        for call in current.calls.values():
            ended = yield from _perform(call, asked.tools, decide, cancel)
            added.append({"role": "tool", "tool_call_id": ended.id, "content": ended.content})
            wrong = wrong + 1 if ended.how == "wrong" else 0
        if wrong > _MOST_REPAIRS:
            break
    yield Finished(_answered(added), "cancelled" if cancel.is_set() else "rounds")


@dataclass
class _Round:
    """One answer of the server, put together from its stream."""

    text: str = ""
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    reason: str = "stop"
    usage: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    first: float | None = None


def _ask(asked: ChatRequest, added: list[dict[str, Any]], current: _Round, cancel: threading.Event) -> Iterator[Event]:
    sampling = {name: value for name, value in asdict(asked.sampling).items() if value is not None}
    body = {"model": asked.model, "messages": asked.messages + added, "user": "studio", **sampling}
    if asked.tools:
        body["tools"] = [{"type": "function", "function": tool.schema} for tool in asked.tools]
    began = time.monotonic()
    for line in _lines(asked, body, cancel):
        if line.startswith(": waiting "):
            yield Waiting(int(line.removeprefix(": waiting ")))
        elif line.startswith("data: ") and line != "data: [DONE]":
            for event in _take(json.loads(line[6:]), current):
                current.first = current.first or time.monotonic() - began
                yield event
    details = current.usage.get("prompt_tokens_details") or {}
    yield Measured(
        prompt_tokens=current.usage.get("prompt_tokens", 0),
        cached_tokens=details.get("cached_tokens", 0),
        tokens=current.usage.get("completion_tokens", 0),
        first_token=current.first or time.monotonic() - began,
        seconds=time.monotonic() - began,
        fingerprint=current.fingerprint,
    )


def _lines(asked: ChatRequest, body: dict[str, Any], cancel: threading.Event) -> Iterator[str]:
    url = f"http://127.0.0.1:{asked.port}/v1/chat/completions"
    request = body | {"stream": True, "stream_options": {"include_usage": True}}
    try:
        # Proxy variables are for the world outside, not for this machine.
        with (
            httpx.Client(trust_env=False, timeout=httpx.Timeout(600, connect=5)) as client,
            client.stream("POST", url, json=request, headers=bearer(asked.key)) as response,
        ):
            if response.status_code != 200:
                response.read()
                raise _refusal(response)
            for line in response.iter_lines():
                if cancel.is_set():
                    return
                yield line
    except httpx.HTTPError as error:
        raise StudioError("chat.unreachable") from error


def _take(chunk: dict[str, Any], current: _Round) -> Iterator[TextPart]:
    if chunk.get("error"):
        raise _problem(chunk["error"])
    current.usage = chunk.get("usage") or current.usage
    current.fingerprint = chunk.get("system_fingerprint") or current.fingerprint
    for choice in chunk.get("choices", ()):
        delta = choice.get("delta", {})
        for piece in delta.get("tool_calls") or ():
            whole = current.calls.setdefault(
                piece["index"], {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
            )
            whole["id"] = piece.get("id") or whole["id"]
            for name, text in (piece.get("function") or {}).items():
                whole["function"][name] += text or ""
        if delta.get("content"):
            current.text += delta["content"]
            yield TextPart(delta["content"])
        current.reason = choice.get("finish_reason") or current.reason


def _perform(
    call: dict[str, Any], tools: Sequence[Tool], decide: Decide, cancel: threading.Event
) -> Generator[CallStarted | CallEnded, None, CallEnded]:
    """Have one call judged and run; the generator's value is the `CallEnded` that it yields."""
    name, written = str(call["function"]["name"]), call["function"]["arguments"]
    arguments = _object(written)
    started = CallStarted(call["id"], name, {"": written} if arguments is None else arguments)
    yield started
    ended = _judged(started, arguments, tools, decide, cancel)
    yield ended
    return ended


def _judged(
    started: CallStarted,
    arguments: dict[str, Any] | None,
    tools: Sequence[Tool],
    decide: Decide,
    cancel: threading.Event,
) -> CallEnded:
    def end(content: str, how: str, seconds: float = 0.0, stopped: StudioError | None = None) -> CallEnded:
        return CallEnded(started.id, started.name, content, seconds, how, stopped)

    tool = next((each for each in tools if each.name == started.name), None)
    try:
        if tool is None:
            known = ", ".join(each.name for each in tools)
            raise ToolError(f"There is no tool named {started.name[:100]}. The tools are: {known}.")
        if arguments is None:
            raise ToolError("The tool call is not valid. Write tool_call(name=value).")
        check(tool, arguments)
    except ToolError as error:
        return end(f"Error: {error}", "wrong")
    decision = decide(started, tool)
    if decision.kind == "answer":
        return end(decision.text, "answered")
    if decision.kind == "refuse" or cancel.is_set():
        return end(decision.text or _REFUSED, "refused")
    outcome = run_tool(tool, arguments or {}, cancel=cancel)
    return end(outcome.content, "failed" if outcome.failed else "done", outcome.seconds, outcome.stopped)


def _object(written: str) -> dict[str, Any] | None:
    try:
        value = json.loads(written)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _answered(added: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages without a call that was never answered, which no server would accept."""
    if added and added[-1].get("tool_calls"):
        last = {key: value for key, value in added[-1].items() if key != "tool_calls"}
        return added[:-1] + ([last] if last["content"] else [])
    return added


def _refusal(response: httpx.Response) -> StudioError:
    try:
        return _problem(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return StudioError("chat.refused", reason=f"HTTP {response.status_code}")


def _problem(error: dict[str, Any]) -> StudioError:
    """What the server's error means for a person."""
    code, said = error.get("code"), str(error.get("message", ""))
    if code == "context_length_exceeded":
        return StudioError("chat.too_long")
    if code == "out_of_memory":
        return StudioError("chat.out_of_memory")
    return StudioError("chat.refused", reason=said)
