"""The line in the hosts file as a fix: with this user's rights, or an administrator's that the system asks for."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from glmstudio.doctor.engine import audit
from glmstudio.errors import StudioError
from glmstudio.system import hosts_file
from glmstudio.system.hostnames import ask_names

_EDITOR = Path(hosts_file.__file__)
_PATIENCE = 300.0  # seconds for a person to find the password
_DISMISSED, _REFUSED = 126, 3  # the first is pkexec's own


def preview(action: str, name: str) -> tuple[str, str]:
    """The difference that "add" or "remove" would make, and a mark of the file as it is. Raises StudioError."""
    try:
        old = hosts_file.FILE.read_bytes()
        new = hosts_file.with_name(old, name) if action == "add" else hosts_file.without_name(old, name)
    except hosts_file.Refused as refused:
        raise _explained(refused, action, name) from refused
    except OSError as error:
        raise StudioError("doctor.hosts.unreadable", reason=error.strerror or str(error)) from error
    return hosts_file.difference(old, new), hosts_file.digest(old)


def apply(action: str, name: str, mark: str) -> None:
    """Make the change that was shown, see that it helped, write it down. Raises StudioError; the file is as before."""
    try:
        backup = _change(action, name, mark)
    except hosts_file.Refused as refused:
        raise _explained(refused, action, name) from refused
    except OSError as error:
        raise StudioError("doctor.hosts.unwritable", reason=error.strerror or str(error)) from error
    if action == "add" and not _leads_here(name):
        _change("remove", name, "")
        raise StudioError("doctor.hosts.no_help", name=name)
    audit.note(f"hosts.{action}", name=name, file=str(hosts_file.FILE), backup=backup)


def names_of_ours() -> list[str]:
    """The names whose lines the studio put in, which it can take out again."""
    try:
        return hosts_file.our_names(hosts_file.FILE.read_bytes())
    except OSError:
        return []


def _change(action: str, name: str, mark: str) -> str:
    if _may_write():
        return str(hosts_file.change(action, name, mark, hosts_file.FILE) or "")
    if not _can_ask():
        raise hosts_file.Refused("rights")
    # The system's own Python, and words instead of a shell: what runs with an administrator's rights stays small.
    python = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
    command = ["pkexec", python, "-I", str(_EDITOR), action, name, *([mark] if mark else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired as late:
        raise hosts_file.Refused("dismissed") from late
    if done.returncode == _DISMISSED:
        raise hosts_file.Refused("dismissed")
    if done.returncode == _REFUSED:
        reason, _, detail = done.stdout.strip().partition("\t")
        raise hosts_file.Refused(reason, detail)
    if done.returncode != 0:
        raise hosts_file.Refused("rights")
    return done.stdout.strip()


def _may_write() -> bool:
    return os.access(hosts_file.FILE, os.W_OK) and os.access(hosts_file.FILE.parent, os.W_OK)


def _can_ask() -> bool:
    """Whether the system can show its own question for an administrator's password; ours never sees one."""
    has_screen = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return has_screen and shutil.which("pkexec") is not None


def _leads_here(name: str) -> bool:
    answers = ask_names(name)
    return bool(answers and answers[0]["local"])


def _explained(refused: hosts_file.Refused, action: str, name: str) -> StudioError:
    command = shlex.join(["sudo", "python3", "-I", str(_EDITOR), action, name])
    key = f"doctor.hosts.{refused.reason}"
    return StudioError(key, name=name, detail=refused.detail, command=command)
