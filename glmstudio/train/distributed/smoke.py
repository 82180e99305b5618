"""What the doctor lets torchrun start: each worker adds 1 over all of them, and says what came out."""

from __future__ import annotations

import os
import sys

import torch
import torch.distributed as dist

from glmstudio.train.distributed.rendezvous import meet


def main() -> int:
    """Meet, add, leave. One GPU or none takes gloo, as a run does; a GPU for each worker takes NCCL."""
    rank, world = int(os.environ["LOCAL_RANK"]), int(os.environ["WORLD_SIZE"])
    cards = torch.cuda.device_count() >= world
    meet("nccl" if cards else "gloo")
    total = torch.ones(1, device=f"cuda:{rank}" if cards else "cpu")
    dist.all_reduce(total)
    if rank == 0:
        sys.stdout.write(f"together {int(total.item())}\n")
    dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
