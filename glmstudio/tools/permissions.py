"""Which tool may run when, and which folder may be read: what the user said, in `state/tools.json`."""

from __future__ import annotations

import os
from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.files import read_table, write_json
from glmstudio.paths import paths
from glmstudio.system.portable.locks import alone
from glmstudio.tools.tool import PERMISSIONS, Tool


def permission(tool: Tool) -> str:
    """`always`, `ask` or `never`: as the user said, else as the tool came."""
    said = read_table(_file()).get("permissions")
    chosen = said.get(f"{tool.source}/{tool.name}") if isinstance(said, dict) else None
    return chosen if chosen in PERMISSIONS else tool.permission_default


def is_chosen(tool: Tool) -> bool:
    """Whether the user said when this tool may run."""
    said = read_table(_file()).get("permissions")
    return isinstance(said, dict) and f"{tool.source}/{tool.name}" in said


def set_permission(tool: Tool, value: str) -> None:
    """From now on the tool may run `always`, after a question (`ask`), or `never`."""
    # The source belongs to it: another file's tool of the same name is another one.
    _change("permissions", {f"{tool.source}/{tool.name}": value})


def folder() -> Path | None:
    """The folder whose files may be read; None for none."""
    said = read_table(_file()).get("folder")
    if not isinstance(said, str) or not said or "\x00" in said:
        return None
    # Asked again: the file may have been written by something else, and a folder may have become a link.
    chosen = Path(said)
    return chosen if chosen.is_absolute() and not _is_private(Path(os.path.realpath(chosen))) else None


def set_folder(path: str | None) -> None:
    """Let the tools for files read that folder. Raises StudioError for one that is none, or that holds everything."""
    if not path:
        _change("folder", None)
        return
    try:
        chosen = Path(path).expanduser().resolve()
        is_folder = chosen.is_dir()
    except (OSError, ValueError, RuntimeError) as error:
        raise StudioError("tools.no_folder", folder=path[:200]) from error
    if not is_folder:
        raise StudioError("tools.no_folder", folder=str(chosen)[:200])
    if _is_private(chosen):
        raise StudioError("tools.whole_folder", folder=str(chosen))
    _change("folder", str(chosen))


def _is_private(chosen: Path) -> bool:
    private = [Path.home().resolve(), paths().home.resolve()]
    return any(each.is_relative_to(chosen) for each in private) or chosen.is_relative_to(paths().state.resolve())


def _change(name: str, value: object) -> None:
    _file().parent.mkdir(parents=True, exist_ok=True)
    with alone(_file().parent):
        now = read_table(_file())
        old = now.get(name)
        now[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        write_json(_file(), now)


def _file() -> Path:
    return paths().state / "tools.json"
