"""Why a run ended, from the last lines of logs as they really look."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmstudio.rundir.reasons import by_signal, reason

TORCHRUN = """
    raise ChildFailedError(
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
glmstudio.train FAILED
------------------------------------------------------------
Failures:
  <NO_OTHER_FAILURES>
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-25_01:32:41
  host      : nlp
  rank      : 0 (local_rank: 0)
  exitcode  : {code} (pid: 8314)
  error_file: <N/A>
  traceback : {why}
============================================================
"""
CRASHED = TORCHRUN.format(code=1, why="To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html")


def signalled(number: int, name: str) -> str:
    return TORCHRUN.format(code=-number, why=f"Signal {number} ({name}) received by PID 8314")


LOGS = [
    # PyTorch 2.2 and later, one card.
    (
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.25 GiB. GPU 0 has a total capacity of 31.74 GiB "
        "of which 1.06 GiB is free. Process 8314 has 30.67 GiB memory in use. Of the allocated memory 29.11 GiB is allocated "
        "by PyTorch, and 1.02 GiB is reserved by PyTorch but unallocated." + CRASHED,
        "runs.out_of_card_memory", {"wanted": "2.2 GiB", "free": "1.1 GiB", "total": "31.7 GiB"},
    ),
    # PyTorch 2.0, as ChatGLM3's own requirements install it.
    (
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 214.00 MiB (GPU 0; 31.75 GiB total capacity; "
        "30.25 GiB already allocated; 155.75 MiB free; 30.68 GiB reserved in total by PyTorch) If reserved memory is >> "
        "allocated memory try setting max_split_size_mb to avoid fragmentation." + CRASHED,
        "runs.out_of_card_memory", {"wanted": "214 MiB", "free": "156 MiB", "total": "31.8 GiB"},
    ),
    (
        "RuntimeError: [enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 1073741824000 bytes. Error code 12 (Cannot allocate memory)" + CRASHED,
        "runs.out_of_memory", {},
    ),
    ("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`" + CRASHED,
     "runs.out_of_memory", {}),
    ("numpy.core._exceptions._ArrayMemoryError: Unable to allocate 59.6 GiB for an array with shape (8000000000,)" + CRASHED,
     "runs.out_of_memory", {}),
    ("ImportError: libtorch_cpu.so: failed to map segment from shared object" + CRASHED, "runs.out_of_memory", {}),
    (
        "ImportError: libtorch_cpu.so: failed to map segment from shared object: Cannot allocate memory" + CRASHED,
        "runs.out_of_memory", {},
    ),
    (
        "ImportError: libtorch_cpu.so: failed to map segment from shared object: Operation not permitted" + CRASHED,
        "runs.crashed", {"log": "LOG"},
    ),
    ("OpenBLAS error: Memory allocation still failed after 10 retries, giving up.", "runs.out_of_memory", {}),
    ("cannot allocate memory for thread-local data: ABORT", "runs.out_of_memory", {}),
    (
        "ImportError: libgomp.so.1: cannot allocate memory in static TLS block" + CRASHED,
        "runs.crashed", {"log": "LOG"},
    ),
    (signalled(9, "SIGKILL"), "runs.killed", {}),
    (
        "E1125 01:32:41.000000 8310 site-packages/torch/distributed/elastic/multiprocessing/api.py:984] failed (exitcode: -9) "
        "local_rank: 0 (pid: 8314) of binary: /usr/bin/python",
        "runs.killed", {},
    ),
    (signalled(15, "SIGTERM"), "runs.ended_from_outside", {"signal": "SIGTERM"}),
    (signalled(1, "SIGHUP"), "runs.ended_from_outside", {"signal": "SIGHUP"}),
    (
        "W1125 01:32:41.000000 8310 torch/distributed/elastic/agent/server/api.py:723] Received Signals.SIGHUP death signal, "
        "shutting down workers\n    raise SignalException(f\"Process {os.getpid()} got signal: {sigval}\", sigval=sigval)\n"
        "torch.distributed.elastic.multiprocessing.api.SignalException: Process 8310 got signal: 1",
        "runs.ended_from_outside", {"signal": "SIGHUP"},
    ),
    ("torch.distributed.elastic.multiprocessing.api.SignalException: Process 8310 got signal: 15",
     "runs.ended_from_outside", {"signal": "SIGTERM"}),
    (
        "RuntimeError: DataLoader worker (pid 8320) is killed by signal: Killed. \nThe above exception was the direct cause"
        + CRASHED,
        "runs.loader_killed", {},
    ),
    ("RuntimeError: DataLoader worker (pid(s) 8320) exited unexpectedly" + CRASHED, "runs.loader_killed", {}),
    (
        "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient shared memory (shm).\n"
        "RuntimeError: DataLoader worker (pid 8320) is killed by signal: Bus error. It is possible that dataloader's workers "
        "are out of shared memory. Please try to raise your shared memory limit." + CRASHED,
        "runs.shared_memory", {},
    ),
    (
        "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. port: 29500, "
        "useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use",
        "runs.port_taken", {},
    ),
    ("OSError: [Errno 98] Address already in use", "runs.port_taken", {}),
    ("OSError: [Errno 28] No space left on device" + CRASHED, "runs.disk_full", {"folder": "FOLDER"}),
    ("OSError: [Errno 122] Disk quota exceeded: '/home/li/runs/first/checkpoints'" + CRASHED, "runs.disk_full", {"folder": "FOLDER"}),
    (
        "RuntimeError: CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronously reported"
        + CRASHED,
        "runs.driver_lost", {"mark": "illegal memory access"},
    ),
    ("RuntimeError: CUDA error: uncorrectable ECC error encountered" + CRASHED, "runs.driver_lost", {"mark": "uncorrectable ECC"}),
    (
        "RuntimeError: The NVIDIA driver on your system is too old (found version 11040). ... CUDA driver version is insufficient "
        "for CUDA runtime version" + CRASHED,
        "runs.driver_lost", {"mark": "CUDA driver version is insufficient"},
    ),
    ("RuntimeError: No CUDA GPUs are available" + CRASHED, "runs.driver_lost", {"mark": "No CUDA GPUs are available"}),
    (
        "torch.distributed.DistBackendError: NCCL error in: ../torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:1333, unhandled "
        "system error (run with NCCL_DEBUG=INFO for details), NCCL version 2.18.6" + CRASHED,
        "runs.nccl",
        {"line": "NCCL error in: ../torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:1333, unhandled system error (run with "
                 "NCCL_DEBUG=INFO for details), NCCL version 2.18.6"},
    ),
    (
        "[rank0]:[E ProcessGroupNCCL.cpp:607] [Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=12, "
        "OpType=ALLREDUCE) ran for 600000 milliseconds before timing out." + signalled(6, "SIGABRT"),
        "runs.nccl",
        {"line": "Watchdog caught collective operation timeout: WorkNCCL(SeqNum=12, OpType=ALLREDUCE) ran for 600000 "
                 "milliseconds before timing out."},
    ),
    ("KeyError: 'transformer.embedding'" + CRASHED, "runs.crashed", {"log": "LOG"}),
    (signalled(11, "SIGSEGV"), "runs.crashed", {"log": "LOG"}),
    ("", "runs.crashed", {"log": "LOG"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "key", "values"), LOGS, ids=[f"{number}-{key}" for number, (_, key, _) in enumerate(LOGS)]
)
def test_the_last_lines_of_a_log_name_the_cause(tmp_path: Path, text: str, key: str, values: dict[str, str]) -> None:
    log = tmp_path / "train.log"
    log.write_text("{'loss': '2.1'}\n" * 5000 + text)
    found = reason(log)
    named = {"FOLDER": str(tmp_path), "LOG": str(log)}
    assert (found.key, found.values) == (key, {name: named.get(value, value) for name, value in values.items()})
    assert found.what("en")
    assert found.what("zh")


def test_what_an_earlier_attempt_printed_is_not_the_cause(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text(signalled(9, "SIGKILL"))
    begin = log.stat().st_size
    with log.open("a") as file:
        file.write("OSError: [Errno 28] No space left on device")
    assert reason(log, begin).key == "runs.disk_full"
    assert reason(log, log.stat().st_size).key == "runs.crashed"
    assert reason(tmp_path / "none").key == "runs.crashed"


def test_a_signal_that_nobody_could_tell_of() -> None:
    assert by_signal(9).key == "runs.killed"
    assert by_signal(15).what() == "The training was ended from outside with the signal SIGTERM."


def test_of_several_processes_the_one_that_was_killed_is_named(tmp_path: Path) -> None:
    """Rank 0 only lost its connection, and torchrun saw that first."""
    log = tmp_path / "train.log"
    block = "[{n}]:\n  time      : now\n  host      : {host}\n  rank      : {rank} (local_rank: 0)\n  exitcode  : {code} (pid: 1)\n"
    failures = block.format(n=1, host="node2", rank=1, code=-9) + block.format(n=0, host="node1", rank=0, code=1)
    log.write_text(f"Connection closed by peer\nFailures:\n{failures}", encoding="utf-8")
    found = reason(log)
    assert found.what() == (
        "The system ended the training, most likely because main memory was full. Process 1 on node2 failed first."
    )
    assert found.fix() == by_signal(9).fix()
