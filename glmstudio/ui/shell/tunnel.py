"""The ssh tunnel to a studio on a remote machine."""

from __future__ import annotations

import getpass
import ipaddress
import os
from collections.abc import Mapping

_MARKS = ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")  # sshd sets them for what it starts
_SSH_PORT = "22"


def over_ssh(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the studio was started over ssh, with the browser on another machine."""
    return any(environ.get(name) for name in _MARKS)


def line(port: int, where: str = "user@server") -> str:
    """The command that forwards this port to the other machine."""
    return f"ssh -L {port}:127.0.0.1:{port} {where}"


def line_from_here(port: int, environ: Mapping[str, str] = os.environ) -> str:
    """The command with the user and the address of this machine, as far as they are known."""
    client, _, server, door = (*environ.get("SSH_CONNECTION", "").split(), "", "", "", "")[:4]
    # Where both ends are this machine, the connection came through something else, and the address leads nowhere.
    known = _is_elsewhere(server) and client != server
    option = f"-p {door} " if known and door.isdecimal() and door != _SSH_PORT else ""
    return line(port, f"{option}{_user()}@{server if known else 'server'}")


def _is_elsewhere(address: str) -> bool:
    """Whether another machine can use the address; a zone (`%eth0`) is only valid here."""
    try:
        return "%" not in address and not ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user number without a name
        return "user"
