"""The files of one folder that the user chose, to be read only. The fence lets nothing else be opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from glmstudio.tools.tool_error import ToolError

PERMISSION = "ask"
NEEDS = ["folder"]

_MOST = 200
_LARGEST = 200_000  # bytes


def list_files(path: str = ".") -> str:
    """Lists the files of the user's folder, or of a folder in it.

    Args:
        path: A folder inside the user's folder, relative to it.
    """
    folder = _inside(path)
    if not folder.is_dir():
        raise ToolError(f"{path} is not a folder.")
    names = sorted(f"{_shown(each.name)}/" if each.is_dir() else _shown(each.name) for each in folder.iterdir())
    more = f"\n… and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return "\n".join(names[:_MOST]) + more if names else "The folder is empty."


def read_file(path: str) -> str:
    """Reads a text file of the user's folder.

    Args:
        path: The file, relative to the user's folder.
    """
    file = _inside(path)
    try:
        # Neither a link out of the folder nor a pipe that nobody writes to.
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError as error:
        raise ToolError(f"There is no file {path}.") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ToolError(f"{path} is not a file.")
    with os.fdopen(handle, "rb") as opened:
        about = os.fstat(handle)
        content = opened.read(_LARGEST)
    if b"\x00" in content:
        raise ToolError(f"{path} is not a text file.")
    note = f"\n[cut: the file has {about.st_size} bytes]" if about.st_size > _LARGEST else ""
    return content.decode("utf-8", "replace") + note


def _shown(name: str) -> str:
    """A file's name on one line; what cannot be shown as a question mark."""
    return "".join(each if each.isprintable() else "?" for each in name)


def _inside(path: str) -> Path:
    """The path inside the chosen folder. Raises ToolError where it leads out."""
    chosen = os.environ.get("TOOL_FOLDER")
    if not chosen:
        raise ToolError("The user has not chosen a folder that may be read.")
    root = Path(chosen).resolve()
    try:
        found = (root / path).resolve()
    except (ValueError, OSError, RuntimeError) as error:
        raise ToolError("This is not a path.") from error
    if not found.is_relative_to(root):
        raise ToolError("Only files inside the user's folder can be read.")
    return found
