"""Who listens at which port, and who is connected to it."""

from __future__ import annotations

from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Sockets:
    """The TCP sockets of this machine. Who cannot be known is process 0."""

    listening: dict[int, frozenset[int]]  # port -> owners
    connected: dict[int, frozenset[int]]  # port -> processes at the other end of what was accepted there

    def ports_of(self, pid: int) -> set[int]:
        """The ports at which a process listens."""
        return {port for port, owners in self.listening.items() if pid in owners}


def read_sockets() -> Sockets:
    """Look at all sockets once."""
    try:
        sockets = [socket for socket in psutil.net_connections("tcp") if socket.laddr]
    except (psutil.Error, OSError):
        sockets = []
    open_ones = [socket for socket in sockets if socket.status == psutil.CONN_ESTABLISHED and socket.raddr]
    owner = {(_plain(socket.laddr.ip), socket.laddr.port): socket.pid or 0 for socket in open_ones}
    listening: dict[int, set[int]] = {}
    for socket in sockets:
        if socket.status == psutil.CONN_LISTEN:
            listening.setdefault(socket.laddr.port, set()).add(socket.pid or 0)
    connected: dict[int, set[int]] = {}
    for socket in open_ones:
        if socket.laddr.port in listening:  # accepted there; the other end is a process here, or another machine
            other_end = (_plain(socket.raddr.ip), socket.raddr.port)
            connected.setdefault(socket.laddr.port, set()).add(owner.get(other_end, 0))
    return Sockets(_frozen(listening), _frozen(connected))


def _plain(address: str) -> str:
    return address.removeprefix("::ffff:")


def _frozen(table: dict[int, set[int]]) -> dict[int, frozenset[int]]:
    return {port: frozenset(owners) for port, owners in table.items()}
