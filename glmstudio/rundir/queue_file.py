"""The runs that wait for their device, on disk, and the lock that whoever starts or moves a run takes.

state/queue.json    the names of the waiting runs, in order
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from glmstudio.files import read_json, write_json
from glmstudio.paths import paths
from glmstudio.system.portable.locks import alone


def waiting() -> list[str]:
    """The names of the runs that wait, the next one first."""
    told = read_json(_file(), [])
    return [str(name) for name in told] if isinstance(told, list) else []


def add(name: str) -> None:
    """Put a run at the end."""
    with turn():
        write([*(other for other in waiting() if other != name), name])


def remove(name: str) -> bool:
    """Take a run out; whether it was in."""
    with turn():
        before = waiting()
        write([other for other in before if other != name])
    return name in before


def rename(old: str, new: str) -> None:
    """The run has another name now."""
    with turn():
        write([new if name == old else name for name in waiting()])


def move(name: str, by: int) -> None:
    """Move a run `by` places towards the end (negative: towards the front)."""
    with turn():
        order = waiting()
        if name in order:
            place = max(0, min(len(order) - 1, order.index(name) + by))
            order.remove(name)
            order.insert(place, name)
            write(order)


def write(names: list[str]) -> None:
    """Let these runs wait, in this order."""
    if names != waiting():
        write_json(_file(), names)


def turn() -> AbstractContextManager[None]:
    """Whoever starts, resumes, renames or deletes a run does it alone: two clicks at once, or a supervisor and a
    studio, take turns. Within its turn a thread may take it again; a process that dies gives it back."""
    return alone(paths().state, "queue.lock")


def _file() -> Path:
    return paths().state / "queue.json"
