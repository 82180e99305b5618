"""All tools that there are: the shipped ones, those in the user's folder, and those of MCP servers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.paths import paths
from glmstudio.tools.mcp import SERVERS
from glmstudio.tools.signature_schema import read_tools
from glmstudio.tools.tool import Tool, check
from glmstudio.tools.tool_error import ToolError

__all__ = ["Broken", "Tool", "ToolError", "Toolbox", "check", "shipped", "toolbox", "trained"]

_SHIPPED = Path(__file__).parent / "shipped"
_TRAINED = _SHIPPED / "everyday.py"
_MOST_FILES = 100
_read: dict[tuple[Path, int, int, int], list[Tool] | StudioError] = {}


@dataclass(frozen=True)
class Broken:
    """A source of tools that cannot be used, and why."""

    file: str
    problem: StudioError


@dataclass(frozen=True)
class Toolbox:
    """The tools by name, and what could not be read."""

    tools: dict[str, Tool]
    broken: tuple[Broken, ...]


def toolbox() -> Toolbox:
    """Every tool as the files are now. Cheap: a file is read again only when it changed."""
    tools: dict[str, Tool] = {}
    broken: list[Broken] = []
    for file in _files():
        found = _tools_of(file)
        if isinstance(found, StudioError):
            broken.append(Broken(file.name, found))
            continue
        for tool in found:
            if tool.name in tools:
                other = tools[tool.name].source
                broken.append(Broken(file.name, StudioError("tools.taken", file=file.name, name=tool.name, by=other)))
            else:
                tools[tool.name] = tool
    for server in SERVERS.listed():
        tools |= {tool.name: tool for tool in server.tools if server.ready and tool.name not in tools}
        if server.problem is not None:
            broken.append(Broken(server.name, server.problem))
    return Toolbox(tools, tuple(broken))


@cache
def trained() -> dict[str, Tool]:
    """The tools that the demo model knows, in the order in which it was told of them."""
    return {tool.name: tool for tool in read_tools(_TRAINED, shipped=True)}


@cache
def shipped() -> dict[str, Tool]:
    """The tools that come with the studio."""
    return {tool.name: tool for file in _shipped_files() for tool in read_tools(file, shipped=True)}


def _shipped_files() -> Iterator[Path]:
    yield _TRAINED
    yield from sorted(file for file in _SHIPPED.glob("*.py") if file != _TRAINED and file.name != "__init__.py")


def _files() -> Iterator[Path]:
    """The shipped files, then the user's."""
    yield from _shipped_files()
    own = paths().tools
    if own.is_dir():
        yield from sorted(file for file in own.glob("*.py") if not file.name.startswith("."))[:_MOST_FILES]


def _tools_of(file: Path) -> list[Tool] | StudioError:
    try:
        state = file.lstat()
    except OSError:
        return StudioError("tools.no_file", file=file.name)
    # A change that keeps size and time, as an unpacked archive does, still has a time of its own.
    key = (file, state.st_mtime_ns, state.st_ctime_ns, state.st_size)
    if key not in _read:
        if len(_read) > 10 * _MOST_FILES:
            _read.clear()
        try:
            _read[key] = read_tools(file, shipped=file.parent == _SHIPPED)
        except StudioError as error:
            _read[key] = error
        except OSError as error:
            return StudioError("tools.unreadable", file=file.name, reason=error.strerror or str(error))
    return _read[key]
