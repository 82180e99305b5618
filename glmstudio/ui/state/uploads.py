"""Files that a browser sent: in the home, until they are taken into the workspace, and nowhere twice.

Left to itself, gradio keeps them for ever in a folder of the machine that all users share.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from glmstudio.access.guard import App, Receive, Scope, Send
from glmstudio.paths import paths


def folder() -> Path:
    """Where they arrive."""
    return paths().cache / "uploads"


def prepare() -> None:
    """Empty the folder of what an earlier start left, and name it to gradio, which must not be imported yet.

    Only for the one studio of this home. Raises OSError.
    """
    shutil.rmtree(folder(), ignore_errors=True)
    folder().mkdir(parents=True, exist_ok=True)
    folder().chmod(0o700)
    os.environ["GRADIO_TEMP_DIR"] = str(folder())


def take(given: Path, target: Path) -> None:
    """Put what was sent at `target`; where that fails, nothing stays of it. Raises OSError."""
    ours = _ours(given)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.move if ours else shutil.copyfile)(given, target)
    except OSError:
        target.unlink(missing_ok=True)  # half of a file would be taken for the whole
        raise
    finally:
        drop(given)


def drop(given: Path) -> None:
    """Delete what was sent; a file that lies elsewhere is left alone."""
    if _ours(given):
        given.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # gradio makes a folder for each file
            given.parent.rmdir()


def _ours(given: Path) -> bool:
    return given.resolve().is_relative_to(folder().resolve())


class Uploads:
    """ASGI middleware: of an upload that was broken off, or met a full disk, nothing stays."""

    def __init__(self, app: App) -> None:
        self._app, self._going = app, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/gradio_api/upload":
            await self._app(scope, receive, send)
            return
        self._going += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._going -= 1
            if not self._going:
                _sweep()


def _sweep() -> None:
    """What arrived whole has moved into a folder of its own."""
    with contextlib.suppress(OSError):
        for each in folder().iterdir():
            if each.is_file():
                each.unlink()
