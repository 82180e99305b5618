"""Where the processes of one machine meet: in a file of this user's, so that nothing listens for who else might come.

torchrun makes it and tells its workers where it is (`PLACE`). On Linux it has no name on any disk: it can be opened
only through torchrun's own entry in /proc, is never full, and is gone with torchrun, whatever ended that.
"""

from __future__ import annotations

import datetime as dt
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist

from glmstudio.system.portable.open_files import path_of_handle

PLACE = "GLMSTUDIO_MEETING"
_PATIENCE = dt.timedelta(minutes=30)  # the first process may write tens of GB while the others wait


@contextmanager
def place() -> Iterator[str]:
    """The path of a new, empty meeting file, for as long as this process holds it."""
    if sys.platform == "linux":
        held = os.memfd_create("glmstudio-meeting")
        os.fchmod(held, 0o600)
        try:
            yield path_of_handle(held)
        finally:
            os.close(held)
    else:
        with tempfile.TemporaryDirectory(prefix="glmstudio-meeting-") as folder:  # which only this user can enter
            yield f"{folder}/store"


def meet(backend: str) -> None:
    """Meet the others that torchrun started: in the file that it names, or of several machines, where c10d says."""
    rank, world, file = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), os.environ.get(PLACE)
    if world == 1:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, timeout=_PATIENCE)
    elif file:
        store = dist.FileStore(file, world)
        store.set_timeout(_PATIENCE)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=_PATIENCE)
    else:
        dist.init_process_group(backend, timeout=_PATIENCE)


def meet_alone(backend: str) -> None:
    """Be a group of one, as what divides a model wants it, also in a probe that no torchrun started."""
    if dist.is_initialized():
        return
    # Libraries ask for all of them before they see that the group is there; nobody ever listens at this address.
    one = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    for name, value in one.items():
        os.environ.setdefault(name, value)
    meet(backend)
