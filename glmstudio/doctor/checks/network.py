"""Settings that keep the processes of a training, or the page, from reaching each other."""

from __future__ import annotations

import ipaddress
import os
from importlib.util import find_spec
from urllib.request import getproxies, proxy_bypass

import psutil

from glmstudio.doctor.engine.check import Probes, check, found
from glmstudio.doctor.engine.report import Finding
from glmstudio.errors import StudioError
from glmstudio.files import read_json
from glmstudio.models.hub.connection import use_proxies
from glmstudio.paths import paths
from glmstudio.system.process import belongs_to_a_training


@check("proxy.localhost", family="network")
def proxy(_: Probes) -> Finding:
    """Whether a proxy would catch requests to this machine itself. The studio goes past it in any case."""
    try:
        use_proxies()
    except StudioError as problem:
        return found("warning", "misset", problem=problem)
    proxies = {kind: address for kind, address in getproxies().items() if kind in ("http", "https", "all")}
    if not proxies:
        return found("ok", "ok")
    caught = [host for host in ("localhost", "127.0.0.1") if not proxy_bypass(host)]
    kinds = ", ".join(sorted(f"{kind}_proxy" for kind in proxies))
    if any(address.lower().startswith("socks") for address in proxies.values()):
        return found("info", "socks" if all(map(find_spec, ("socks", "socksio"))) else "no_socks", kinds=kinds)
    return (
        found("info", "caught", kinds=kinds, hosts=", ".join(caught)) if caught else found("ok", "exempt", kinds=kinds)
    )


@check("env.leaks", family="network")
def leaked_environment(_: Probes) -> Finding:
    """Variables of another training in this environment. Our runs leave them out; other trainings obey them."""
    names = sorted(filter(belongs_to_a_training, os.environ))
    return found("warning", "leaked", names=" ".join(names)) if names else found("ok", "ok")


@check("launcher.exposure", family="network")
def exposure(_: Probes) -> Finding | None:
    """Whether the studio or its model server can be reached from another machine, which is never meant."""
    records = {"studio.json": "studio", "server.json": "server"}
    for name, program in records.items():
        record = read_json(paths().state / name, {})
        identity = record.get("identity") if isinstance(record, dict) else None
        for address in _listens_at(identity.get("pid")) if isinstance(identity, dict) else ():
            if not ipaddress.ip_address(address).is_loopback:
                return found("error", program, address=address)
    return found("ok", "ok")


def _listens_at(pid: object) -> list[str]:
    if not isinstance(pid, int):
        return []
    try:
        sockets = psutil.Process(pid).net_connections("inet")
    except (psutil.Error, OSError, AttributeError):
        return []
    return [socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN]
