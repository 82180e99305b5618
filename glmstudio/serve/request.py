"""A request in OpenAI's chat protocol, checked: what is asked, how to answer, and which tools may be called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from glmstudio.chat.protocol import ProtocolError, tool_names
from glmstudio.chat.sampling import LIMITS, WHOLE, Sampling
from glmstudio.data.prompt import INTERPRETER

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
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise ProtocolError("you must provide a model parameter", "model")
    for name, allowed in _REFUSED.items():
        if body.get(name) is not None and body[name] not in allowed:
            raise ProtocolError(f"{name} is not supported by this server.", name, code="unsupported_parameter")
    tools, first = _tools(body)
    for name in ("stream", "parallel_tool_calls"):
        if body.get(name) is not None and not isinstance(body[name], bool):
            raise ProtocolError(f"{name} must be true or false.", name)
    options = body.get("stream_options") or {}
    if not isinstance(options, dict):
        raise ProtocolError("stream_options must be an object.", "stream_options")
    return Request(
        model=body["model"],
        messages=body.get("messages"),
        tools=tools,
        first=first,
        one_call=body.get("parallel_tool_calls") is False,
        sampling=_sampling(body),
        stops=_stops(body.get("stop")),
        stream=bool(body.get("stream")),
        usage=bool(options.get("include_usage")),
        client=str(body.get("user") or body.get("safety_identifier") or "")[:200],
    )


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


def _sampling(body: dict[str, Any]) -> Sampling:
    longest = "max_tokens" if body.get("max_completion_tokens") is None else "max_completion_tokens"
    asked = body | {"max_tokens": body.get(longest)}
    chosen: dict[str, Any] = {}
    for name, (least, most) in LIMITS.items():
        value, whole = asked.get(name), name in WHOLE
        if value is None:
            continue
        kinds = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
            kind, named = "an integer" if whole else "a number", longest if name == "max_tokens" else name
            raise ProtocolError(f"{named} must be {kind} between {least} and {most}.", named)
        chosen[name] = value
    return Sampling(**chosen)


def _stops(value: Any) -> list[str]:
    stops = [value] if isinstance(value, str) else value or []
    if (
        not isinstance(stops, list)
        or len(stops) > _MOST_STOPS
        or not all(isinstance(each, str) and each for each in stops)
    ):
        raise ProtocolError(f"stop must be a text or a list of at most {_MOST_STOPS} texts.", "stop")
    return stops
