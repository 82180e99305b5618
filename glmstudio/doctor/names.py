"""The names of this machine, looked up exactly as torch does."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import Any

from glmstudio.doctor.checks import Found, Probes, check, found

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


@check("net.hostname", family="network", limit=_NAMES_LIMIT + 2)
def hostname(_: Probes) -> Found:
    """Whether the machine's own name leads back to it. Our runs do not depend on it; other tools hang for ever."""
    return _judge_names(ask_names())


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
