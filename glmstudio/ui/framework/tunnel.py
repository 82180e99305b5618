"""The ssh commands that reach a studio on a remote machine, and copy from there."""

from __future__ import annotations

import getpass
import ipaddress
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

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
    where, door = _address_from_here(environ)
    return line(port, f"-p {door} {where}" if door else where)


def copy_line(folder: Path, environ: Mapping[str, str] = os.environ) -> str:
    """The command that copies a folder of this machine to the other one, and goes on where it was interrupted."""
    where, door = _address_from_here(environ)
    option = f"-e 'ssh -p {door}' " if door else ""
    return f"rsync -av --partial {option}{shlex.quote(f'{where}:{shlex.quote(str(folder))}')} ."


def _address_from_here(environ: Mapping[str, str]) -> tuple[str, str]:
    """User and address of this machine, and its port where it is an unusual one, as far as they are known."""
    client, _, server, door = (*environ.get("SSH_CONNECTION", "").split(), "", "", "", "")[:4]
    # Where both ends are this machine, the connection came through something else, and the address leads nowhere.
    known = _is_elsewhere(server) and client != server
    unusual = known and door.isdecimal() and door != _SSH_PORT
    return f"{_user()}@{server if known else 'server'}", door if unusual else ""


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
