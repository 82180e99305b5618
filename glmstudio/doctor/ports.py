"""The ports at which trainings meet, and who holds them."""

from __future__ import annotations

from typing import Any

from glmstudio.doctor.checks import Found, Probes, check, found
from glmstudio.doctor.leftovers import list_stale
from glmstudio.doctor.sockets import Sockets, read_sockets
from glmstudio.doctor.table import JOB, Seen, Table, read_table
from glmstudio.runs.process import COOKIE, port_is_free

PORTS = (29400, 29500)  # of --standalone up to torch 2.0 and of c10d; of plain torchrun up to 2.11 and of accelerate


@check("net.port", family="network")
def net_port(probes: Probes) -> list[Found]:
    """The meeting points of torchrun. Our own runs take any free port."""
    return [_port(number, probes) for number in PORTS]


def _port(number: int, probes: Probes) -> Found:
    if port_is_free(number):
        return found("ok", "ok", subject=str(number), port=number)
    sockets, table = probes.ask(read_sockets), probes.ask(read_table)
    owners = [table.processes[pid] for pid in sorted(sockets.listening.get(number, ())) if pid in table.processes]
    if not owners:
        return found("info", "unknown", subject=str(number), port=number)
    stale = {process.identity.pid for process in probes.ask(list_stale)}
    owner = next((each for each in owners if each.pid in stale), owners[0])
    values: dict[str, Any] = {"port": number, "pid": owner.pid, "name": owner.name, "command": owner.command[:160]}
    if owner.pid in stale:
        return Found("warning", "stale", values, subject=str(number), action="proc.end")
    if COOKIE in owner.variables:
        return Found("ok", "ours", values, subject=str(number))
    if _is_job(owner, table):
        return Found("info", "job", values | {"peers": _peers(number, owner, sockets)}, subject=str(number))
    return Found("info", "other", values, subject=str(number))


def _is_job(owner: Seen, table: Table) -> bool:
    return owner.is_agent or JOB in owner.variables or table.has_agent_above(owner)


def _peers(port: int, owner: Seen, sockets: Sockets) -> int:
    """How many other processes are connected to this meeting point."""
    return len(sockets.connected.get(port, frozenset()) - {owner.pid})
