"""Where processes of ours listen, by the kernel's own tables."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

_LISTENS = "0A"
_LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")


def listening(pids: list[int]) -> dict[str, int]:
    """The addresses, as the kernel writes them, at which these processes listen, and whose they are."""
    held: dict[str, int] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for each in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):  # it was closed meanwhile; the others count
                    link = os.readlink(f"/proc/{pid}/fd/{each}")
                    held |= {link[8:-1]: pid} if link.startswith("socket:[") else {}
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENS and fields[9] in held:
                found[fields[1]] = held[fields[9]]
    return found


def beyond(addresses: set[str]) -> set[str]:
    """Those that others than this machine reach."""
    return {each for each in addresses if each.split(":")[0] not in _LOOPBACK}


@contextmanager
def watching() -> Iterator[set[str]]:
    """Every address at which this process, or one that it started, listens meanwhile."""
    found: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        me = psutil.Process()
        while not over.wait(0.1):
            found.update(listening([me.pid, *(each.pid for each in me.children(recursive=True))]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()
