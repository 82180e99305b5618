"""Run a command that ends with whoever started it: `python -m glmstudio.system.die_with_parent PARENT COMMAND...`.

torchrun has nothing of the kind, and its workers end with it (`glmstudio.train`): so nothing of a machine's part in a
run outlives the process that answers for it there.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Become the command; where the parent is gone already, end."""
    tie()
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    os.execv(command[0], command)


def tie() -> None:
    """End this process with the thread that started it, also over an exec; Linux alone knows this."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def on_leash(command: list[str]) -> list[str]:
    """The command, to be started by the main thread of this process, with which it shall end; where that is not known,
    the command as it is."""
    if sys.platform != "linux":
        return command
    return [sys.executable, "-m", "glmstudio.system.die_with_parent", str(os.getpid()), *command]


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
