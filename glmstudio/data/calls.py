"""ChatGLM3's tool calls as text: ```python / tool_call(name=value, ...) / ```.

The original demos read a call with Python's `eval`, so any web page that reached the model could run code on the
user's machine. Here a call is parsed, never run: keyword arguments with literal values, nothing else.
"""

from __future__ import annotations

import ast
import io
import keyword
import tokenize
from typing import Any

LONGEST_CALL = 20_000
_MARK = "argument_"


class CallError(ValueError):
    """The text is no tool call; the message is written for the model, which may try again."""


def render_call(arguments: dict[str, Any]) -> str:
    """The text that the original training script makes of a call's arguments."""
    inside = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return f"```python\ntool_call({inside})\n```"


def parse_call(text: str) -> dict[str, Any]:
    """The arguments of a call. Raises CallError for anything but `tool_call(name=literal, ...)`."""
    code = fenced(text)
    if len(code) > LONGEST_CALL:
        raise CallError("The tool call is too long.")
    try:
        node = _tree(code.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError) as error:
        raise CallError("The tool call is not valid. Write tool_call(name=value).") from error
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "tool_call"):
        raise CallError("The tool call must have the form tool_call(name=value).")
    if node.args:
        raise CallError("The tool call must name each argument: tool_call(name=value).")
    return _keywords(node)


def _tree(code: str) -> ast.expr:
    """The call's tree. Where it fails, a second time with `from=` and other words of Python marked as arguments."""
    try:
        return ast.parse(code, mode="eval").body
    except SyntaxError:
        tokens = list(tokenize.generate_tokens(io.StringIO(code).readline))
        after = [token.string for token in tokens[1:]] + [""]
        marked = [
            (token.type, _MARK + token.string if keyword.iskeyword(token.string) and sign == "=" else token.string)
            for token, sign in zip(tokens, after, strict=True)
        ]
        return ast.parse(tokenize.untokenize(marked).strip(), mode="eval").body


def _keywords(node: ast.Call) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for each in node.keywords:
        if each.arg is None:
            raise CallError("The tool call must name each argument: tool_call(name=value).")
        bare = each.arg.removeprefix(_MARK)
        name = bare if keyword.iskeyword(bare) else each.arg
        if name in arguments:
            raise CallError(f"The argument {name} is given twice.")
        try:
            arguments[name] = ast.literal_eval(each.value)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
            raise CallError(f"The argument {name} must be a plain value.") from error
    return arguments


def fenced(text: str) -> str:
    """What stands between the first pair of fences, or the whole text where there is none."""
    _, fence, rest = text.partition("```")
    if not fence:
        return text
    code, _, _ = rest.partition("```")
    return code.removeprefix("python")
