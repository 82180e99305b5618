"""One of two processes that meet, of which the other one is not what it should be: `RANK=… -m tests.stranger HOW MARK`.

Rank 1 sends what would make the file MARK in whoever reads it as a pickle. Rank 0 says what it made of that.
"""

from __future__ import annotations

import os
import pickle
import sys

import torch
import torch.distributed as dist

from glmstudio.errors import StudioError
from glmstudio.train.distributed.context import join


class Payload:
    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def gathered(how: str, payload: Payload) -> None:
    """Answer `DistributedContext.gather` with something else."""
    data = pickle.dumps(payload) if how != "deep" else b"[" * 100_000
    length = {"negative": -1, "huge": 1 << 62, "nothing": 0}.get(how, len(data))
    numbers = [torch.empty(1, dtype=torch.int64) for _ in range(2)]
    dist.all_gather(numbers, torch.tensor([length]))
    if length == len(data):
        rows = [torch.empty(length, dtype=torch.uint8) for _ in range(2)]
        dist.all_gather(rows, torch.frombuffer(bytearray(data), dtype=torch.uint8))


def main() -> None:
    how, mark = sys.argv[1:]
    context, payload = join(), Payload(mark)
    try:
        if how == "object":
            dist.all_gather_object([None, None], payload if context.rank else "mine")
        elif how == "objects":
            dist.broadcast_object_list([payload if context.rank else None], 1)
        elif context.rank:
            gathered(how, payload)
        else:
            print(context.gather("mine"))
    except (StudioError, pickle.UnpicklingError) as error:
        print(getattr(error, "key", "refused"), error, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
