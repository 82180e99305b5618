"""A tool: what the model is told of it, where it comes from, and whether a call of it fits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmstudio.tools.tool_error import ToolError
from glmstudio.words import has, say

PERMISSIONS = ("always", "ask", "never")
_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "object": (dict,),
    "array": (list,),
}  # fmt: skip


@dataclass(frozen=True)
class Tool:
    """A named function with the JSON schema of its arguments.

    `source` is `studio`, a file's name, or `mcp:` and a server's name; `needs` is what its process is granted.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    source: str
    permission_default: str
    file: Path | None = None
    needs: tuple[str, ...] = ()
    remote: str = ""  # its name on its server

    @property
    def schema(self) -> dict[str, Any]:
        """The tool as ChatGLM3's system prompt lists it."""
        return {"name": self.name, "description": self.description, "parameters": self.parameters}

    def title(self, lang: str) -> str:
        """The tool's name for people."""
        return say(lang, f"tools.{self.name}.title") if self._is_worded() else self.name

    def about(self, lang: str) -> str:
        """What the tool does, for people."""
        return say(lang, f"tools.{self.name}.about") if self._is_worded() else self.description

    def _is_worded(self) -> bool:
        return self.source == "studio" and has(f"tools.{self.name}.title")


def check(tool: Tool, arguments: dict[str, Any]) -> None:
    """Raise ToolError that says what does not fit the schema and how it would, for the model to try again."""
    properties: dict[str, Any] = tool.parameters.get("properties") or {}
    missing = [name for name in tool.parameters.get("required") or () if name not in arguments]
    if missing:
        raise ToolError(f"{tool.name} needs the argument {missing[0]}.")
    for name, value in arguments.items():
        if name not in properties:
            known = f" Its arguments are: {', '.join(properties)}." if len(properties) > 1 else ""
            raise ToolError(f"{tool.name} has no argument {name[:60]}.{known}")
        if value is None and name not in (tool.parameters.get("required") or ()):
            continue
        _check_value(f"The argument {name} of {tool.name}", properties[name], value)


def _check_value(what: str, schema: Any, value: Any) -> None:
    if not isinstance(schema, dict):
        return
    kind = schema.get("type")
    wanted = _KINDS.get(kind) if isinstance(kind, str) else None
    wrong = wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted))
    if wrong:
        raise ToolError(f"{what} must be of type {kind}.")
    choices = schema.get("enum")
    if isinstance(choices, list) and value not in choices:
        raise ToolError(f"{what} must be one of: {', '.join(map(str, choices))}.")
    if isinstance(value, list):
        for each in value:
            _check_value(f"Each value in {what[0].lower()}{what[1:]}", schema.get("items"), each)
