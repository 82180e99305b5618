"""A Python file as a toolbox: its public functions are tools. The file is read, never run, to know what it offers."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.syntax import expression, module
from glmstudio.tools.tool import PERMISSIONS, Tool

LARGEST = 1_000_000  # bytes
LONGEST_NAME = 64  # characters of a tool's name
_LONGEST_TEXT = 1000  # characters of a description
NEEDS = ("network", "folder")
_PLAIN = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "dict": "object", "list": "array"}
_FILE_NAME = re.compile(r"\w[\w .()-]{0,96}\.py")
_ARGUMENT = re.compile(r"^\s*\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)$")


def read_tools(file: Path, *, shipped: bool = False) -> list[Tool]:
    """The tools of a file. Raises StudioError that names the file, the line and what to do."""
    name = file.name
    if not _FILE_NAME.fullmatch(name):
        shown = "".join(each if each.isprintable() else "?" for each in name)
        raise StudioError("tools.odd_name", file=shown[:60])
    if file.is_symlink() or not file.is_file():
        raise StudioError("tools.no_file", file=name)
    if file.stat().st_size > LARGEST:
        raise StudioError("tools.too_large", file=name)
    try:
        tree = module(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise StudioError("tools.syntax", file=name, line=getattr(error, "lineno", None) or 1) from error
    needs = _constant(tree, "NEEDS", [])
    if not isinstance(needs, list) or not all(each in NEEDS for each in needs):
        raise StudioError("tools.needs", file=name, known=", ".join(NEEDS))
    permission = _constant(tree, "PERMISSION", "ask") if shipped else "ask"
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    if not functions:
        raise StudioError("tools.no_function", file=name)
    for node in functions:
        if len(node.name) > LONGEST_NAME:
            raise StudioError("tools.long_name", file=name, line=node.lineno, most=LONGEST_NAME)
    return [
        Tool(
            name=node.name,
            description=_description(node, name),
            parameters=_parameters(node, name),
            source="studio" if shipped else name,
            permission_default=permission if permission in PERMISSIONS else "ask",
            file=file,
            needs=tuple(needs),
        )
        for node in functions
    ]


def _description(node: ast.FunctionDef, file: str) -> str:
    written = ast.get_docstring(node)
    if not written:
        raise StudioError("tools.no_docstring", file=file, line=node.lineno, name=node.name)
    return _sayable(" ".join(written.split("\n\n")[0].split()))


def _parameters(node: ast.FunctionDef, file: str) -> dict[str, Any]:
    """The JSON schema of the function's arguments."""
    given = node.args
    if given.vararg or given.kwarg or given.posonlyargs:
        raise StudioError("tools.stars", file=file, line=node.lineno, name=node.name)
    about = _argument_texts(ast.get_docstring(node) or "")
    optional = {each.arg for each in given.args[len(given.args) - len(given.defaults) :]}
    optional |= {each.arg for each, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default}
    properties: dict[str, Any] = {}
    for each in [*given.args, *given.kwonlyargs]:
        schema = None if each.annotation is None else _schema(each.annotation)
        if schema is None:
            raise StudioError("tools.no_type", file=file, line=each.lineno, name=node.name, argument=each.arg)
        properties[each.arg] = schema | ({"description": _sayable(about[each.arg])} if each.arg in about else {})
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _schema(node: ast.expr) -> dict[str, Any] | None:
    """The JSON schema of an annotation; None for one that JSON has no word for."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            return _schema(expression(node.value))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
    if isinstance(node, ast.Name):
        return {"type": _PLAIN[node.id]} if node.id in _PLAIN else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        parts = [part for part in (node.left, node.right) if not _is_none(part)]
        return _schema(parts[0]) if len(parts) == 1 else None
    is_generic = isinstance(node, ast.Subscript) and isinstance(node.value, (ast.Name, ast.Attribute))
    return _generic(node) if is_generic else None  # type: ignore[arg-type]


def _generic(node: ast.Subscript) -> dict[str, Any] | None:
    """The schema of `list[…]`, `Literal[…]` and their like."""
    outer = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "")
    if outer == "Optional":
        return _schema(node.slice)
    if outer == "Literal":
        choices = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        values = [each.value for each in choices if isinstance(each, ast.Constant) and _is_sayable(each.value)]
        kinds = {type(value).__name__ for value in values}
        known = len(values) == len(choices) and len(kinds) == 1 and kinds <= _PLAIN.keys()
        return {"type": _PLAIN[kinds.pop()], "enum": values} if known else None
    if outer in ("list", "List"):
        items = _schema(node.slice)
        return {"type": "array", "items": items} if items else None
    return {"type": "object"} if outer in ("dict", "Dict") else None


def _is_sayable(value: Any) -> bool:
    """Whether JSON can carry a choice, as text in UTF-8."""
    if isinstance(value, str):
        return _sayable(value) == value
    return not isinstance(value, (int, float)) or abs(value) < 2**63


def _sayable(text: str) -> str:
    """A text that the model can be told: not too long, and nothing in it that UTF-8 cannot write."""
    return text[:_LONGEST_TEXT].encode("utf-8", "replace").decode()


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _argument_texts(docstring: str) -> dict[str, str]:
    """What stands under `Args:`, by argument."""
    _, _, rest = docstring.partition("Args:\n")
    texts: dict[str, str] = {}
    last = ""
    for line in rest.split("\n"):
        if line.strip() and not line.startswith(" "):
            break
        if (match := _ARGUMENT.match(line)) and len(line) - len(line.lstrip()) <= 4:
            last = match[1]
            texts[last] = match[2].strip()
        elif last and line.strip():
            texts[last] += f" {line.strip()}"
    return texts


def _constant(tree: ast.Module, name: str, default: Any) -> Any:
    """The plain value that the file gives to a name at its top."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        else:
            continue
        if any(isinstance(each, ast.Name) and each.id == name for each in targets):
            try:
                return ast.literal_eval(node.value) if node.value else None
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                return None
    return default
