"""Signals by names that every system has. Windows knows no other way to end a process than at once."""

from __future__ import annotations

import contextlib
import os
import signal

TERMINATE = signal.SIGTERM
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
CONTINUE = getattr(signal, "SIGCONT", None)  # to one that is suspended
HANG_UP = getattr(signal, "SIGHUP", None)


def ignore(*signals: int | None) -> None:
    """Go on whatever of these arrives."""
    for each in signals:
        if each is not None:
            signal.signal(each, signal.SIG_IGN)


def end_group(leader: int) -> None:
    """End a process that leads a session, with all that it started there; where there are no such groups, it alone."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(leader, KILL)
        else:
            os.kill(leader, KILL)


def name_of(number: int) -> str:
    """What the signal is called; "" for one that this system does not have."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""
