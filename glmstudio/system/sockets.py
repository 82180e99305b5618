"""Who listens at which port, and who is connected to it."""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from glmstudio.system.portable.open_files import all_open_files

_NET = Path("/proc/net")
_TABLES = ("tcp", "tcp6")
_EVERYBODY = ["0", "0", "4294967295"]  # the users of a machine without user namespaces
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
    sockets = list(_of_linux() if tells_owners() else _of_others())
    holders = {each.here: each.holders for each in sockets if not each.listens}
    listening: dict[int, frozenset[int]] = {}
    uids: dict[int, frozenset[int]] = {}
    for each in sockets:
        if each.listens:
            port = each.here[1]
            listening[port] = listening.get(port, frozenset()) | each.holders
            uids[port] = uids.get(port, frozenset()) | ({each.uid} if each.uid is not None else set())
    connected: dict[int, frozenset[int]] = {}
    for each in sockets:
        port = each.here[1]
        if not each.listens and port in listening:  # accepted there; the other end is here, or on another machine
            connected[port] = connected.get(port, frozenset()) | holders.get(each.there, frozenset({0}))
    return Sockets(listening, connected, uids)


def tells_owners() -> bool:
    """Whether this system says whose a socket is."""
    return (_NET / "tcp").exists()


def find_connection(near: End, far: End) -> tuple[bool, int, int] | None:
    """Whether the IPv4 connection from `near` to `far` stands, its user and its inode; None where there is none."""
    for prefix, table in zip(("", _IN_IPV6), _TABLES, strict=True):
        wanted = f" {prefix}{_hex(near)} {prefix}{_hex(far)} "
        try:
            text = (_NET / table).read_text(encoding="ascii")
        except (OSError, ValueError):
            continue
        _, found, after = text.partition(wanted)
        if found:
            words = after.split("\n", 1)[0].split()
            return words[0] == _CONNECTED, int(words[4]), int(words[6])
    return None


def is_outside_user(uid: int) -> bool:
    """Whether the number stands for a user outside this user namespace: only who rules this one gets in from there."""
    try:
        users = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
        return users != _EVERYBODY and uid == int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return False


def _of_linux() -> Iterator[Socket]:
    holders = _holders()
    for line in itertools.chain.from_iterable(map(_lines, _TABLES)):
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


def _hex(end: End) -> str:
    """As the tables write it: the address in the machine's own byte order."""
    return f"{struct.unpack('=I', socket.inet_aton(end[0]))[0]:08X}:{end[1]:04X}"


def _end(text: str) -> End:
    address, _, port = text.rpartition(":")
    return address.removeprefix(_IN_IPV6), int(port, 16)


def _holders() -> dict[str, set[int]]:
    """Who has which socket open, as far as this user may look."""
    holders: dict[str, set[int]] = {}
    for pid, files in all_open_files():
        for name in files.values():
            if name.startswith("socket:"):
                holders.setdefault(name, set()).add(pid)
    return holders


def _user(uid: int) -> str:
    try:
        import pwd  # not on Windows, which tells no users either

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return str(uid)
