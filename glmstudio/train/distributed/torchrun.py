"""torchrun for the processes of one machine: `python -m glmstudio.train.distributed.torchrun`, torchrun's arguments.

It is torchrun itself (`torch.distributed.run`) with another meeting. Its own opens a port on all addresses of the
machine, whatever address it is told, and asks nobody there who he is.
"""

from __future__ import annotations

import os
import sys
import uuid

import torch.distributed as dist
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)
from torch.distributed.run import main as torchrun

from glmstudio.train.distributed.rendezvous import PLACE, place

_NAME = "glmstudio"


class Meeting(RendezvousHandler):
    """torchrun's own part of it: there is one torchrun, so it meets nobody, and needs no more than its own memory."""

    def __init__(self, run_id: str) -> None:
        self._run_id, self._store = run_id, dist.HashStore()

    use_agent_store = True  # should a worker ask for the usual store all the same, it will not open one

    def get_backend(self) -> str:
        """Its name."""
        return _NAME

    def get_run_id(self) -> str:
        """torchrun's name for the job."""
        return self._run_id

    def next_rendezvous(self) -> RendezvousInfo:
        """The first and only one of one machine. At port 0 nobody listens."""
        return RendezvousInfo(self._store, 0, 1, RendezvousStoreInfo("127.0.0.1", 0))

    def is_closed(self) -> bool:
        """Never."""
        return False

    def set_closed(self) -> None:
        """Nobody else would see it."""

    def num_nodes_waiting(self) -> int:
        """Nobody can."""
        return 0

    def shutdown(self) -> bool:
        """Nothing is open."""
        return True


def main(arguments: list[str]) -> None:
    """Run until the workers have ended; exits as torchrun does."""
    rendezvous_handler_registry.register(_NAME, _meeting)
    with place() as file:
        os.environ[PLACE] = file
        # The doctor tells the workers of two trainings apart by their job, where the port is the same.
        job = uuid.uuid4().hex
        torchrun([f"--rdzv-backend={_NAME}", "--rdzv-endpoint=none", f"--rdzv-id={job}", *arguments])


def _meeting(told: RendezvousParameters) -> Meeting:
    return Meeting(told.run_id)


if __name__ == "__main__":
    main(sys.argv[1:])
