"""A file of tools that somebody brings: read without running it, and put into the tools folder once it was shown."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from glmstudio.errors import StudioError, refused
from glmstudio.files import read_bytes, write_bytes
from glmstudio.paths import paths
from glmstudio.tools.permissions import set_permission
from glmstudio.tools.signature_schema import LARGEST, read_tools
from glmstudio.tools.tool import Tool
from glmstudio.tools.toolbox import toolbox


@dataclass(frozen=True)
class AddedFile:
    """A file as it would be added: its tools, and whether one of that name is there already."""

    name: str
    tools: tuple[Tool, ...]
    is_known: bool

    @property
    def needs(self) -> tuple[str, ...]:
        """What the process of a call is granted."""
        return self.tools[0].needs


def look_at(given: Path) -> AddedFile:
    """What a file offers. Raises StudioError where it cannot be used, or another source has a tool of that name."""
    tools = read_tools(given)
    present = toolbox().tools
    for tool in tools:
        other = present.get(tool.name)
        if other is not None and other.source != given.name:
            raise StudioError("tools.taken", file=given.name, name=tool.name, by=other.source)
    return AddedFile(given.name, tuple(tools), os.path.lexists(paths().tools / given.name))


def add_file(given: Path, *, replacing: bool = False) -> AddedFile:
    """Put the file into the tools folder; each of its tools asks first, whatever one of that name was allowed before.

    Raises StudioError, also where a file of that name is there and is not to be replaced.
    """
    found = look_at(given)
    if found.is_known and not replacing:
        raise StudioError("tools.file_there", file=found.name)
    for tool in found.tools:  # before the file is there: no call of it may slip through
        set_permission(tool, "ask")
    try:
        write_bytes(paths().tools / found.name, read_bytes(given, LARGEST))
    except OSError as error:
        raise refused(error) from error
    return found
