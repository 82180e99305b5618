"""A torchrun worker of the tests: trains runs one after another in the same processes.

    -m tests.torchrun_worker FOLDER... [--die STEP]

With `--die`, the last process is killed while it writes its part of that step's checkpoint.
"""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path

from glmstudio.config.settings import Settings, change
from glmstudio.files import read_table
from glmstudio.train import worker
from glmstudio.train.distributed.context import DistributedContext, join
from glmstudio.train.strategies import full_state

write = full_state._write


def main() -> None:
    """Raises what the first run that fails raises."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--die", type=int)
    options, context = parser.parse_args(), join()
    if options.die and context.rank == context.world - 1:
        full_state._write = lambda file, tensors: (
            die(file) if file.parent.name == f"checkpoint-{options.die}" else write(file, tensors)
        )
    for folder in options.folders:
        train(folder, context)
    context.leave()


def train(folder: Path, context: DistributedContext) -> None:
    about = read_table(folder / "run.json")
    worker._train(change(Settings(), about["settings"], source=""), folder, about, context)


def die(file: Path) -> None:
    file.write_bytes(b"\0" * 1000)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
