"""The filter of system calls that seccomp puts before a tool, as the program that the kernel reads.

What Landlock does not see is kept out here: other processes, sockets, rights, times and attributes of files (`chmod`
needs no open file), what lies beside the file system (queues, shared memory, files in memory), and the kernel's rarer
doors, those included that are not built yet: only the calls that are named here may be made.
Standard library only.
"""

from __future__ import annotations

import platform
import struct
from collections.abc import Iterable

_KILL, _ALLOW, _EPERM, _ENOSYS = 0x80000000, 0x7FFF0000, 0x00050001, 0x00050026
_LOAD, _EQUAL, _ABOVE, _MASKED, _AND, _DONE = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_SECOND_SET = 0x40000000  # x86's numbers for 32-bit pointers
_THREAD = 0x00010000
_LOCAL, _INTERNET, _STREAM, _KIND = 1, (2, 10), 1, 0xF
_PROTOCOLS = (0, 6, 17)  # TCP and UDP; Landlock's rules for ports do not see others, such as MPTCP, which reach TCP
_FAST_OPEN = 0x20000000  # MSG_FASTOPEN: to send is to connect, and those rules do not see that either
_DEATH = 1  # PR_SET_PDEATHSIG of prctl: what ends the process with its parent
_NEWEST = 470  # the last call that was looked at; a later one is as good as not built, and the C library does without
# Requests of ioctl: is it a terminal, and how wide; how much waits to be read; blocking, closing at exec. Nothing else:
# attributes of files and terminals' input are requests, too.
_REQUESTS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# Of fcntl: copies, flags, locks, the size of a pipe. Not who gets signals, what is told of a folder, or leases.
_COMMANDS = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1031, 1032)

# System calls by their numbers: x86-64, then arm64 (None: it has no such call). `tests/test_filter.py` holds them
# against the kernel's own headers.
_FILES = {
    "read": (0, 63), "write": (1, 64), "open": (2, None), "close": (3, 57), "stat": (4, None), "fstat": (5, 80),
    "lstat": (6, None), "newfstatat": (262, 79), "statx": (332, 291), "statfs": (137, 43), "fstatfs": (138, 44),
    "lseek": (8, 62), "pread64": (17, 67), "pwrite64": (18, 68), "readv": (19, 65), "writev": (20, 66),
    "preadv": (295, 69), "pwritev": (296, 70), "preadv2": (327, 286), "pwritev2": (328, 287), "access": (21, None),
    "faccessat": (269, 48), "faccessat2": (439, 439), "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24),
    "pipe": (22, None), "pipe2": (293, 59), "sendfile": (40, 71), "copy_file_range": (326, 285), "fsync": (74, 82),
    "fdatasync": (75, 83), "truncate": (76, 45), "ftruncate": (77, 46), "getdents": (78, None),
    "getdents64": (217, 61), "getcwd": (79, 17), "chdir": (80, 49), "fchdir": (81, 50), "rename": (82, None),
    "renameat": (264, 38), "renameat2": (316, 276), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None),
    "creat": (85, None), "openat": (257, 56), "link": (86, None), "linkat": (265, 37), "unlink": (87, None),
    "unlinkat": (263, 35), "symlink": (88, None), "symlinkat": (266, 36), "readlink": (89, None),
    "readlinkat": (267, 78), "umask": (95, 166), "flock": (73, 32), "readahead": (187, 213), "fadvise64": (221, 223),
    "close_range": (436, 436),
}  # fmt: skip
_MEMORY = {
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "mremap": (25, 216),
    "msync": (26, 227), "madvise": (28, 233), "membarrier": (324, 283),
}  # fmt: skip
_WAITING = {
    "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72), "epoll_create": (213, None),
    "epoll_create1": (291, 20), "epoll_ctl": (233, 21), "epoll_wait": (232, None), "epoll_pwait": (281, 22),
    "epoll_pwait2": (441, 441), "eventfd": (284, None), "eventfd2": (290, 19), "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115), "pause": (34, None), "getitimer": (36, 102), "setitimer": (38, 103),
    "alarm": (37, None), "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139), "rt_sigpending": (127, 136), "rt_sigtimedwait": (128, 137),
    "rt_sigsuspend": (130, 133), "sigaltstack": (131, 132), "restart_syscall": (219, 128),
}  # fmt: skip
_ITSELF = {
    "getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178), "getuid": (102, 174), "geteuid": (107, 175),
    "getgid": (104, 176), "getegid": (108, 177), "getgroups": (115, 158), "getresuid": (118, 148),
    "getresgid": (120, 150), "getpgrp": (111, None), "getpgid": (121, 155), "getsid": (124, 156), "uname": (63, 160),
    "sysinfo": (99, 179), "getrlimit": (97, 163), "getrusage": (98, 165), "getpriority": (140, 141),
    "sched_yield": (24, 124), "sched_getaffinity": (204, 123), "sched_getparam": (143, 121),
    "sched_getscheduler": (145, 120), "sched_get_priority_max": (146, 125), "sched_get_priority_min": (147, 126),
    "getcpu": (309, 168), "getrandom": (318, 278), "arch_prctl": (158, None), "set_tid_address": (218, 96),
    "set_robust_list": (273, 99), "get_robust_list": (274, 100), "rseq": (334, 293), "futex": (202, 98),
    "futex_waitv": (449, 449), "exit": (60, 93), "exit_group": (231, 94), "wait4": (61, 260), "waitid": (247, 95),
}  # fmt: skip
_SOCKETS = {
    "recvfrom": (45, 207), "recvmsg": (47, 212), "recvmmsg": (299, 243), "shutdown": (48, 210),
    "getsockname": (51, 204), "getpeername": (52, 205), "setsockopt": (54, 208), "getsockopt": (55, 209),
}  # fmt: skip
_CONNECT = {"connect": (42, 203)}
_SENDS = (
    ((44, 206), 3),
    ((46, 211), 2),
    ((307, 269), 3),
)  # sendto, sendmsg, sendmmsg, and which argument has the flags
_SOCKET, _PAIR, _PRLIMIT = (41, 198), (53, 199), (302, 261)
_CLONE, _CLONE3, _PRCTL, _FCNTL, _IOCTL = (56, 220), (435, 435), (157, 167), (72, 25), (16, 29)

_Line = tuple[int, int, int, int]


def program(*, network: bool) -> bytes:
    """The filter for this machine, eight bytes an instruction; a call that it does not name is refused."""
    column, architecture = _ARCHITECTURES[platform.machine()]
    lines: list[_Line] = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_DONE, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    lines += [(_ABOVE, 0, 1, _SECOND_SET), _NO]
    for number in allowed(column, network=network).values():
        lines += [(_EQUAL, 0, 1, number), _YES]
    # clone3 hides its flags, so the C library is sent to clone.
    lines += [(_EQUAL, 0, 1, _CLONE3[column]), (_DONE, 0, 0, _ENOSYS)]
    # Threads may be made, processes may not.
    lines += _rule(_CLONE[column], [(_LOAD, 0, 0, _low(0)), (_MASKED, 1, 0, _THREAD), _NO, _YES])
    # Only what the internet speaks: a local socket leads to other programs of this machine, which have files.
    lines += _rule(_SOCKET[column], [*_one_of(2, _PROTOCOLS), *_only(0, _INTERNET if network else ())])
    for numbers, flags in _SENDS:
        lines += _rule(numbers[column], [(_LOAD, 0, 0, _low(flags)), (_MASKED, 0, 1, _FAST_OPEN), _NO, _YES])
    # Its two ends are this process; one of datagrams could be turned to another end.
    kind = [(_LOAD, 0, 0, _low(1)), (_AND, 0, 0, _KIND), (_EQUAL, 1, 0, _STREAM), _NO, _YES]
    lines += _rule(_PAIR[column], [(_LOAD, 0, 0, _low(0)), (_EQUAL, 1, 0, _LOCAL), _NO, *kind])
    # Limits may be asked for, not set.
    zero = [(_LOAD, 0, 0, _low(2)), (_EQUAL, 1, 0, 0), _NO, (_LOAD, 0, 0, _low(2) + 4), (_EQUAL, 1, 0, 0), _NO, _YES]
    lines += _rule(_PRLIMIT[column], zero)
    lines += _rule(_PRCTL[column], _never(0, (_DEATH,)))
    lines += _rule(_FCNTL[column], _only(1, _COMMANDS))
    lines += _rule(_IOCTL[column], _only(1, _REQUESTS))
    lines += [(_ABOVE, 0, 1, _NEWEST + 1), (_DONE, 0, 0, _ENOSYS), _NO]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def allowed(column: int, *, network: bool) -> dict[str, int]:
    """The calls that may be made whatever their arguments, by name; `column` 0 is x86-64, 1 arm64."""
    named = _FILES | _MEMORY | _WAITING | _ITSELF | _SOCKETS | (_CONNECT if network else {})
    return {name: number for name, pair in named.items() if (number := pair[column]) is not None}


_NO: _Line = (_DONE, 0, 0, _EPERM)
_YES: _Line = (_DONE, 0, 0, _ALLOW)


def _low(argument: int) -> int:
    """Where the lower half of an argument lies in what the kernel shows to a filter."""
    return 16 + 8 * argument


def _rule(number: int, inside: list[_Line]) -> list[_Line]:
    """What is done for one call; it always ends with an answer."""
    return [(_EQUAL, 0, len(inside), number), *inside]


def _one_of(argument: int, values: tuple[int, ...]) -> list[_Line]:
    """Goes on behind these lines where the argument is one of the values."""
    found = [(_EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [(_LOAD, 0, 0, _low(argument)), *found, _NO]


def _only(argument: int, values: Iterable[int]) -> list[_Line]:
    lines: list[_Line] = [(_LOAD, 0, 0, _low(argument))]
    for value in values:
        lines += [(_EQUAL, 0, 1, value), _YES]
    return [*lines, _NO]


def _never(argument: int, values: Iterable[int]) -> list[_Line]:
    lines: list[_Line] = [(_LOAD, 0, 0, _low(argument))]
    for value in values:
        lines += [(_EQUAL, 0, 1, value), _NO]
    return [*lines, _YES]
