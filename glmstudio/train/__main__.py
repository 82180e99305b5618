"""What torchrun starts on each card: `python -m glmstudio.train RUN_DIR`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from glmstudio.system import die_with_parent, process


def main(folder: Path) -> int:
    """Train as `run.json` says; returns 0 when the result is on disk or the stop was asked for."""
    _end_with_the_agent()
    from glmstudio.train.worker import train

    return train(folder)


def _end_with_the_agent() -> None:
    """A killed torchrun would leave its workers behind, holding the card."""
    if sys.platform != "linux" or "RANK" not in os.environ:
        return  # a probe has no agent: whoever started it may be a thread that ends long before it
    die_with_parent.tie()
    # What loads the data ends with this process in turn; left alone, it would hold the card and the port.
    os.register_at_fork(after_in_child=die_with_parent.tie)
    # An agent that ended before this line left another parent, which does not carry the run's id.
    if process.environment(os.getppid()).get(process.COOKIE) != os.environ.get(process.COOKIE):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
