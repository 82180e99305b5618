"""The machines that train one run together: which they are, and everything that can be wrong with such a list.

The first machine is this one. It owns the run: torchrun's machines meet at its port, and at the port after it they are
told what to do (`glmstudio.cluster.control_server`).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from typing import Any

import psutil

from glmstudio.config import support
from glmstudio.errors import StudioError
from glmstudio.rundir.machines import JOIN_SECONDS, PORT, Cluster, Machine
from glmstudio.system import process
from glmstudio.system.hostnames import ask_names
from glmstudio.system.hosts_file import is_host_name

MOST = 64  # machines, and processes on each
_LONGEST_WAIT = 7 * 24 * 3600
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_NUMBERS = re.compile(r"[0-9.]+")

Row = tuple[str, str]  # an address and a number of processes, as somebody wrote them


def split(text: str) -> list[Row]:
    """The rows of `10.0.0.1*2,node2`: an address and, after a star, how many processes (without one: 1)."""
    if not text.strip():
        return []
    rows = (part.partition("*") for part in text.split(","))
    return [(address.strip(), count.strip() if star else "1") for address, star, count in rows]


def make_cluster(
    rows: Sequence[Row],
    *,
    port: str | int = PORT,
    least: str | int = "",
    join_seconds: str | int = JOIN_SECONDS,
) -> Cluster:
    """The cluster that somebody described; `least` empty means: all of them.

    Raises one StudioError with everything that is wrong: with the list, with the numbers, with this machine's ports,
    and with names that lead nowhere. Takes up to some seconds, for names are looked up.
    """
    support.refuse("machines")
    wrong: list[StudioError] = []
    machines = _machines(rows, wrong)
    values = {
        "port": _port(port, wrong),
        "least": _whole(least if str(least).strip() else max(1, len(rows)), "least", (1, max(1, len(rows))), wrong),
        "join_seconds": _whole(join_seconds, "join", (10, _LONGEST_WAIT), wrong),
    }
    if wrong:
        raise StudioError("cluster.wrong", errors=tuple(wrong))
    return Cluster(tuple(machines), **values)


def own_addresses() -> set[str]:
    """Every IPv4 address of this machine."""
    return {each.address for every in psutil.net_if_addrs().values() for each in every if each.family == socket.AF_INET}


def _machines(rows: Sequence[Row], wrong: list[StudioError]) -> list[Machine]:
    if len(rows) < 2 or len(rows) > MOST:
        keys = {0: "cluster.none", 1: "cluster.alone"}
        wrong.append(StudioError(keys.get(len(rows), "cluster.many"), count=len(rows), most=MOST))
    found: list[Machine] = []
    seen: dict[str, int] = {}
    sound: list[str] = []
    for row, (address, count) in enumerate(rows[: MOST + 1], 1):
        processes = _whole(count, "processes", (1, MOST), wrong, row=row)
        problem = _misspelt(address, row) or _not_reachable(address, alone=len(rows) == 1)
        if not problem and address.lower() in seen:
            problem = StudioError("cluster.twice", address=address, first=seen[address.lower()], row=row)
        if problem:
            wrong.append(problem)
        else:
            seen[address.lower()] = row
            sound.append(address)
        found.append(Machine(address, processes, ""))
    return _resolved(found, sound, wrong)


def _misspelt(address: str, row: int) -> StudioError | None:
    """What is wrong with an address before anybody is asked about it."""
    name, colon, port = address.rpartition(":")
    if not address:
        return StudioError("cluster.empty", row=row)
    if _SCHEME.match(address) or "/" in address:
        return StudioError("cluster.url", address=address)
    if colon and port.isdigit() and ":" not in name:
        return StudioError("cluster.port_inside", address=address, port=port)
    if address.count(":") > 1:
        return StudioError("cluster.ipv6", address=address)
    if "*" in address or not is_host_name(address):
        return StudioError("cluster.bad_name", address=address)
    if _NUMBERS.fullmatch(address) and not _ipv4(address):
        return StudioError("cluster.bad_ip", address=address)
    return None


def _not_reachable(address: str, *, alone: bool) -> StudioError | None:
    """An address at which no other machine can be."""
    ip = _ipv4(address)
    if address.lower() == "localhost" or (ip and ip.is_loopback):
        return None if alone else StudioError("cluster.loopback", address=address)
    if ip and ip.is_unspecified:
        return StudioError("cluster.wildcard", address=address)
    if ip and (ip.is_multicast or str(ip) == "255.255.255.255"):
        return StudioError("cluster.multicast", address=address)
    return None


def _resolved(machines: list[Machine], sound: list[str], wrong: list[StudioError]) -> list[Machine]:
    """The machines with their addresses as numbers; names are looked up in a process that can be ended."""
    names = [address for address in sound if not _ipv4(address)]
    answers = ask_names(*names) if names else []
    if answers is None:
        wrong.append(StudioError("cluster.slow_names", names=", ".join(names)))
        return machines
    known = {answer["name"]: answer for answer in answers}
    own, ready = own_addresses(), []
    holders: dict[str, str] = {}
    for place, machine in enumerate(machines):
        ip = machine.address if _ipv4(machine.address) else ""
        if machine.address in known:
            ip, problem = _looked_up(known[machine.address])
            if problem:
                wrong.append(problem)
        elif machine.address not in sound:
            continue
        if ip and (ip in own) != (place == 0):
            key = "cluster.not_here" if place == 0 else "cluster.here_too"
            wrong.append(StudioError(key, address=machine.address, own=", ".join(sorted(own - {"127.0.0.1"}))))
        elif ip and holders.get(ip, machine.address) != machine.address:  # one that is named twice was told before
            wrong.append(StudioError("cluster.same_machine", one=holders[ip], other=machine.address, ip=ip))
        holders.setdefault(ip, machine.address)
        ready.append(Machine(machine.address, machine.processes, ip))
    return ready


def _looked_up(answer: dict[str, Any]) -> tuple[str, StudioError | None]:
    name, found = answer["name"], [each.removeprefix("::ffff:") for each in answer["addresses"]]
    usable = [each for each in found if _ipv4(each)]
    if not found:
        code = answer["code"]
        reason = _GAI.get(code) or StudioError("cluster.gai_other", code=code)
        return "", StudioError("cluster.unresolved", address=name, reason=reason)
    if not usable:
        return "", StudioError("cluster.only_ipv6", address=name, found=", ".join(found))
    outside = next((each for each in usable if not ipaddress.ip_address(each).is_loopback), None)
    if outside is None:
        return "", StudioError("cluster.name_is_loopback", address=name, found=", ".join(usable))
    return outside, None


def _port(given: str | int, wrong: list[StudioError]) -> int:
    """The port, which must be free here with the one after it."""
    port = _whole(given, "port", (1024, 65534), wrong)
    for each, key in ((port, "cluster.port_taken"), (port + 1, "cluster.control_taken")):
        if port and not process.port_is_free(each):
            wrong.append(StudioError(key, port=each, given=port))
    return port


def read_port(given: str | int) -> int:
    """The port at which machines of a cluster meet, as it was typed. Raises StudioError."""
    wrong: list[StudioError] = []
    port = _whole(given, "port", (1024, 65534), wrong)
    for each in wrong:
        raise each
    return port


def _whole(given: str | int, what: str, bounds: tuple[int, int], wrong: list[StudioError], *, row: int = 0) -> int:
    """A whole number within bounds; 0 where it is none, which is noted in `wrong`."""
    text = str(given).strip()
    least, most = bounds
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text):
        key = f"cluster.{what}_kind"
        wrong.append(StudioError(key, value=text, row=row))
        return 0
    value = int(text)
    if not least <= value <= most:
        low = what == "port" and 0 < value < least
        key = "cluster.port_low" if low else f"cluster.{what}_bounds"
        wrong.append(StudioError(key, value=value, least=least, most=most, row=row))
        return 0
    return value


def _ipv4(text: str) -> ipaddress.IPv4Address | None:
    try:
        return ipaddress.IPv4Address(text)
    except ValueError:
        return None


_GAI = {
    getattr(socket, name): StudioError(key)
    for name, key in (
        ("EAI_NONAME", "cluster.gai_noname"),
        ("EAI_AGAIN", "cluster.gai_again"),
        ("EAI_FAIL", "cluster.gai_fail"),
        ("EAI_NODATA", "cluster.gai_nodata"),
    )
    if hasattr(socket, name)
}
