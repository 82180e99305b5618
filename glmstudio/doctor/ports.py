"""The ports at which trainings meet, and who holds them."""

from __future__ import annotations

import psutil

from glmstudio.doctor.checks import Found, Probes, check, found
from glmstudio.runs.process import COOKIE, environment, port_is_free

PORTS = (29400, 29500)  # of --standalone up to torch 2.0 and of c10d; of plain torchrun up to 2.11 and of accelerate


@check("net.port", family="network")
def net_port(_: Probes) -> list[Found]:
    """The meeting points of torchrun. Our own runs take any free port."""
    return [_port(number) for number in PORTS]


def _port(number: int) -> Found:
    if port_is_free(number):
        return found("ok", "ok", port=number, subject=str(number))
    owner = _listener(number)
    if owner is None:
        return found("warning", "unknown", port=number, subject=str(number))
    values = {
        "port": number,
        "pid": owner.pid,
        "name": _name(owner),
        "command": _command(owner),
        "subject": str(number),
    }
    if COOKIE in environment(owner.pid):
        return found("info", "ours", **values)
    return found("warning", "taken", **values)


def _listener(port: int) -> psutil.Process | None:
    """The process that listens on this port, as far as this user may know."""
    try:
        pids = [
            each.pid
            for each in psutil.net_connections("inet")
            if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port and each.pid
        ]
        return psutil.Process(pids[0]) if pids else None
    except psutil.Error:
        return None


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return "?"


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[:200]
    except psutil.Error:
        return ""
