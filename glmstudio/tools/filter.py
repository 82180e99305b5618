"""The filter of system calls that seccomp puts before a tool, as the program that the kernel reads.

What Landlock does not see is refused here: other processes, sockets, rights and times of files (`chmod` needs no open
file), what lies beside the file system (queues, shared memory, files in memory), and the kernel's rarer doors.
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
_TERMINAL_INPUT, _SIGNAL_OWNER = (0x5412, 0x541C), (0x8901, 0x8902)  # requests of ioctl
_SIGNALS = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX of fcntl: a signal to any process of the user
_DEATH = 1  # PR_SET_PDEATHSIG of prctl: what ends the process with its parent

# System calls by their numbers: x86-64, then arm64 (None: it has no such call).
_PROCESSES = {
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281), "kill": (62, 129),
    "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440),
    "process_mrelease": (448, 448), "kcmp": (312, 272), "move_pages": (279, 239), "migrate_pages": (256, 238),
    "setrlimit": (160, 164), "setpriority": (141, 140), "ioprio_set": (251, 30), "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119), "sched_setparam": (142, 118), "sched_setattr": (314, 274),
}  # fmt: skip
_FILES = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "setxattrat": (463, 463),
    "removexattrat": (466, 466), "file_setattr": (469, 469), "inotify_init": (253, None), "inotify_init1": (294, 26),
    "fanotify_init": (300, 262), "fanotify_mark": (301, 263), "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264), "memfd_create": (319, 279), "memfd_secret": (447, 447), "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
}  # fmt: skip
_KERNEL = {
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "mount": (165, 40),
    "umount2": (166, 39), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442), "unshare": (272, 97), "setns": (308, 268),
    "pivot_root": (155, 41), "chroot": (161, 51), "bpf": (321, 280), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "syslog": (103, 116), "personality": (135, 92),
}  # fmt: skip
_QUEUES = {
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193),
    "semctl": (66, 191), "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188),
    "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181),
}  # fmt: skip
_SERVERS = {"bind": (49, 200), "listen": (50, 201), "accept": (43, 202), "accept4": (288, 242)}
_CONNECT = {"connect": (42, 203)}
_SOCKET, _PAIR, _PRLIMIT = (41, 198), (53, 199), (302, 261)
_CLONE, _CLONE3, _PRCTL, _FCNTL, _IOCTL = (56, 220), (435, 435), (157, 167), (72, 25), (16, 29)

_Line = tuple[int, int, int, int]


def program(*, network: bool) -> bytes:
    """The filter for this machine, eight bytes an instruction; every call that it does not name is allowed."""
    column, architecture = _ARCHITECTURES[platform.machine()]
    lines: list[_Line] = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_DONE, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    lines += [(_ABOVE, 0, 1, _SECOND_SET), (_DONE, 0, 0, _EPERM)]
    refused = [*_PROCESSES.values(), *_FILES.values(), *_KERNEL.values(), *_QUEUES.values(), *_SERVERS.values()]
    refused += [] if network else _CONNECT.values()
    for number in (pair[column] for pair in refused):
        if number is not None:
            lines += [(_EQUAL, 0, 1, number), (_DONE, 0, 0, _EPERM)]
    # clone3 hides its flags, so the C library is sent to clone.
    lines += [(_EQUAL, 0, 1, _CLONE3[column]), (_DONE, 0, 0, _ENOSYS)]
    # Threads may be made, processes may not.
    lines += _rule(_CLONE[column], [(_LOAD, 0, 0, _low(0)), (_MASKED, 1, 0, _THREAD), _NO, _YES])
    # Only what the internet speaks: a local socket leads to other programs of this machine, which have files.
    lines += _rule(_SOCKET[column], _only(0, _INTERNET if network else ()))
    # Its two ends are this process; one of datagrams could be turned to another end.
    kind = [(_LOAD, 0, 0, _low(1)), (_AND, 0, 0, _KIND), (_EQUAL, 1, 0, _STREAM), _NO, _YES]
    lines += _rule(_PAIR[column], [(_LOAD, 0, 0, _low(0)), (_EQUAL, 1, 0, _LOCAL), _NO, *kind])
    # Limits may be asked for, not set.
    zero = [(_LOAD, 0, 0, _low(2)), (_EQUAL, 1, 0, 0), _NO, (_LOAD, 0, 0, _low(2) + 4), (_EQUAL, 1, 0, 0), _NO, _YES]
    lines += _rule(_PRLIMIT[column], zero)
    lines += _rule(_PRCTL[column], _never(0, (_DEATH,)))
    lines += _rule(_FCNTL[column], _never(1, _SIGNALS))
    lines += _rule(_IOCTL[column], _never(1, (*_TERMINAL_INPUT, *_SIGNAL_OWNER)))
    lines.append(_YES)
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


_NO: _Line = (_DONE, 0, 0, _EPERM)
_YES: _Line = (_DONE, 0, 0, _ALLOW)


def _low(argument: int) -> int:
    """Where the lower half of an argument lies in what the kernel shows to a filter."""
    return 16 + 8 * argument


def _rule(number: int, inside: list[_Line]) -> list[_Line]:
    """What is done for one call; it always ends with an answer."""
    return [(_EQUAL, 0, len(inside), number), *inside]


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
