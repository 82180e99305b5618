"""The ports at which trainings meet, and who holds them."""

from __future__ import annotations

from typing import Any

from glmstudio.doctor.engine.check import Probes, check, found
from glmstudio.doctor.engine.report import Finding
from glmstudio.doctor.stale.stale_processes import list_stale
from glmstudio.system.process import COOKIE, port_is_free
from glmstudio.system.process_table import ProcessInfo, ProcessTable, read_table
from glmstudio.system.sockets import read_sockets

PORTS = (29400, 29500)  # of --standalone up to torch 2.0 and of c10d; of plain torchrun up to 2.11 and of accelerate
_NAMED = 5  # processes of a training that are named


@check("net.port", family="network")
def net_port(probes: Probes) -> list[Finding]:
    """The meeting points of torchrun. Our own runs on one machine have none."""
    return [_port(number, probes) for number in PORTS]


def _port(number: int, probes: Probes) -> Finding:
    if port_is_free(number):
        return found("ok", "ok", subject=str(number), port=number)
    sockets, table = probes.ask(read_sockets), probes.ask(read_table)
    owners = [table.processes[pid] for pid in sorted(sockets.listening.get(number, ())) if pid in table.processes]
    listed = probes.ask_with_probes(list_stale)
    stale = {process.identity.pid for process in listed if not process.suspended}
    suspended = {process.identity.pid for process in listed if process.suspended}
    owner = next((each for each in owners if each.pid in stale), owners[0] if owners else None)
    if owner is None:
        user = sockets.user_at(number)
        case = "other_user" if user else "unknown"
        return found("info", case, subject=str(number), port=number, user=user, process="")
    values: dict[str, Any] = {"port": number, "pid": owner.pid, "name": owner.name, "command": owner.command[:160]}
    if owner.pid in stale:
        return Finding("warning", "stale", values, subject=str(number), action="proc.end")
    if still := sorted(suspended & table.training_of(owner)):
        values |= {"pids": ", ".join(map(str, still)), "words": " ".join(map(str, still))}
        return Finding("warning", "suspended", values, subject=str(number), action="proc.end")
    if COOKIE in owner.variables:
        return Finding("ok", "ours", values, subject=str(number))
    if _is_job(owner, table):
        peers = sockets.peers(number, owner.pid)
        values |= {"peers": len(peers), "who": _named(peers, table)}
        return Finding("info", "job", values, subject=str(number))
    if not owner.mine:
        process = f": {owner.name} {owner.pid}"
        return found("info", "other_user", subject=str(number), port=number, user=owner.user, process=process)
    return Finding("info", "other", values, subject=str(number))


def _is_job(owner: ProcessInfo, table: ProcessTable) -> bool:
    launched = bool(owner.job) and owner.number is None
    return owner.is_agent or launched or table.is_plain_rank(owner) or table.has_agent_above(owner)


def _named(pids: list[int], table: ProcessTable) -> str:
    """Processes by name and number, in brackets; those of other machines and other users have neither."""
    known = [table.processes[pid] for pid in pids[:_NAMED] if pid in table.processes]
    names = ", ".join(f"{each.name} {each.pid}" for each in known)
    return f" ({names}{', …' if len(pids) > len(known) else ''})" if names else ""
