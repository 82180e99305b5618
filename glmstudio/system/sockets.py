"""Who listens at which port, and who is connected to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_NET = Path("/proc/net")
_LISTENING, _CONNECTED = "0A", "01"  # in the tables of Linux
_IN_IPV6 = "0000000000000000FFFF0000"  # before an IPv4 address there

End = tuple[str, int]  # an address and a port


@dataclass(frozen=True)
class Socket:
    """One TCP socket. Several processes may hold it, for children inherit it; process 0 stands for who is not known."""

    here: End
    there: End
    listens: bool
    holders: frozenset[int]
    uid: int | None = None


@dataclass(frozen=True)
class Sockets:
    """The TCP sockets of this machine by port, each with the numbers of processes."""

    listening: dict[int, frozenset[int]]  # who listens there
    connected: dict[int, frozenset[int]]  # who is at the other end of what was accepted there
    uids: dict[int, frozenset[int]] = field(default_factory=dict)  # whose it is; Linux tells it to everybody

    def ports_of(self, pid: int) -> set[int]:
        """The ports at which a process listens."""
        return {port for port, owners in self.listening.items() if pid in owners}

    def peers(self, port: int, owner: int) -> list[int]:
        """The other processes that are connected to this meeting point."""
        return sorted(self.connected.get(port, frozenset()) - {owner})

    def user_at(self, port: int) -> str:
        """The name of the user whose port it is; "" where the system does not say."""
        return ", ".join(_user(uid) for uid in sorted(self.uids.get(port, ())))


def read_sockets() -> Sockets:
    """Look at all sockets once."""
    sockets = list(_of_linux() if (_NET / "tcp").exists() else _of_others())
    holders = {socket.here: socket.holders for socket in sockets if not socket.listens}
    listening: dict[int, frozenset[int]] = {}
    uids: dict[int, frozenset[int]] = {}
    for socket in sockets:
        if socket.listens:
            port = socket.here[1]
            listening[port] = listening.get(port, frozenset()) | socket.holders
            uids[port] = uids.get(port, frozenset()) | ({socket.uid} if socket.uid is not None else set())
    connected: dict[int, frozenset[int]] = {}
    for socket in sockets:
        port = socket.here[1]
        if not socket.listens and port in listening:  # accepted there; the other end is here, or on another machine
            connected[port] = connected.get(port, frozenset()) | holders.get(socket.there, frozenset({0}))
    return Sockets(listening, connected, uids)


def _of_linux() -> Iterator[Socket]:
    holders = _holders()
    for line in [*_lines("tcp"), *_lines("tcp6")]:
        words = line.split()
        if words[3] in (_LISTENING, _CONNECTED):
            yield Socket(
                here=_end(words[1]),
                there=_end(words[2]),
                listens=words[3] == _LISTENING,
                holders=frozenset(holders.get(f"socket:[{words[9]}]", {0})),
                uid=int(words[7]),
            )


def _of_others() -> Iterator[Socket]:
    try:
        every = psutil.net_connections("tcp")
    except (psutil.Error, OSError):
        return
    for each in every:
        listens = each.status == psutil.CONN_LISTEN
        if each.laddr and (listens or each.status == psutil.CONN_ESTABLISHED):
            there = (each.raddr.ip, each.raddr.port) if each.raddr else ("", 0)
            yield Socket((each.laddr.ip, each.laddr.port), there, listens, frozenset({each.pid or 0}))


def _lines(table: str) -> list[str]:
    try:
        return (_NET / table).read_text(encoding="utf-8").splitlines()[1:]
    except (OSError, ValueError):
        return []


def _end(text: str) -> End:
    address, _, port = text.rpartition(":")
    return address.removeprefix(_IN_IPV6), int(port, 16)


def _holders() -> dict[str, set[int]]:
    """Who has which socket open, as far as this user may look."""
    holders: dict[str, set[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            files = list(os.scandir(folder / "fd"))
        except OSError:
            continue
        for file in files:
            try:
                link = os.readlink(file.path)  # noqa: PTH115  it names what is no path
            except OSError:
                continue
            if link.startswith("socket:"):
                holders.setdefault(link, set()).add(int(folder.name))
    return holders


def _user(uid: int) -> str:
    try:
        import pwd  # not on Windows, which tells no users either

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return str(uid)
