"""A fence around this process: what it may read and write, that it starts no other process, and reaches no network.

Linux only, without root and without help: Landlock (the kernel's own rules for files), seccomp (system calls that are
refused), no new privileges, no capabilities, limits. What is put up cannot be taken down again. Standard library only:
the child that runs a tool loads this file and `filter.py` alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
from collections.abc import Iterable
from pathlib import Path

try:
    import resource
except ImportError:  # Windows, where only tools run that need no sandbox
    resource = None  # type: ignore[assignment]

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # Landlock's system calls, the same on every machine
_READ = 1 << 2 | 1 << 3
_EXECUTE = 1 << 0
_WRITE = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 14
_FILE_ONLY = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14
_ALL_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_BIND, _CONNECT = 1 << 0, 1 << 1  # of TCP, from ABI 4 on
_PATH, _PORT = 1, 2  # kinds of rules
_SCOPES = 1 << 0 | 1 << 1  # abstract sockets and signals to processes outside, from ABI 6 on
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER, _DEATH = 38, 22, 2, 1
_MACHINES = ("x86_64", "aarch64")
_FILE, _HANDLES = 16 << 20, 64
_UNSERVED = () if platform.system() == "Linux" else (ValueError, OSError)  # macOS has no bound on addresses


def missing() -> str:
    """What this machine lacks for a fence: `system`, `machine`, `landlock` or `seccomp`; empty where it has all."""
    if platform.system() != "Linux":
        return "system"
    if platform.machine() not in _MACHINES:
        return "machine"
    if _abi() < 3:  # before that, a file could be cut that must not be written
        return "landlock"
    return "" if ctypes.CDLL(None).prctl(21, 0, 0, 0, 0) >= 0 else "seccomp"


def limit(seconds: int, memory: int, parent: int) -> None:
    """Bounds on processor time, memory (bytes), files and handles, and the end with the parent's end."""
    for what, most in (
        ()
        if resource is None
        else (
            (resource.RLIMIT_CPU, seconds),
            (resource.RLIMIT_AS, memory),
            (resource.RLIMIT_FSIZE, _FILE),
            (resource.RLIMIT_NOFILE, _HANDLES),
            (resource.RLIMIT_CORE, 0),
        )
    ):
        with contextlib.suppress(*_UNSERVED):
            resource.setrlimit(what, (most, most + (what == resource.RLIMIT_CPU)))
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(_DEATH, 9, 0, 0, 0)
        if os.getppid() != parent:  # it ended before it could be tied to this one
            os._exit(1)


def close(read: Iterable[Path], write: Path, program: bytes, *, network: bool, ports: int | None = None) -> None:
    """Put the fence up: files under `read` may be read, those under `write` written, too.

    `program` is the filter of system calls (`filter.py`), `ports` what `all_ports_but` made. Raises OSError.
    """
    library = ctypes.CDLL(None, use_errno=True)
    _call(library.prctl, _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _drop_capabilities(library)
    _landlock(library, read, write, network=network)
    if ports is not None:
        _call(library.syscall, _RESTRICT, ports, 0)
        os.close(ports)
    code = ctypes.create_string_buffer(program)
    _call(library.prctl, _SECCOMP, _FILTER, struct.pack("@HP", len(program) // 8, ctypes.addressof(code)), 0, 0)


def all_ports_but(closed: Iterable[int]) -> int | None:
    """Rules by which a tool reaches every TCP port but these; None where the kernel has none for ports.

    Landlock only knows what is allowed, port by port, so they take a tenth of a second: whoever asks keeps them.
    Raises OSError.
    """
    if _abi() < 4:
        return None
    library = ctypes.CDLL(None, use_errno=True)
    rules = _call(library.syscall, _CREATE, struct.pack("=QQ", 0, _CONNECT), 16, 0)
    rule, add = ctypes.create_string_buffer(16), library.syscall
    for port in sorted({*range(1 << 16)}.difference(closed)):
        struct.pack_into("=QQ", rule, 0, _CONNECT, port)
        if add(_ADD, rules, _PORT, rule, 0) < 0:
            os.close(rules)
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return rules


def _abi() -> int:
    return int(ctypes.CDLL(None, use_errno=True).syscall(_CREATE, None, 0, 1))


def _landlock(library: ctypes.CDLL, read: Iterable[Path], write: Path, *, network: bool) -> None:
    abi = _abi()
    every = _ALL_BY_ABI[max(known for known in _ALL_BY_ABI if known <= abi)]
    ports = _BIND if network else _BIND | _CONNECT
    attributes = struct.pack("=QQQ", every, ports if abi >= 4 else 0, _SCOPES if abi >= 6 else 0)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    rules = _call(library.syscall, _CREATE, attributes[:size], size, 0)
    for place, rights in [*((each, _READ | _EXECUTE) for each in read), (write, _READ | _WRITE)]:
        try:
            handle = os.open(place, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # it is not there, so there is nothing to read
        if not place.is_dir():
            rights &= _FILE_ONLY  # noqa: PLW2901
        _call(library.syscall, _ADD, rules, _PATH, struct.pack("=Qi", rights & every, handle), 0)
        os.close(handle)
    _call(library.syscall, _RESTRICT, rules, 0)
    os.close(rules)


def _drop_capabilities(library: ctypes.CDLL) -> None:
    """Root without its powers; for anybody else nothing changes."""
    header = struct.pack("=Ii", 0x20080522, 0)
    number = 126 if platform.machine() == "x86_64" else 91
    library.syscall(number, header, struct.pack("=6I", *[0] * 6))


def _call(function: object, *arguments: object) -> int:
    """A system call; raises OSError where it fails."""
    result = int(function(*arguments))  # type: ignore[operator]
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
