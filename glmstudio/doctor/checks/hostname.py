"""The names of this machine, looked up exactly as torch does."""

from __future__ import annotations

import socket
import sys
from typing import Any

from glmstudio.doctor.engine.check import Probes, check, found
from glmstudio.doctor.engine.report import Finding
from glmstudio.system import hosts_file
from glmstudio.system.environment import in_container, in_wsl, on_nixos
from glmstudio.system.hostnames import NAMES_LIMIT, ask_names

_SLOW = 2.0  # seconds


@check("net.hostname", family="network", limit=NAMES_LIMIT + 0.8)
def net_hostname(probes: Probes) -> Finding:
    """Whether the machine's own name leads back to it. Our runs do not depend on it; other tools hang for ever."""
    answers = probes.ask(ask_names)
    own = [] if answers is None else [answer for answer in answers if answer["name"] != "localhost"]
    return judge(own or answers, socket.gethostname())


@check("net.localhost", family="network", limit=NAMES_LIMIT + 0.8)
def net_localhost(probes: Probes) -> Finding | None:
    """Whether "localhost" is this machine. Our runs say 127.0.0.1."""
    answer = next((answer for answer in probes.ask(ask_names) or [] if answer["name"] == "localhost"), None)
    if answer is None:
        return None
    if not answer["addresses"]:
        return found("warning", "missing")
    address = _addresses(answer)
    return found("ok", "ok", address=address) if answer["local"] else found("warning", "elsewhere", address=address)


def judge(answers: list[dict[str, Any]] | None, own: str) -> Finding:
    """What the answers for the names of this machine mean; `own` is the name that was asked for first."""
    if answers is None:
        return found("warning", "slow", name=own, seconds=NAMES_LIMIT, **_line(own))
    for answer in answers:
        name = answer["name"]
        if not answer["addresses"]:
            return found("warning", "unresolved", name=name, code=answer["code"], **_line(name))
        if not answer["local"]:
            return found("warning", "elsewhere", name=name, address=_addresses(answer))
    slowest = max(answers, key=lambda answer: float(answer["seconds"]))
    if slowest["seconds"] > _SLOW:
        return found("warning", "slow", name=slowest["name"], seconds=slowest["seconds"], **_line(slowest["name"]))
    return found("ok", "ok", name=answers[0]["name"], address=_addresses(answers[0]))


def _line(name: str) -> dict[str, Any]:
    """How a line for `name` gets into this system's hosts file: a button where that lasts, else the right words."""
    if sys.platform != "linux" or not hosts_file.is_host_name(name):  # what is no name must not stand in a command
        return {"remedy": "by_hand"}
    places = {"wsl": in_wsl, "container": in_container, "nixos": on_nixos}
    place = next((place for place, here in places.items() if here()), "")
    return {"remedy": place} if place else {"action": "hosts.add"}


def _addresses(answer: dict[str, Any]) -> str:
    return ", ".join(dict.fromkeys(address.removeprefix("::ffff:") for address in answer["addresses"]))
