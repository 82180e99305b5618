"""A request in OpenAI's chat protocol, checked: what is asked, how to answer, and which tools may be called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from glmstudio.chat.openai_messages import ProtocolError, tool_names
from glmstudio.chat.sampling import LIMITS, WHOLE, Sampling
from glmstudio.families.message import INTERPRETER

# What this server does not do is said, never passed over: the value that is allowed, and what it would be.
_REFUSED: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
}
_MOST_STOPS = 4


@dataclass(frozen=True)
class Request:
    """`first` are the names one of which the answer has to call; empty where it may do as it likes."""

    model: str
    messages: Any
    tools: list[Any]
    first: Sequence[str]
    one_call: bool
    sampling: Sampling
    stops: Sequence[str]
    stream: bool
    usage: bool
    client: str


def read_request(body: dict[str, Any]) -> Request:
    """The checked request. Raises ProtocolError that names the field."""
    model = read_model(body)
    refuse_unsupported(body, _REFUSED)
    tools, first = _tools(body)
    refuse_no_switch(body, "stream", "parallel_tool_calls")
    return Request(
        model=model,
        messages=body.get("messages"),
        tools=tools,
        first=first,
        one_call=body.get("parallel_tool_calls") is False,
        sampling=read_sampling(body, LIMITS),
        stops=read_stops(body.get("stop"), _MOST_STOPS),
        stream=bool(body.get("stream")),
        usage=wants_usage(body),
        client=read_client(body),
    )


def read_model(body: dict[str, Any]) -> str:
    """The name of the model that is asked. Raises ProtocolError."""
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise ProtocolError("you must provide a model parameter", "model")
    return str(body["model"])


def refuse_unsupported(body: dict[str, Any], refused: dict[str, tuple[Any, ...]]) -> None:
    """Raise ProtocolError for a field with another value than those that ask for nothing."""
    for name, allowed in refused.items():
        if body.get(name) is not None and body[name] not in allowed:
            raise ProtocolError(f"{name} is not supported by this server.", name, code="unsupported_parameter")


def refuse_no_switch(body: dict[str, Any], *names: str) -> None:
    """Raise ProtocolError where one of these fields is neither true nor false."""
    for name in names:
        if body.get(name) is not None and not isinstance(body[name], bool):
            raise ProtocolError(f"{name} must be true or false.", name)


def wants_usage(body: dict[str, Any]) -> bool:
    """Whether a stream ends with what it cost. Raises ProtocolError."""
    options = body.get("stream_options") or {}
    if not isinstance(options, dict):
        raise ProtocolError("stream_options must be an object.", "stream_options")
    return bool(options.get("include_usage"))


def read_client(body: dict[str, Any]) -> str:
    """Who asks, as far as they say: requests of one client wait for each other."""
    return str(body.get("user") or body.get("safety_identifier") or "")[:200]


def _tools(body: dict[str, Any]) -> tuple[list[Any], list[str]]:
    """The tools that the model may call, and those one of which it has to."""
    tools = body.get("tools")
    if tools is None:
        tools = []
    if not isinstance(tools, list):
        raise ProtocolError("tools must be a list.", "tools")
    names, choice = tool_names(tools), body.get("tool_choice")
    if choice == "none":
        return [], []
    if choice in (None, "auto"):
        return tools, []
    if choice == "required" and names:
        return tools, names
    wanted = choice.get("function") if isinstance(choice, dict) else None
    name = wanted.get("name") if isinstance(wanted, dict) else None
    if isinstance(choice, dict) and choice.get("type") == "code_interpreter":
        name = INTERPRETER
    if name in names:
        return tools, [name]
    raise ProtocolError("tool_choice must be auto, none, required, or name one of the tools.", "tool_choice")


def read_sampling(body: dict[str, Any], limits: dict[str, tuple[float, float]]) -> Sampling:
    """How the next token is chosen. Raises ProtocolError for a number outside of its limits."""
    longest = "max_tokens" if body.get("max_completion_tokens") is None else "max_completion_tokens"
    asked = body | {"max_tokens": body.get(longest)}
    chosen: dict[str, Any] = {}
    for name, (least, most) in limits.items():
        value, whole = asked.get(name), name in WHOLE
        if value is None:
            continue
        kinds = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
            kind, named = "an integer" if whole else "a number", longest if name == "max_tokens" else name
            raise ProtocolError(f"{named} must be {kind} between {least} and {most}.", named)
        chosen[name] = value
    return Sampling(**chosen)


def read_stops(value: Any, most: int) -> list[str]:
    """The texts that end an answer, `most` of them at most. Raises ProtocolError."""
    stops = [value] if isinstance(value, str) else value or []
    if not isinstance(stops, list) or len(stops) > most or not all(isinstance(each, str) and each for each in stops):
        raise ProtocolError(f"stop must be a text or a list of at most {most} texts.", "stop")
    return stops
