"""Which process is which: identities that outlive a reused number, signals that cannot hit a stranger, free ports.

A process number alone says nothing, because the system hands it out again. An `Identity` adds the boot and the
start time; a cookie in the environment (`COOKIE`) finds all that a run left behind, whatever became of its parents.
"""

from __future__ import annotations

import os
import re
import signal as signals
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import psutil

from glmstudio.paths import ROOT, child_environment

COOKIE = "GLMSTUDIO_RUN_ID"

_TRAINING = re.compile(
    r"(LOCAL_|GROUP_|ROLE_)?RANK|(LOCAL_|ROLE_)?WORLD_SIZE|MASTER_(ADDR|PORT)|(TORCHELASTIC|PET|TORCH_NCCL_ASYNC)_\w+"
    r"|GLMSTUDIO_MEETING"
)
# Windows' word for a session of its own; it has no such words elsewhere.
_DETACHED = getattr(subprocess, "DETACHED_PROCESS", 0) | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
_HAS_PROC = Path("/proc/self/stat").exists()


@dataclass(frozen=True)
class Identity:
    """One process, and no other one, on this machine since this boot."""

    boot_id: str
    pid: int
    started: int  # clock ticks since boot: /proc/<pid>/stat, field 22

    def to_json(self) -> dict[str, Any]:
        """A form for a file; `from_json` gives the same identity back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Identity | None:
        """The identity that `to_json` wrote; None where the data is not one."""
        try:
            return cls(str(data["boot_id"]), int(data["pid"]), int(data["started"]))
        except (TypeError, KeyError, ValueError):
            return None


def identify(pid: int) -> Identity | None:
    """Who runs under this number now; None if nobody does (a process that ended but was not collected is gone)."""
    if pid <= 0:
        return None
    started = _started(pid) if _HAS_PROC else _started_elsewhere(pid)
    return None if started is None else Identity(boot_id(), pid, started)


def alive(identity: Identity | None) -> bool:
    """Whether exactly this process still runs."""
    return identity is not None and identify(identity.pid) == identity


def send(identity: Identity, signal: int | None) -> bool:
    """Signal exactly this process; False if it is gone, not ours to signal, this process, or one of its ancestors."""
    if signal is None or identity.pid <= 1 or identity.pid in {os.getpid(), *ancestors()}:
        return False
    try:
        pinned = os.pidfd_open(identity.pid)
    except (AttributeError, OSError):  # not Linux, a kernel before 5.3, or no such process: the check below decides
        return _send_unpinned(identity, signal)
    try:
        # Only now is the number pinned; before, it could have been handed to another process.
        if not alive(identity):
            return False
        signals.pidfd_send_signal(pinned, signal)
        return True
    except OSError:
        return False
    finally:
        os.close(pinned)


def spawn(
    command: list[str], log: IO[bytes], run_id: str, *, detached: bool = True, variables: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a child that prints to `log` and carries `run_id`; a detached one outlives this process's terminal.

    What another training left in this environment stays out: such a child would pass for a part of that one.
    """
    own = {name: value for name, value in child_environment().items() if not belongs_to_a_training(name)}
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=ROOT,
        env={"OMP_WAIT_POLICY": "PASSIVE"}
        | own
        | (variables or {})
        | {COOKIE: run_id},  # waiting threads must not spin: chat beside a run
        start_new_session=detached,
        creationflags=_DETACHED if detached else 0,
    )


def with_cookie(value: str) -> list[Identity]:
    """Every process of this user whose environment carries the run id `value`, wherever it was moved to."""
    carriers = (pid for pid in psutil.pids() if environment(pid).get(COOKIE) == value)
    return [identity for pid in carriers if (identity := identify(pid))]


def in_session(session: int) -> list[Identity]:
    """Every process of a session, whatever became of their parents; none where the system knows no sessions."""
    if not hasattr(os, "getsid"):
        return []
    return [identity for pid in psutil.pids() if _session(pid) == session and (identity := identify(pid))]


def environment(pid: int) -> dict[str, str]:
    """The variables that a process of this user was started with; empty for others' and for ended ones."""
    try:
        process = psutil.Process(pid)
        if hasattr(os, "getuid") and process.uids().real != os.getuid():
            return {}
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def belongs_to_a_training(variable: str) -> bool:
    """Whether torchrun sets this variable for its workers: inherited by another training, it makes that one wait."""
    return bool(_TRAINING.fullmatch(variable))


def ancestors() -> list[int]:
    """The numbers of this process's parent, its parent, and so on."""
    try:
        return [parent.pid for parent in psutil.Process().parents()]
    except psutil.Error:
        return [os.getppid()]


def port_is_free(port: int) -> bool:
    """Whether a program could listen on this port, on the loopback and on all addresses, in IPv4 and IPv6."""
    if not 0 < port < 65536:
        return False
    return _can_bind(socket.AF_INET, ("127.0.0.1", port)) and (
        _can_bind(socket.AF_INET6, ("::", port)) if _has_ipv6() else _can_bind(socket.AF_INET, ("0.0.0.0", port))  # noqa: S104  bound for an instant, never listening
    )


def free_port(preferred: int = 0) -> int:
    """`preferred` if it is free, else a port that the system says is."""
    if preferred and port_is_free(preferred):
        return preferred
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port_is_free(port):
            return port


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


@cache
def boot_id() -> str:
    """The name of the time since the computer was started; `time.monotonic()` means the same within it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return str(int(psutil.boot_time()))


def _started(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name in parentheses may itself hold spaces and parentheses, so fields are counted from the last one.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _started_elsewhere(pid: int) -> int | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else int(process.create_time() * 100)
    except psutil.Error:
        return None


def _send_unpinned(identity: Identity, signal: int) -> bool:
    if not alive(identity):
        return False
    try:
        os.kill(identity.pid, signal)
    except OSError:
        return False
    return True


def _can_bind(family: int, address: tuple[str, int]) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if sys.platform != "win32":
            # As torch does: connections that are only waiting to be forgotten do not block a port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            probe.bind(address)
        except OSError:
            return False
        return True


@cache
def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            probe.bind(("::", 0))
    except OSError:
        return False
    return True
