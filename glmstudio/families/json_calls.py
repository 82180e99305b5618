"""Calls as JSON below the tool's name, as GLM-4 writes them."""

from __future__ import annotations

import json
from typing import Any

from glmstudio.families.message import INTERPRETER
from glmstudio.families.python_calls import LONGEST_CALL, CallError, fenced, json_arguments, parse_call, plain


def json_call(arguments: dict[str, Any]) -> str:
    """A call's arguments on one line."""
    return json.dumps(arguments, ensure_ascii=False)


def read_json_call(name: str, content: str) -> dict[str, Any]:
    """The arguments of a call; as a second form ChatGLM3's is read. Raises CallError."""
    read = json_arguments(content)
    if read is not None:
        try:
            return {whole: plain(value) for whole, value in read.items()}
        except (ValueError, RecursionError) as error:
            raise CallError("The tool call's arguments must be plain values.") from error
    if name == INTERPRETER and len(content) <= LONGEST_CALL:
        return {"code": fenced(content).strip("\n")}
    try:
        return parse_call(content)
    except CallError as error:
        raise CallError("The tool call is not valid. Write its arguments as one JSON object.") from error
