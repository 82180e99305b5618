"""Runs that wait for their card: kept on disk, started one after another, whatever became of the one before.

    state/queue.json    the names of the waiting runs, in order

Whoever sees that a card became free starts the next one: the supervisor of the run that ended, and every studio that
looks. A lock makes sure that only one of them does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from glmstudio.config.devices import overlap, refuse_held
from glmstudio.errors import StudioError
from glmstudio.files import read_json, write_json
from glmstudio.paths import paths
from glmstudio.rundir.run import Run, find_run
from glmstudio.system.portable.locks import alone


def waiting() -> list[str]:
    """The names of the runs that wait, the next one first."""
    told = read_json(_file(), [])
    return [str(name) for name in told] if isinstance(told, list) else []


def add(name: str) -> None:
    """Put a run at the end."""
    with turn():
        _write([*(other for other in waiting() if other != name), name])


def remove(name: str) -> bool:
    """Take a run out; whether it was in."""
    with turn():
        before = waiting()
        _write([other for other in before if other != name])
    return name in before


def rename(old: str, new: str) -> None:
    """The run has another name now."""
    with turn():
        _write([new if name == old else name for name in waiting()])


def move(name: str, by: int) -> None:
    """Move a run `by` places towards the end (negative: towards the front)."""
    with turn():
        order = waiting()
        if name in order:
            place = max(0, min(len(order) - 1, order.index(name) + by))
            order.remove(name)
            order.insert(place, name)
            _write(order)


def advance(launch: Callable[[Run], None]) -> list[str]:
    """Start every waiting run whose device is free, in order; returns their names.

    Nobody overtakes on a card for which an earlier run waits: else one that needs four cards would wait for ever. A run
    whose directory is gone leaves the queue. One that the system lets nobody start, as on a full disk, stays.
    """
    started: list[str] = []
    if not waiting():
        return started
    with turn():
        left: list[str] = []
        wanted: list[str] = []  # the devices of those that go on waiting
        for name in waiting():
            try:
                run = find_run(name)
            except StudioError:
                continue
            if any(overlap(run.device, other) for other in wanted) or _held(run.device):
                left.append(name)
                wanted.append(run.device)
                continue
            try:
                _write([*left, *(other for other in waiting() if other not in {*left, name})])
                launch(run)
                started.append(name)
            except OSError:
                left.append(name)
        _write(left)
    return started


def _held(device: str) -> bool:
    try:
        refuse_held(device)
    except StudioError:
        return True
    return False


def turn() -> AbstractContextManager[None]:
    """Whoever starts, resumes, renames or deletes a run does it alone: two clicks at once, or a supervisor and a
    studio, take turns. Within its turn a thread may take it again; a process that dies gives it back."""
    return alone(paths().state, "queue.lock")


def _file() -> Path:
    return paths().state / "queue.json"


def _write(names: list[str]) -> None:
    if names != waiting():
        write_json(_file(), names)
