"""A fence around this process: what it may read and write, that it starts no other process, and reaches no network.

Linux only, without root and without help: Landlock (the kernel's own rules for files), seccomp (system calls that are
refused), no new privileges, no capabilities, limits. What is put up cannot be taken down again. Standard library only:
the child that runs a tool loads this file alone.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
from collections.abc import Iterable
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # Landlock's system calls, the same on every machine
_READ = 1 << 2 | 1 << 3
_EXECUTE = 1 << 0
_WRITE = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 14
_FILE_ONLY = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14
_ALL_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_SCOPES = 1 << 0 | 1 << 1  # abstract sockets and signals to processes outside, from ABI 6 on
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER, _DEATH = 38, 22, 2, 1
_KILL, _ALLOW, _EPERM, _ENOSYS = 0x80000000, 0x7FFF0000, 0x00050001, 0x00050026
_THREAD = 0x00010000
_SECONDS, _MEMORY, _FILE, _HANDLES = 10, 768 << 20, 16 << 20, 64

# System calls by their numbers: x86-64, then arm64 (None: it has no such call).
_FORBIDDEN = {
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281), "kill": (62, 129),
    "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "mount": (165, 40), "umount2": (166, 39),
    "unshare": (272, 97), "setns": (308, 268), "pivot_root": (155, 41), "chroot": (161, 51), "bpf": (321, 280),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "reboot": (169, 142), "swapon": (167, 224), "prlimit64": (302, 261), "setrlimit": (160, 164),
    "setpriority": (141, 140),
    "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180), "personality": (135, 92),
}  # fmt: skip
_SOCKET, _CLONE, _CLONE3 = (41, 198), (56, 220), (435, 435)
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


def missing() -> str:
    """What this machine lacks for a fence: `system`, `machine`, `landlock` or `seccomp`; empty where it has all."""
    if platform.system() != "Linux":
        return "system"
    if platform.machine() not in _MACHINES:
        return "machine"
    if _abi() < 3:  # before that, a file could be cut that must not be written
        return "landlock"
    return "" if ctypes.CDLL(None).prctl(21, 0, 0, 0, 0) >= 0 else "seccomp"


def limit() -> None:
    """Bounds on time, memory, files and handles, and the end with the parent's end."""
    for what, most in (
        (resource.RLIMIT_CPU, _SECONDS),
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_FSIZE, _FILE),
        (resource.RLIMIT_NOFILE, _HANDLES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most + (what == resource.RLIMIT_CPU)))
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(_DEATH, 9, 0, 0, 0)


def close(read: Iterable[Path], write: Path, *, network: bool) -> None:
    """Put the fence up: files under `read` may be read, those under `write` written, too. Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    _call(library.prctl, _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _drop_capabilities(library)
    _landlock(library, read, write)
    _seccomp(library, network=network)


def _abi() -> int:
    return int(ctypes.CDLL(None, use_errno=True).syscall(_CREATE, None, 0, 1))


def _landlock(library: ctypes.CDLL, read: Iterable[Path], write: Path) -> None:
    abi = _abi()
    every = _ALL_BY_ABI[max(known for known in _ALL_BY_ABI if known <= abi)]
    attributes = struct.pack("=QQQ", every, 0, _SCOPES if abi >= 6 else 0)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    rules = _call(library.syscall, _CREATE, attributes[:size], size, 0)
    for place, rights in [*((each, _READ | _EXECUTE) for each in read), (write, _READ | _WRITE)]:
        try:
            handle = os.open(place, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # it is not there, so there is nothing to read
        if not place.is_dir():
            rights &= _FILE_ONLY  # noqa: PLW2901
        _call(library.syscall, _ADD, rules, 1, struct.pack("=Qi", rights & every, handle), 0)
        os.close(handle)
    _call(library.syscall, _RESTRICT, rules, 0)
    os.close(rules)


def _seccomp(library: ctypes.CDLL, *, network: bool) -> None:
    column, machine = _MACHINES[platform.machine()]
    numbers = [pair[column] for pair in _FORBIDDEN.values()]
    refused = [number for number in [*numbers, None if network else _SOCKET[column]] if number is not None]
    load, equal, above, masked, done = 0x20, 0x15, 0x35, 0x45, 0x06
    lines = [(load, 0, 0, 4), (equal, 1, 0, machine), (done, 0, 0, _KILL), (load, 0, 0, 0)]
    lines += [(above, 0, 1, 0x40000000), (done, 0, 0, _EPERM)]  # x86's second set of numbers
    for number in refused:
        lines += [(equal, 0, 1, number), (done, 0, 0, _EPERM)]
    # Threads may be made, processes may not; clone3 hides its flags, so the C library is sent to clone.
    lines += [(equal, 0, 1, _CLONE3[column]), (done, 0, 0, _ENOSYS)]
    lines += [(equal, 0, 4, _CLONE[column]), (load, 0, 0, 16), (masked, 1, 0, _THREAD), (done, 0, 0, _EPERM)]
    lines += [(done, 0, 0, _ALLOW), (done, 0, 0, _ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))
    program = struct.pack("@HP", len(lines), ctypes.addressof(code))
    _call(library.prctl, _SECCOMP, _FILTER, program, 0, 0)


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
