"""Where this program runs: on the machine itself, in a container, or in Windows' Linux."""

from __future__ import annotations

import platform
import sys
from functools import cache
from pathlib import Path

_FIRST_PID_NAMESPACE = 0xEFFFFFFC  # the number that Linux gives the namespace of the machine itself


@cache
def in_wsl() -> bool:
    """Windows' Subsystem for Linux."""
    try:
        return "microsoft" in Path("/proc/sys/kernel/osrelease").read_text(encoding="ascii").lower()
    except OSError:
        return False


@cache
def in_container() -> bool:
    """Docker, Podman, LXC, or any other place with process numbers of its own."""
    if any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv", "/run/systemd/container")):
        return True
    return not has_the_machines_pids()


@cache
def has_the_machines_pids() -> bool:
    """Whether a process number here is the same one that the graphics driver counts."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino == _FIRST_PID_NAMESPACE
    except OSError:
        return sys.platform != "linux"


@cache
def processor_name() -> str:
    """What its maker calls the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@cache
def on_nixos() -> bool:
    """A system whose files in /etc are made from a description and must be changed there."""
    return Path("/etc/NIXOS").exists()
