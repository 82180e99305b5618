"""Run a command that ends with whoever started it: `python -I die_with_parent.py PARENT COMMAND...`, from any folder.

torchrun has nothing of the kind, and its workers end with it (`glmstudio.train`): so nothing of a machine's part in a
run outlives the process that answers for it there.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_GENTLY = "--gently"


def main(parent: int, command: list[str], *, gently: bool = False) -> None:
    """Become the command; where the parent is gone already, end."""
    tie(gently=gently)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    os.execv(command[0], command)


def tie(*, gently: bool = False) -> None:
    """End this process with the thread that started it, also over an exec; Linux alone knows this. `gently`: by
    SIGTERM, for a program that has children of its own to end."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM if gently else signal.SIGKILL)


def on_leash(command: list[str], *, gently: bool = False) -> list[str]:
    """The command, to be started by the main thread of this process, with which it shall end; where that is not known,
    the command as it is."""
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", __file__, *[_GENTLY] * gently, str(os.getpid()), *command]


if __name__ == "__main__":
    given = sys.argv[1:]
    if mild := given[0] == _GENTLY:
        given = given[1:]
    main(int(given[0]), given[1:], gently=mild)
