"""Workers that no torchrun started: their environment has RANK and MASTER_ADDR, from a script of its own or mpirun.

Such a worker needs nobody above it: started in the background, it goes on when the script has ended. So only two things
prove that it was left behind, once nobody looks after it any more: that mpirun, which never leaves before its workers,
is gone; or that others of a training that meets on this machine alone are gone, without which it cannot go on.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from glmstudio.system.process_table import LOADER, ProcessInfo, ProcessTable

GATHERING = 120.0  # seconds that a training is given for loading PyTorch and starting all of its workers
# Who takes over what has lost its parent, and started none of it.
_ADOPTERS = ("systemd", "init", "tini", "dumb-init", "docker-init", "catatonit", "conmon", "s6-", "containerd-shim")


@dataclass(frozen=True)
class PlainTraining:
    """The workers of one training that no torchrun started."""

    ranks: tuple[ProcessInfo, ...]

    @property
    def first(self) -> ProcessInfo:
        """The one that stands for it."""
        return self.ranks[0]

    @property
    def count(self) -> int:
        """How many workers it has here; what a worker started has its number."""
        return len({rank.number for rank in self.ranks})


def running_ranks(table: ProcessTable) -> list[ProcessInfo]:
    """All of them, but for what was left behind."""
    ranks = (each for each in table.processes.values() if table.is_plain_rank(each) and each.name != LOADER)
    return [each for each in ranks if not is_leftover(each, table)]


def by_training(ranks: Iterable[ProcessInfo]) -> list[PlainTraining]:
    """These workers with those that they meet."""
    groups: dict[str, list[ProcessInfo]] = {}
    for each in ranks:
        groups.setdefault(each.job, []).append(each)
    return [PlainTraining(tuple(sorted(group, key=lambda each: (each.number, each.pid)))) for group in groups.values()]


def is_leftover(rank: ProcessInfo, table: ProcessTable) -> bool:
    """Whether it is proven that its training is over."""
    if not table.is_plain_rank(rank) or _is_looked_after(rank, table) or table.helps_a_worker(rank):
        return False
    return rank.is_by_mpi or (rank.age_s > GATHERING and bool(missing(rank, table)))


def missing(rank: ProcessInfo, table: ProcessTable) -> list[int]:
    """The workers of its training that are gone; empty where all are there, or some may be on another machine."""
    if not rank.workers or not _is_loopback(rank.meeting):
        return []
    there = {
        each.number
        for each in table.processes.values()
        if each.job == rank.job and each.workers == rank.workers and each.name != LOADER and not each.dead
    }
    return [number for number in range(rank.workers) if number not in there]


def _is_looked_after(rank: ProcessInfo, table: ProcessTable) -> bool:
    """Whether somebody is above it that did not merely adopt it: a script, mpirun, sshd, a shell in its terminal."""
    if table.is_looked_after(rank):
        return True
    starter = next((each for each in table.above(rank) if each.job != rank.job), None)
    return starter is not None and starter.pid != 1 and not starter.name.startswith(_ADOPTERS)


def _is_loopback(meeting: str) -> bool:
    address = meeting.rpartition(":")[0].strip("[]")
    if address.lower() in ("localhost", "localhost.localdomain"):
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
