"""What the doctor lets torchrun start to measure the links between GPUs: copies compared bit for bit, and all_reduce.

The CUDA half has the same lines as the CPU half but for the backend and the device. It was never run: no machine with
two GPUs was at hand.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import torch
import torch.distributed as dist

from glmstudio.train.distributed.rendezvous import meet

_COPY_MIB = {"cuda": 32, "cpu": 1}  # more than what NCCL sends in one piece
_REDUCE_MIB = {"cuda": 256, "cpu": 4}  # as a bucket of gradients; below, latency is measured
_ROUNDS = 10
_WARM_UP = 3


def main() -> int:
    """Meet, copy, add up; the first worker says what came out. A GPU for each worker takes NCCL, else gloo."""
    rank, world = int(os.environ["LOCAL_RANK"]), int(os.environ["WORLD_SIZE"])
    cards = torch.cuda.device_count() >= world
    device = torch.device("cuda", rank) if cards else torch.device("cpu")
    if cards:
        torch.cuda.set_device(device)
    meet("nccl" if cards else "gloo")
    wrong = wrong_copies(device)
    speed, right = all_reduce_speed(device)
    everyone: list[Any] = [None] * world
    dist.all_gather_object(everyone, (wrong, speed, right))
    if rank == 0:
        sys.stdout.write(f"links {json.dumps(_together(everyone, dist.get_backend()))}\n")
    dist.destroy_process_group()
    return 0


def _together(everyone: list[Any], backend: str) -> dict[str, Any]:
    """What all workers found: every wrong copy, and the speed of the slowest, for that is what a step waits for."""
    return {
        "backend": backend,
        "workers": len(everyone),
        "wrong": [list(pair) for wrong, _, _ in everyone for pair in wrong],
        "gb_s": min(speed for _, speed, _ in everyone),
        "right_sums": all(right for _, _, right in everyone),
    }


def wrong_copies(device: torch.device) -> list[tuple[int, int]]:
    """Send to every other worker, and compare each bit of what came from them: (from, to) of what arrived changed."""
    rank, world = dist.get_rank(), dist.get_world_size()
    size = _COPY_MIB[device.type] << 17  # of 8 bytes each
    found = []
    for step in range(1, world):
        target, source = (rank + step) % world, (rank - step) % world
        sent, received = pattern(rank, target, size).to(device), torch.zeros(size, dtype=torch.int64, device=device)
        exchange = [dist.P2POp(dist.isend, sent, target), dist.P2POp(dist.irecv, received, source)]
        for work in dist.batch_isend_irecv(exchange):
            work.wait()
        if not torch.equal(received.cpu(), pattern(source, rank, size)):
            found.append((source, rank))
    return found


def pattern(source: int, target: int, size: int) -> torch.Tensor:
    """What `source` sends to `target`: every bit at random, and known to both without being sent."""
    generator = torch.Generator().manual_seed(source * 1009 + target)
    return torch.randint(-(1 << 63), (1 << 63) - 1, (size,), generator=generator)


def all_reduce_speed(device: torch.device) -> tuple[float, bool]:
    """GB/s on the bus, as nccl-tests counts it (2 (n-1)/n of the size in the time), and whether the sums are right."""
    world = dist.get_world_size()
    values = torch.ones(_REDUCE_MIB[device.type] << 18, device=device)  # of 4 bytes each
    right = True
    for _ in range(_WARM_UP):
        values.fill_(1)
        dist.all_reduce(values)
        right = right and bool((values == world).all())
    values.zero_()  # so that no sum grows beyond what a float holds
    _wait(device)
    begun = time.perf_counter()
    for _ in range(_ROUNDS):
        dist.all_reduce(values)
    _wait(device)
    seconds = (time.perf_counter() - begun) / _ROUNDS
    return values.numel() * 4 * 2 * (world - 1) / world / seconds / 1e9, right


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    dist.barrier()


if __name__ == "__main__":
    sys.exit(main())
