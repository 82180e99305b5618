"""What this system cannot serve: told by the doctor, and refused before anybody has waited for it."""

from __future__ import annotations

import sys

from glmstudio.errors import LazyText, StudioError

_SYSTEMS = {"win32": "Windows", "darwin": "macOS"}
_NEED_LINUX = ("gpu_training", "machines", "deepspeed", "sandbox", "owners")


def missing() -> tuple[StudioError, ...]:
    """A word about each part of the studio that does not work here."""
    return tuple(filter(None, map(problem, _NEED_LINUX)))


def problem(part: str) -> StudioError | None:
    """Why this part (`system.<part>` in the words) does not work here; None where it does."""
    if sys.platform == "linux":
        return None
    key, system = f"system.{part}", _SYSTEMS.get(sys.platform, sys.platform)
    return StudioError(key, system=system, way=way())


def refuse(part: str) -> None:
    """Raise StudioError where this part does not work here."""
    if found := problem(part):
        raise found


def way() -> LazyText:
    """What helps."""
    return LazyText("system.way.windows" if sys.platform == "win32" else "system.way.other")
