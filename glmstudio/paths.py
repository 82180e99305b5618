"""Every folder of the studio in one place.

All that a person makes lives under one folder, `workspace/` beside the code; `GLMSTUDIO_HOME` moves it.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

CODE = Path(__file__).parent
ROOT = CODE.parent


@dataclass(frozen=True)
class Paths:
    """The folders under one home."""

    home: Path

    @property
    def runs(self) -> Path:
        """One folder for each fine-tuning run."""
        return self.home / "runs"

    @property
    def joined(self) -> Path:
        """One folder for each part that this machine took in a run of another one."""
        return self.home / "joined"

    @property
    def models(self) -> Path:
        """Downloaded models."""
        return self.home / "models"

    @property
    def chats(self) -> Path:
        """One file for each conversation."""
        return self.home / "chats"

    @property
    def data(self) -> Path:
        """Data sets that were made in the studio."""
        return self.home / "data"

    @property
    def tools(self) -> Path:
        """Tools that the user wrote, a Python file each, and `mcp.json`."""
        return self.home / "tools"

    @property
    def state(self) -> Path:
        """Small files that the studio keeps about itself: who is running, which folders were added."""
        return self.home / "state"

    @property
    def cache(self) -> Path:
        """What can be made anew at any time."""
        return self.home / "cache"

    @property
    def presets(self) -> Path:
        """Presets that the user saved."""
        return self.home / "presets"


def paths() -> Paths:
    """The folders in use now."""
    home = os.environ.get("GLMSTUDIO_HOME")
    return Paths(Path(home).expanduser().resolve() if home else ROOT / "workspace")


def make_home() -> None:
    """Make the home where it is missing, and `state` in it, closed to the other users of the machine.

    A home that is there keeps the rights that its owner gave it; what must stay secret lies in `state`. Raises OSError.
    """
    home = paths().home
    home.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        home.mkdir(mode=0o700)
    paths().state.mkdir(mode=0o700, exist_ok=True)
    paths().state.chmod(0o700)


def child_environment(**more: str) -> dict[str, str]:
    """This environment for a child process, which stands in another folder: with an absolute home, and `more`."""
    return os.environ | {"GLMSTUDIO_HOME": str(paths().home)} | more


SHIPPED_PRESETS = ROOT / "presets"
DEMO = CODE / "demo"
SAMPLE, FACTS = DEMO / "sample.jsonl", DEMO / "facts.jsonl"
KNOWLEDGE = CODE / "knowledge"
