"""ChatGLM3's tool calls as text: ```python / tool_call(name=value, ...) / ```.

The original demos read a call with Python's `eval`, so any web page that reached the model could run code on the
user's machine. Here a call is parsed, never run: keyword arguments with literal values, nothing else.
"""

from __future__ import annotations

import ast
import json
import keyword
import math
import re
import unicodedata
from typing import Any

from glmstudio.families.message import INTERPRETER
from glmstudio.files import whole_text
from glmstudio.syntax import expression

LONGEST_CALL = 20_000
_MARK = "argument_"
_MOST_DEPTH = 100
_MOST_DIGITS = 4000  # of a whole number: Python writes no longer ones
# Strings (also those that do not end), comments, names before `=`, other names. `tokenize` is not asked: since Python
# 3.12 it opens a file called `<string>` to show the line at which a text ends too early.
_PIECE = re.compile(
    r"""'''(?:[^\\]|\\.)*?(?:'''|\\?\Z)|\"\"\"(?:[^\\]|\\.)*?(?:\"\"\"|\\?\Z)"""
    r"""|'(?:[^\\'\r\n]|\\.)*'?|"(?:[^\\"\r\n]|\\.)*"?|\#[^\r\n]*"""
    r"""|(?P<argument>[^\W\d]\w*)(?=(?:[ \t\f]|\\\n)*=(?!=))|[^\W\d]\w*""",
    re.DOTALL,
)


class CallError(ValueError):
    """The text is no tool call; the message is written for the model, which may try again."""


def render_call(arguments: dict[str, Any]) -> str:
    """The text that the original training script makes of a call's arguments."""
    inside = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return f"```python\ntool_call({inside})\n```"


def call_content(name: str, arguments: dict[str, Any]) -> str:
    """A call as the model writes it: the code interpreter gets bare code, every other tool its arguments."""
    code = arguments.get("code")
    return f"```python\n{code}\n```" if name == INTERPRETER and isinstance(code, str) else render_call(arguments)


def read_arguments(value: Any) -> dict[str, Any] | None:
    """A call's arguments, given as an object or as its JSON text; None where they are neither."""
    return arguments_of(value)[0]


def arguments_of(value: Any) -> tuple[dict[str, Any] | None, bool]:
    """The same, and whether they were encoded twice: the JSON text of a JSON text."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return {}, False
    twice = False
    try:
        read = json.loads(value) if isinstance(value, str) else value
        if isinstance(read, str):
            read, twice = json.loads(read), True
    except (ValueError, RecursionError):
        return None, False
    return (read, twice) if isinstance(read, dict) else (None, False)


def json_arguments(text: str) -> dict[str, Any] | None:
    """The arguments that a body is as JSON, bare or in a fence; None where it is none."""
    inside = fenced(text).strip().removeprefix("json").strip()
    if not inside.startswith("{") or len(inside) > LONGEST_CALL:
        return None
    try:
        read = json.loads(inside)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def parse_call(text: str) -> dict[str, Any]:
    """The arguments of a call. Raises CallError for anything but `tool_call(name=literal, ...)`."""
    node, mark = _parsed(text)
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "tool_call"):
        raise CallError("The tool call must have the form tool_call(name=value).")
    if node.args:
        raise CallError("The tool call must name each argument: tool_call(name=value).")
    return _keywords(node, mark)


def _parsed(text: str) -> tuple[ast.expr, str]:
    """The tree of what stands between the fences; if it cannot be read, up to the last fence: a value may hold one."""
    first = fenced(text)
    _, _, rest = text.partition("```")
    last = rest.rpartition("```")[0].removeprefix("python")
    if min(len(first), len(last) or len(first)) > LONGEST_CALL:
        raise CallError("The tool call is too long.")
    problem: Exception | None = None
    for code in (first, last):
        if not code or len(code) > LONGEST_CALL:
            continue
        try:
            return _tree(code.strip())
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            problem = error
    raise CallError("The tool call is not valid. Write tool_call(name=value).") from problem


def _tree(code: str) -> tuple[ast.expr, str]:
    """The call's tree. Where it fails, a second time with `from=` and other words of Python marked as arguments.

    The second of the pair is that mark, empty where nothing had to be marked.
    """
    try:
        return expression(code), ""
    except SyntaxError:
        mark = _MARK
        while mark in unicodedata.normalize("NFKC", code):
            mark += "_"
        return expression(_PIECE.sub(lambda piece: _marked(piece, mark), code)), mark


def _marked(piece: re.Match[str], mark: str) -> str:
    return mark + piece[0] if keyword.iskeyword(piece["argument"] or "") else piece[0]


def _keywords(node: ast.Call, mark: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for each in node.keywords:
        if each.arg is None:
            raise CallError("The tool call must name each argument: tool_call(name=value).")
        name = each.arg.removeprefix(mark) if mark else each.arg
        if name in arguments:
            raise CallError(f"The argument {name} is given twice.")
        try:
            arguments[name] = plain(ast.literal_eval(each.value))
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
            raise CallError(f"The argument {name} must be a plain value.") from error
    return arguments


def plain(value: Any, depth: int = 0) -> Any:
    """The value as JSON has it: tuples as lists. Raises ValueError for one that JSON cannot carry."""
    if depth > _MOST_DEPTH:
        raise ValueError(depth)
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, (list, tuple)):
        return [plain(each, depth + 1) for each in value]
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise ValueError(value)
        return {plain(name): plain(each, depth + 1) for name, each in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(value)
    if isinstance(value, int) and abs(value) >= 10**_MOST_DIGITS:
        raise ValueError(value.bit_length())
    if value is None or isinstance(value, (bool, int, float)):
        return value
    raise ValueError(type(value))


def fenced(text: str) -> str:
    """What stands between the first pair of fences, or the whole text where there is none."""
    _, fence, rest = text.partition("```")
    if not fence:
        return text
    code, _, _ = rest.partition("```")
    return code.removeprefix("python")
