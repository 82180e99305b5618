"""Whose a connection is: the user who holds the socket at its other end, as far as Linux tells.

A key can reach another user of the machine: browsers send the cookies of 127.0.0.1 to every port of it, so a server of
somebody else that the owner visits is given them. His sockets stay his own.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import Any

FOREIGN = "glmstudio.foreign"  # in the state of a request's scope
End = tuple[str, int]

_TABLES = ("tcp", "tcp6")
_NET = Path("/proc/net")
_IN_IPV6 = "0000000000000000FFFF0000"
_OPEN = "01"
_LOOKS = 2  # a table that changes while it is read can miss a line
_EVERYBODY = ["0", "0", "4294967295"]  # the users of a machine without user namespaces


def is_foreign(ours: End, theirs: End) -> bool:
    """Whether another user than this one and root holds the end `theirs` of a connection to `ours`, both IPv4.

    False where Linux does not tell: on other systems, and for an end that lies outside this system.
    """
    if not (_NET / "tcp").exists():
        return False
    for _ in range(_LOOKS):
        if row := _row(theirs, ours):
            return not _is_trusted(*row[1:])
    # No socket here: either it lies outside (the browser of a Windows around this Linux), or it is closed by now, and
    # then its request is nobody's. Only the first one's connection still stands.
    mine = _row(ours, theirs)
    return mine is None or mine[0] != _OPEN


def noting(protocol: Any) -> Any:
    """The class of a server's connections, with the answer of `is_foreign` in each request's state: one look for each
    connection, which holds for as long as the connection does."""

    class Noting(protocol):
        app_state: dict[str, Any]

        def connection_made(self, transport: Any) -> None:
            ours, theirs = (transport.get_extra_info(name) for name in ("sockname", "peername"))
            # A connection that was reset before anybody looked has no other end any more.
            self.app_state = {**self.app_state, FOREIGN: not theirs or is_foreign(ours, theirs)}
            super().connection_made(transport)

    return Noting


def _row(near: End, far: End) -> tuple[str, int, int] | None:
    """State, user and inode of the socket from `near` to `far`."""
    for prefix, table in zip(("", _IN_IPV6), _TABLES, strict=True):
        wanted = f" {prefix}{_hex(near)} {prefix}{_hex(far)} "
        try:
            text = (_NET / table).read_text(encoding="ascii")
        except (OSError, ValueError):
            continue
        _, found, after = text.partition(wanted)
        if found:
            words = after.split("\n", 1)[0].split()
            return words[0], int(words[4]), int(words[6])
    return None


def _is_trusted(uid: int, inode: int) -> bool:
    """Root reads everything anyway. A socket without an inode was closed, and shows as root's whosever it was."""
    return inode != 0 and (uid in (0, os.getuid()) or _is_nameless(uid))


def _is_nameless(uid: int) -> bool:
    """Whether it stands for a user outside this user namespace: only who rules this one gets in from there."""
    try:
        users = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
        return users != _EVERYBODY and uid == int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return False


def _hex(end: End) -> str:
    """As the tables write it: the address in the machine's own byte order."""
    return f"{struct.unpack('=I', socket.inet_aton(end[0]))[0]:08X}:{end[1]:04X}"
