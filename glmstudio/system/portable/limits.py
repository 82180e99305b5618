"""How much this process may use, and how much it has used: the limits of its user, of its container, its peak."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_CGROUP = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")
_UNLIMITED = 1 << 60  # the first version of cgroups writes a huge number where there is no limit


def peak_memory() -> int:
    """The most main memory that this process held, in bytes."""
    if resource is None:
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def open_file_limits() -> tuple[int, int | None] | None:
    """How many files may be open, and to how many that may be raised (None: any number); None without such a limit."""
    if resource is None:
        return None
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return now, None if most == resource.RLIM_INFINITY else most


def raise_open_files(wanted: int) -> None:
    """Let so many files be open, or as many as this user may have."""
    with contextlib.suppress(OSError, ValueError):
        if resource is not None:
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, wanted) if most > 0 else wanted, most))


def process_limit() -> int | None:
    """How many processes this user may have; None without a limit."""
    if resource is None or os.getuid() == 0:
        return None
    most = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    return None if most == resource.RLIM_INFINITY else most


def bound(memory: int, seconds: int) -> None:
    """Take no more addresses (bytes) and processor time from now on, where the system has such limits."""
    with contextlib.suppress(ValueError, OSError):
        if resource is not None:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


def container_memory(root: Path = _CGROUP, own: Path = _OWN_GROUP) -> tuple[int | None, int]:
    """The lowest limit that a container or session sets for this process, and what is used of it, in bytes."""
    lowest: tuple[int | None, int] = (None, 0)
    for folder, limit_name, used_name in _groups(root, own):
        limit, used = _number(folder / limit_name), _number(folder / used_name)
        if limit is not None and limit < _UNLIMITED and (lowest[0] is None or limit < lowest[0]):
            # What is cached of files is counted as used, though it is given back when programs need it.
            lowest = (limit, max(0, (used or 0) - _inactive_files(folder)))
    return lowest


def _groups(root: Path, own: Path) -> list[tuple[Path, str, str]]:
    try:
        lines = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return []
    groups = []
    for _, controllers, path in (line for line in lines if len(line) == 3):
        second = controllers == ""
        if not second and "memory" not in controllers.split(","):
            continue
        base = root if second else root / "memory"
        names = ("memory.max", "memory.current") if second else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        inner = base / path.lstrip("/")
        groups += [(folder, *names) for folder in (inner, *inner.parents) if folder == base or base in folder.parents]
    return groups


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):  # absent, or "max"
        return None


def _inactive_files(folder: Path) -> int:
    try:
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    counted = dict(line.split(maxsplit=1) for line in lines if " " in line)
    return int(counted.get("total_inactive_file", counted.get("inactive_file", "0")))
