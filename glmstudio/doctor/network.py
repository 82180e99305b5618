"""Settings that keep the processes of a training, or the page, from reaching each other."""

from __future__ import annotations

import os
from urllib.request import getproxies, proxy_bypass

from glmstudio.doctor.checks import Found, Probes, check, found

_LEAKS = ("RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@check("proxy.localhost", family="network")
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


@check("env.leaks", family="network")
def leaked_environment(_: Probes) -> Found:
    """Variables of another training in this environment. Our runs leave them out; other trainings obey them."""
    names = [name for name in os.environ if name in _LEAKS or name.startswith(("TORCHELASTIC_", "PET_"))]
    if names:
        return found("warning", "leaked", names=" ".join(sorted(names)))
    return found("ok", "ok")
