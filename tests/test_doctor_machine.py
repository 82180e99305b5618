"""Disk, memory and limits, on small real disks and under real limits."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from glmstudio.doctor import diagnose
from glmstudio.doctor.engine.report import Finding
from glmstudio.system.portable import limits
from tests.namespaces import case, doctor_in, finding


def one(name: str) -> Finding:
    (result,) = diagnose(only=[name]).results
    return result


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLMSTUDIO_HOME", "/proc/studio")
    result = one("disk.free")
    assert (result.status, result.case) == ("error", "not_writable")


@pytest.mark.parametrize(("free", "status"), [(400, "error"), (1500, "warning"), (5000, "ok")])
def test_little_disk(free: int, status: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: type("Usage", (), {"free": free * 1_000_000})())
    assert one("disk.free").status == status
    assert not home.exists()


def test_the_memory_limit_of_a_container_counts(tmp_path: Path) -> None:
    own = tmp_path / "own"
    inner = tmp_path / "v2" / "outer" / "inner"
    inner.mkdir(parents=True)
    own.write_text("0::/outer/inner\n")
    (inner / "memory.max").write_text("max\n")
    (inner.parent / "memory.max").write_text("4000000000\n")
    (inner.parent / "memory.current").write_text("3000000000\n")
    (inner.parent / "memory.stat").write_text("anon 1\ninactive_file 500000000\n")
    assert limits.container_memory(tmp_path / "v2", own) == (4_000_000_000, 2_500_000_000)

    older = tmp_path / "v1" / "memory"
    older.mkdir(parents=True)
    own.write_text("5:cpu:/x\n4:memory:/docker/abc\n")
    (older / "memory.limit_in_bytes").write_text("2000000000\n")
    (older / "memory.usage_in_bytes").write_text("700000000\n")
    assert limits.container_memory(tmp_path / "v1", own) == (2_000_000_000, 700_000_000)
    assert limits.container_memory(tmp_path / "none", tmp_path / "absent") == (None, 0)


def test_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "container_memory", lambda: (2_000_000_000, 1_000_000_000))
    result = one("ram.free")
    assert (result.status, result.case) == ("warning", "low")
    assert result.fact("en") == "Only 954 MiB of 1.9 GiB free"


@pytest.mark.torch
def test_a_machine_with_too_little_of_everything(tmp_path: Path) -> None:
    """Small disks of their own, and limits that only an administrator may raise."""
    home = tmp_path / "home"
    home.mkdir()
    data = doctor_in(
        f"""
        mount -t tmpfs -o size=3g,nr_inodes=60 tmpfs {home}
        mount -t tmpfs -o size=64m tmpfs /dev/shm
        mkdir -p {tmp_path}/small; mount -t tmpfs -o size=1m tmpfs {tmp_path}/small; export TMPDIR={tmp_path}/small
        ulimit -Sn 512; ulimit -Hn 1024
        """,
        home,
    )
    assert case(data, "disk.free") == "few_files"
    assert finding(data, "shm.size") == {
        "id": "shm.size",
        "severity": "info",
        "what": "Shared memory is only 64.0 MiB; the default of containers is 64 MiB.",
        "why": "Training with the studio on one GPU does not need more. Several GPUs at once, and other trainings with "
        "data loaders, stop with “Bus error”.",
        "fix": "Nothing needs to be done for one GPU. Otherwise start the container with `docker run --shm-size=8g` and "
        "your other options.",
    }
    assert finding(data, "tmp.free")["what"] == f"Only 0.00 GB are free for temporary files in {tmp_path}/small."
    assert finding(data, "sys.limits")["what"] == (
        "This user may have only 1024 files open at once, and the studio cannot raise that."
    )
    assert data["summary"]["status"] == "warning"


def test_a_full_disk_and_one_that_is_read_only(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    fill = f"mount -t tmpfs -o size=64k tmpfs {home}; head -c 100000 /dev/zero > {home}/filler 2>/dev/null || true"
    data = doctor_in(fill, home)
    assert case(data, "disk.free") == "full"
    assert finding(data, "disk.free")["severity"] == "error"
    data = doctor_in(f"mount -t tmpfs -o ro tmpfs {home}", home)
    assert finding(data, "disk.free")["what"] == f"The studio cannot write to {home}: Read-only file system."
