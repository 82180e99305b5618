"""Disk, memory, limits, and the kind of place that this machine is."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

import psutil

from glmstudio.config import support
from glmstudio.doctor.engine.check import Probes, check, found
from glmstudio.doctor.engine.report import Finding
from glmstudio.paths import paths
from glmstudio.system.environment import in_container, in_wsl
from glmstudio.system.portable import limits
from glmstudio.system.portable.file_access import DISK_FULL
from glmstudio.units import memory_bytes

_GB = 1e9  # of a disk; memory is told in GiB
_GIB = 2**30


@check("disk.free", family="machine", before_start=True)
def disk(_: Probes) -> Finding:
    """Room for runs and models where the studio keeps them, and the right to write there."""
    folder = _existing(paths().home)
    free = shutil.disk_usage(folder).free / _GB
    values: dict[str, Any] = {"folder": str(paths().home), "free": free}
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".glmstudio-") as probe:
            probe.write(b"-" * 4096)  # a full disk or quota lets a file be made, and nothing be put into it
            probe.flush()
    except OSError as error:
        if error.errno in DISK_FULL:
            return found("error", "full", **values)
        return found("error", "not_writable", **values, reason=error.strerror or str(error))
    if free < 0.5:
        return found("error", "full", **values)
    if (files := _files_left(folder)) is not None and files < 1000:
        return found("warning", "few_files", **values, files=files)
    return found("warning", "low", **values) if free < 2 else found("ok", "ok", **values)


@check("tmp.free", family="machine")
def temporary_files(_: Probes) -> Finding:
    """Room for temporary files: compilers and installers put theirs there."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free / _GB
    return found("warning" if free < 0.2 else "ok", "low" if free < 0.2 else "ok", folder=folder, free=free)


@check("ram.free", family="machine")
def memory(_: Probes) -> Finding:
    """Main memory, as far as this process may use it."""
    now = psutil.virtual_memory()
    total, free = now.total, now.available
    limit, used = limits.container_memory()
    limited = limit is not None and limit < total
    if limit is not None and limited:
        total, free = limit, min(free, max(0, limit - used))
    values = {"total": memory_bytes(total), "free": memory_bytes(free)}
    if free < 1.5 * _GIB:
        return found("warning", "low", **values)
    return found("ok", "limited" if limited else "ok", **values)


@check("shm.size", family="machine")
def shared_memory(_: Probes) -> Finding | None:
    """Shared memory, over which several GPUs or data loaders exchange their data. One GPU needs none."""
    folder = Path("/dev/shm")  # noqa: S108  the place itself is looked at
    if not folder.is_dir():
        return None
    total = shutil.disk_usage(folder).total
    small = total < 1e9
    return found("info" if small else "ok", "small" if small else "ok", size=memory_bytes(total))


@check("sys.limits", family="machine")
def user_limits(_: Probes) -> Finding | None:
    """How many files and processes this user may have. The studio raises its own limit where it is allowed to."""
    if (files := limits.open_file_limits()) is None:
        return None
    now, most = files
    if most is not None and most < 4096:
        return found("warning", "files", files=most)
    if (tasks := limits.process_limit()) is not None and tasks < 512:
        return found("warning", "processes", processes=tasks)
    return found("ok", "ok", files=now)


@check("sys.env", family="machine")
def place(_: Probes) -> list[Finding]:
    """What is special about this machine, and changes what the other checks can know."""
    system = f"{platform.system()} {platform.release()}"
    kind = "wsl" if in_wsl() else "container" if in_container() else "ok"
    seen = [found("info" if kind == "wsl" else "ok", kind, system=system)]
    if _nouveau_drives_a_card():
        seen.append(found("error", "nouveau", subject="nouveau"))
    if lacks := support.missing():
        seen.append(
            found("info", "not_linux", subject="support", system=platform.system(), lacks=lacks, way=support.way())
        )
    home = str(paths().home)
    if kind == "wsl" and home.startswith("/mnt/"):
        seen.append(found("warning", "windows_disk", subject="/mnt", folder=home))
    return seen


def _nouveau_drives_a_card() -> bool:
    """Whether the system's own driver holds an NVIDIA GPU, so that NVIDIA's cannot."""
    return any(Path("/sys/bus/pci/drivers/nouveau").glob("0000:*"))


def _files_left(folder: Path) -> int | None:
    """How many more files the disk can hold; None where it has no such limit."""
    try:
        counts = os.statvfs(folder)
    except (OSError, AttributeError):
        return None
    return counts.f_favail if counts.f_files else None


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder
