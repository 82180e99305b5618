"""How training processes are started: torchrun's command, and the variables that they see."""

from __future__ import annotations

import os
import sys

from glmstudio import process
from glmstudio.runs.lease import CPU


def launch_line(module: str, *arguments: str, port: int, processes: int = 1) -> list[str]:
    """The torchrun command that starts `module` in each of `processes`."""
    return [
        sys.executable, "-m", "torch.distributed.run", "--nnodes=1", f"--nproc-per-node={processes}",
        "--master-addr=127.0.0.1", f"--master-port={port}", "-m", module, *arguments,
    ]  # fmt: skip


def training_environment(device: str | None = None, processes: int = 1) -> dict[str, str]:
    """This environment without what another torchrun left in it; a run on `device` sees no other card, and its
    processes share the CPU."""
    kept = {name: value for name, value in os.environ.items() if not process.belongs_to_a_training(name)}
    kept["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    kept["PYTHONUNBUFFERED"] = "1"
    kept.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    # Threads that spin while they wait slow whatever else runs on the same cores (`docs/benchmarks.md`).
    kept.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if device is not None:
        kept["CUDA_VISIBLE_DEVICES"] = "" if device == CPU else device
    return kept
