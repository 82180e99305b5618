"""ChatGLM3's tool calls as text: ```python / tool_call(name=value, ...) / ```.

The original demos read a call with Python's `eval`, so any web page that reached the model could run code on the
user's machine. Here a call is parsed, never run: keyword arguments with literal values, nothing else.
"""

from __future__ import annotations

import ast
from typing import Any

LONGEST_CALL = 20_000


class CallError(ValueError):
    """The text is no tool call; the message is written for the model, which may try again."""


def render_call(arguments: dict[str, Any]) -> str:
    """The text that the original training script makes of a call's arguments."""
    inside = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return f"```python\ntool_call({inside})\n```"


def parse_call(text: str) -> dict[str, Any]:
    """The arguments of a call. Raises CallError for anything but `tool_call(name=literal, ...)`."""
    code = _fenced(text)
    if len(code) > LONGEST_CALL:
        raise CallError("The tool call is too long.")
    try:
        node = ast.parse(code.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CallError("The tool call is not valid. Write tool_call(name=value).") from error
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "tool_call"):
        raise CallError("The tool call must have the form tool_call(name=value).")
    if node.args:
        raise CallError("The tool call must name each argument: tool_call(name=value).")
    return _keywords(node)


def _keywords(node: ast.Call) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise CallError("The tool call must name each argument: tool_call(name=value).")
        if keyword.arg in arguments:
            raise CallError(f"The argument {keyword.arg} is given twice.")
        try:
            arguments[keyword.arg] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
            raise CallError(f"The argument {keyword.arg} must be a plain value.") from error
    return arguments


def _fenced(text: str) -> str:
    """What stands between the first pair of fences, or the whole text where there is none."""
    _, fence, rest = text.partition("```")
    if not fence:
        return text
    code, _, _ = rest.partition("```")
    return code.removeprefix("python")
