"""Whose a connection is: the user who holds the socket at its other end, as far as Linux tells.

A key can reach another user of the machine: browsers send the cookies of 127.0.0.1 to every port of it, so a server of
somebody else that the owner visits is given them. His sockets stay his own.
"""

from __future__ import annotations

import os
from typing import Any

from glmstudio.system import sockets
from glmstudio.system.sockets import End

FOREIGN = "glmstudio.foreign"  # in the state of a request's scope

_LOOKS = 2  # a table that changes while it is read can miss a line


def is_foreign(ours: End, theirs: End) -> bool:
    """Whether another user than this one and root holds the end `theirs` of a connection to `ours`, both IPv4.

    False where Linux does not tell: on other systems, and for an end that lies outside this system.
    """
    if not sockets.tells_owners():
        return False
    for _ in range(_LOOKS):
        if row := sockets.find_connection(theirs, ours):
            return not _is_trusted(*row[1:])
    # No socket here: either it lies outside (the browser of a Windows around this Linux), or it is closed by now, and
    # then its request is nobody's. Only the first one's connection still stands.
    mine = sockets.find_connection(ours, theirs)
    return mine is None or not mine[0]


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


def _is_trusted(uid: int, inode: int) -> bool:
    """Root reads everything anyway. A socket without an inode was closed, and shows as root's whosever it was."""
    return inode != 0 and (uid in (0, os.getuid()) or sockets.is_outside_user(uid))
