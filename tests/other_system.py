"""Pretends to be another system in this process: `python -m tests.other_system win32|darwin CODE`.

The studio's own modules see `os`, `signal`, `errno`, `sys` and `platform` as Python has them there, no module of Unix
(Windows), and no /proc. The packages and the standard library keep this machine, which they need to run.
"""

from __future__ import annotations

import asyncio
import builtins
import errno
import importlib
import io
import os
import platform
import signal
import sys
import types
from typing import Any

PACKAGES = (
    "psutil", "pynvml", "filelock", "requests", "httpx", "numpy", "sentencepiece", "safetensors", "openpyxl", "huggingface_hub",
    "modelscope_hub", "markdown_it", "packaging.version", "uvicorn", "fastapi", "gradio",
    "mcp", "webbrowser", "tempfile", "shutil", "subprocess", "zoneinfo", "multiprocessing", "mimetypes", "ctypes.util",
    "concurrent.futures.process", "http.client", "urllib.request", "unittest.mock", "uuid", "sqlite3", "getpass", "zipfile",
)  # fmt: skip
UNIX_MODULES = ("fcntl", "resource", "termios", "tty", "pty", "pwd", "grp", "syslog", "readline")
UNIX_OS = (
    "pwrite", "pwritev", "pread", "preadv", "RWF_NOWAIT", "killpg", "getpgid", "getpgrp", "setpgid", "setsid", "fork", "forkpty",
    "getuid", "geteuid", "getgid", "getegid", "statvfs", "fstatvfs", "chown", "lchown", "fchown", "fchmod", "mkfifo", "nice",
    "register_at_fork", "sysconf", "uname", "getloadavg", "O_NOFOLLOW", "O_DIRECTORY", "O_NONBLOCK", "O_CLOEXEC", "O_PATH", "WNOHANG",
)  # fmt: skip
LINUX_OS = (
    "sched_getaffinity", "sched_setaffinity", "pidfd_open", "memfd_create", "posix_fadvise", "POSIX_FADV_DONTNEED", "O_TMPFILE",
)  # fmt: skip
UNIX_SIGNALS = (
    "SIGKILL",
    "SIGHUP",
    "SIGCONT",
    "SIGSTOP",
    "SIGXCPU",
    "SIGSYS",
    "SIGUSR1",
    "SIGUSR2",
    "SIGQUIT",
    "pidfd_send_signal",
)


class Seen(types.ModuleType):
    """A module without some of what it has here, and with other values."""

    def __init__(self, real: types.ModuleType, lacks: tuple[str, ...] = (), **values: Any) -> None:
        super().__init__(real.__name__)
        self.__dict__.update({name: value for name, value in vars(real).items() if name not in lacks} | values)


def pretend(system: str) -> None:
    """From here on what is imported of the studio sees the other system."""
    for name in PACKAGES:
        importlib.import_module(name)
    windows = system == "win32"
    hide_proc()
    lock = Seen(types.ModuleType("msvcrt"), LK_NBLCK=2, locking=lambda *_: None)
    absent = dict.fromkeys(UNIX_MODULES) | {"msvcrt": lock} if windows else {}
    no_handles = {"supports_fd": frozenset(), "supports_dir_fd": frozenset()} if windows else {}
    lacks = UNIX_OS + LINUX_OS if windows else LINUX_OS
    shown = {
        "os": Seen(os, lacks, **({"name": "nt"} | no_handles if windows else {})),
        "signal": Seen(signal, UNIX_SIGNALS if windows else ("pidfd_send_signal",)),
        "errno": Seen(errno, ("EDQUOT",) if windows else ()),
        "platform": Seen(platform, system=lambda: "Windows" if windows else "Darwin"),
        "sys": Seen(sys, platform=system),
    }
    if windows:
        shown["asyncio"] = Seen(asyncio)
    real_import = builtins.__import__

    def seen_import(name: str, globals: Any = None, *rest: Any, **named: Any) -> Any:  # noqa: A002  called by name
        own = str((globals or {}).get("__name__", "")).startswith("glmstudio") or name.startswith("glmstudio")
        if own and name in absent:
            if absent[name] is None:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return absent[name]
        return shown[name] if own and name in shown else real_import(name, globals, *rest, **named)

    builtins.__import__ = seen_import


def hide_proc() -> None:
    """No /proc and no /sys, but for psutil, which is this machine's."""

    def hidden(call: Any) -> Any:
        def wrapped(path: Any = ".", *rest: Any, **named: Any) -> Any:
            if str(path).startswith(("/proc", "/sys")) and not asked_by_psutil():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            return call(path, *rest, **named)

        return wrapped

    for name in ("stat", "lstat", "scandir", "listdir", "readlink"):
        setattr(os, name, hidden(getattr(os, name)))
    io.open = builtins.open = hidden(io.open)


def asked_by_psutil() -> bool:
    frame = sys._getframe(2)
    for _ in range(8):
        if frame is None:
            return False
        if str(frame.f_globals.get("__name__")).startswith("psutil"):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


if __name__ == "__main__":
    pretend(sys.argv[1])
    exec(sys.argv[2], {"__name__": "glmstudio.pretended"})
