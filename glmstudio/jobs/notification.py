"""A word on the desktop when a run has ended: whoever waits for it may have left the page."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from typing import Any

from glmstudio.system.process import COOKIE
from glmstudio.words import say


def notify(name: str, ending: dict[str, Any]) -> None:
    """Show how the run ended, where there is a desktop and a program for it; silent everywhere else."""
    command = _command("GLM Studio", say(_language(), f"runs.notify.{ending['state']}", name=name))
    stranger = {key: value for key, value in os.environ.items() if key != COOKIE}  # it is no part of the run
    if command:
        with contextlib.suppress(OSError):
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=stranger,
            )


def _command(title: str, text: str) -> list[str] | None:
    if sys.platform == "darwin":
        # The text goes in as an argument: in the script itself a name could end the string.
        script = "on run argv\ndisplay notification (item 2 of argv) with title (item 1 of argv)\nend run"
        return ["osascript", "-e", script, title, text]
    sender = shutil.which("notify-send")
    has_desktop = any(os.environ.get(variable) for variable in ("DISPLAY", "WAYLAND_DISPLAY"))
    return [sender, "--app-name", title, title, text] if sender and has_desktop else None


def _language() -> str:
    return "zh" if os.environ.get("LANG", "").lower().startswith("zh") else "en"
