"""Names of machines, looked up exactly as torch does, in a process that can be ended."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

NAMES_LIMIT = 5.0  # seconds
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


def ask_names(*names: str) -> list[dict[str, Any]] | None:
    """Look names up (this machine's own if none is given) in a process that can be ended; None if it took too long."""
    command = [sys.executable, "-I", "-c", _ASK_NAMES, *names]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=NAMES_LIMIT, check=True)
    except subprocess.TimeoutExpired:
        return None
    return list(json.loads(child.stdout))
