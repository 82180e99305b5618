"""Start the runs that wait, one after another on each device, whatever became of the one before.

Whoever sees that a device became free starts the next one: the supervisor of the run that ended, and every studio that
looks. A lock makes sure that only one of them does.
"""

from __future__ import annotations

from collections.abc import Callable

from glmstudio.config.devices import overlap
from glmstudio.errors import StudioError
from glmstudio.rundir import queue_file
from glmstudio.rundir.occupancy import refuse_held
from glmstudio.rundir.run import Run, find_run


def advance(launch: Callable[[Run], None]) -> list[str]:
    """Start every waiting run whose device is free, in order; returns their names.

    Nobody overtakes on a card for which an earlier run waits: else one that needs four cards would wait for ever. A run
    whose directory is gone leaves the queue. One that the system lets nobody start, as on a full disk, stays.
    """
    started: list[str] = []
    if not queue_file.waiting():
        return started
    with queue_file.turn():
        left: list[str] = []
        wanted: list[str] = []  # the devices of those that go on waiting
        for name in queue_file.waiting():
            try:
                run = find_run(name)
            except StudioError:
                continue
            if any(overlap(run.device, other) for other in wanted) or _held(run.device):
                left.append(name)
                wanted.append(run.device)
                continue
            try:
                queue_file.write([*left, *(other for other in queue_file.waiting() if other not in {*left, name})])
                launch(run)
                started.append(name)
            except OSError:
                left.append(name)
        queue_file.write(left)
    return started


def _held(device: str) -> bool:
    try:
        refuse_held(device)
    except StudioError:
        return True
    return False
