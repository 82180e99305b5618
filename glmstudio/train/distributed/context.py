"""The processes that train together: who is who, and the few things that they tell each other besides gradients."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from glmstudio.errors import StudioError
from glmstudio.train.distributed.plain_values import everybodys, refuse_pickles
from glmstudio.train.distributed.rendezvous import meet, meet_alone


@dataclass(frozen=True)
class DistributedContext:
    """This process among those that train one run. Alone, nothing here waits or sends."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    machine: str = ""

    @property
    def first(self) -> bool:
        """Whether it is this process that writes the run's files."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until all are here."""
        self.gather(None)

    def gather(self, value: Any) -> list[Any]:
        """The small plain values of all processes, by rank; every process gets them, tuples as lists.

        Raises StudioError where something else comes.
        """
        return [value] if self.world == 1 else everybodys(value, self.world)

    def table(self, *numbers: float) -> list[list[float]]:
        """The numbers of all processes, a row for each rank; every process gets them. Quick enough for every step."""
        row = torch.tensor(numbers, dtype=torch.float64)
        if self.world == 1:
            return [row.tolist()]
        rows = [torch.empty_like(row) for _ in range(self.world)]
        dist.all_gather(rows, row)
        return [each.tolist() for each in rows]

    def any(self, flag: bool) -> bool:
        """Whether it is true for one of them: then all of them know."""
        return any(row[0] for row in self.table(flag))

    def leave(self) -> None:
        """End the talks, all together: one that was still connected when it ended would now and then crash doing so,
        and torchrun would end the others, who may be writing the result."""
        if dist.is_initialized():
            self.barrier()
            dist.destroy_process_group()

    @contextmanager
    def first_goes_first(self) -> Iterator[None]:
        """The first process of each machine does it before the others: what it leaves in a cache they find there."""
        if self.local_rank:
            self.barrier()
        yield
        if not self.local_rank:
            self.barrier()


def backend() -> str:
    """How the processes talk. Small values go over main memory, so that they never wait for what a card is doing."""
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


def join() -> DistributedContext:
    """Meet the others that torchrun started; a process that was started alone is a group of one."""
    refuse_pickles()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        if "LOCAL_RANK" in os.environ:  # else accelerate would wait for others, at an open port
            meet_alone(backend())
        return DistributedContext()
    local_rank = int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
    meet(backend())
    return DistributedContext(dist.get_rank(), world, local_rank, socket.gethostname())


def of_this_process(problem: StudioError) -> StudioError:
    """The problem with the process that met it, where several train."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return problem
    return StudioError("runs.in_rank", cause=problem, rank=int(os.environ["RANK"]), machine=socket.gethostname())
