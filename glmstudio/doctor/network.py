"""Ports, names and settings that make the processes of a training miss each other."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import Any
from urllib.request import getproxies, proxy_bypass

import psutil

from glmstudio.doctor.checks import Found, Probes, check, found
from glmstudio.runs.process import COOKIE, environment, port_is_free

_NAMES_LIMIT = 6.0
# As torch does it: IPv6 with mapped IPv4 first, then IPv4. An address can be bound only if it belongs to this machine.
_ASK_NAMES = """
import json, socket, sys, time
flags = socket.AI_V4MAPPED | socket.AI_ALL | socket.AI_NUMERICSERV
def look(name):
    begun, answer, code = time.monotonic(), {"name": name, "addresses": [], "local": False}, None
    for family, hints in ((socket.AF_INET6, flags), (socket.AF_INET, socket.AI_NUMERICSERV)):
        try:
            found = socket.getaddrinfo(name, "1", family, socket.SOCK_STREAM, 0, hints)
        except socket.gaierror as error:
            code = error.errno
            continue
        for _, _, _, _, address in found:
            answer["addresses"].append(address[0])
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                try:
                    probe.bind((address[0], 0, *address[2:]))
                    answer["local"] = True
                except OSError:
                    pass
        break
    answer["code"], answer["seconds"] = None if answer["addresses"] else code, time.monotonic() - begun
    return answer
names = sys.argv[1:] or [socket.gethostname(), socket.getfqdn(), "localhost"]
print(json.dumps([look(name) for name in dict.fromkeys(names)]))
"""

_LEAKS = ("RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def _port(number: int) -> Found:
    if port_is_free(number):
        return found("ok", "ok", port=number)
    owner = _listener(number)
    if owner is None:
        return found("warning", "unknown", port=number)
    values = {"port": number, "pid": owner.pid, "name": _name(owner), "command": _command(owner)}
    if COOKIE in environment(owner.pid):
        return found("info", "ours", **values)
    return found("warning", "taken", **values)


@check("port.29400", family="network")
def port_29400(_: Probes) -> Found:
    """The meeting point of older torchrun (--standalone) and of the c10d rendezvous."""
    return _port(29400)


@check("port.29500", family="network")
def port_29500(_: Probes) -> Found:
    """The meeting point of plain torchrun up to version 2.11, and of accelerate."""
    return _port(29500)


@check("hostname", family="network", limit=_NAMES_LIMIT + 2)
def hostname(_: Probes) -> Found:
    """Whether the machine's own name leads back to it. Our runs do not depend on it; other tools hang for ever."""
    return _judge_names(ask_names())


@check("proxy", family="network")
def proxy(_: Probes) -> Found:
    """Whether a proxy would catch requests to this machine itself."""
    proxies = {kind: address for kind, address in getproxies().items() if kind in ("http", "https", "all")}
    if not proxies:
        return found("ok", "ok")
    caught = [host for host in ("localhost", "127.0.0.1") if not proxy_bypass(host)]
    kinds = ", ".join(sorted(f"{kind}_proxy" for kind in proxies))
    return (
        found("info", "caught", kinds=kinds, hosts=", ".join(caught)) if caught else found("ok", "exempt", kinds=kinds)
    )


@check("environment", family="network")
def leaked_environment(_: Probes) -> Found:
    """Variables of another training in this environment. Our runs leave them out; other trainings obey them."""
    names = [name for name in os.environ if name in _LEAKS or name.startswith(("TORCHELASTIC_", "PET_"))]
    if names:
        return found("warning", "leaked", names=" ".join(sorted(names)))
    return found("ok", "ok")


def ask_names(*names: str) -> list[dict[str, Any]] | None:
    """Look names up (this machine's own if none is given) in a process that can be ended; None if it took too long."""
    command = [sys.executable, "-I", "-c", _ASK_NAMES, *names]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=_NAMES_LIMIT, check=True)
    except subprocess.TimeoutExpired:
        return None
    return list(json.loads(child.stdout))


def _judge_names(answers: list[dict[str, Any]] | None) -> Found:
    own = socket.gethostname()
    if answers is None:
        return found("warning", "slow", name=own, seconds=_NAMES_LIMIT)
    for answer in answers:
        name = answer["name"]
        if not answer["addresses"]:
            case = "no_localhost" if name == "localhost" else "unresolved"
            return found("warning", case, name=name, code=answer["code"])
        if not answer["local"]:
            return found("warning", "elsewhere", name=name, address=_addresses(answer))
    slowest = max(answers, key=lambda answer: float(answer["seconds"]))
    if slowest["seconds"] > 2:
        return found("warning", "slow", name=slowest["name"], seconds=slowest["seconds"])
    return found("ok", "ok", name=answers[0]["name"], address=_addresses(answers[0]))


def _addresses(answer: dict[str, Any]) -> str:
    return ", ".join(dict.fromkeys(address.removeprefix("::ffff:") for address in answer["addresses"]))


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
