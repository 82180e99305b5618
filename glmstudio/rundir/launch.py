"""How training processes are started: torchrun's command, and the variables that they see."""

from __future__ import annotations

import os
import socket
import sys

import psutil

from glmstudio.config.devices import CPU
from glmstudio.rundir.machines import Cluster
from glmstudio.system import process

_LAST_CALL = 12  # seconds for which machines that may still come are waited for at each meeting
_RESTARTS = 100  # of torchrun's workers; who counts is `glmstudio.cluster.coordinator`


def launch_line(module: str, *arguments: str, processes: int = 1) -> list[str]:
    """The torchrun command that starts `module` in each of `processes` on this machine."""
    return [
        sys.executable, "-m", "glmstudio.train.distributed.torchrun", "--nnodes=1", f"--nproc-per-node={processes}",
        "-m", module, *arguments,
    ]  # fmt: skip


def cluster_line(cluster: Cluster, number: int, job: str, ip: str, folder: str) -> list[str]:
    """The torchrun command that trains the run directory `folder` as machine `number` of several.

    torchrun numbers machines in the order of their addresses as text. The first one must be its first one too, for it
    owns the run directory; so the others write theirs in a form that sorts after every IPv4 address.
    """
    first = number == 1
    conf = {
        "is_host": int(first), "join_timeout": cluster.join_seconds, "last_call_timeout": _LAST_CALL,
        "keep_alive_interval": 2, "keep_alive_max_attempt": 4, "read_timeout": 30,
    }  # fmt: skip
    return [
        sys.executable, "-m", "torch.distributed.run", f"--nnodes={cluster.least}:{len(cluster.machines)}",
        f"--nproc-per-node={cluster.machines[number - 1].processes}", "--rdzv-backend=c10d",
        f"--rdzv-endpoint={cluster.machines[0].ip}:{cluster.port}", f"--rdzv-id={job}",
        "--rdzv-conf=" + ",".join(f"{name}={value}" for name, value in conf.items()),
        f"--local-addr={ip if first else f'::ffff:{ip}'}", f"--max-restarts={_RESTARTS}", "--monitor-interval=1",
        "-m", "glmstudio.train", folder,
    ]  # fmt: skip


def training_environment(device: str | None = None, processes: int = 1, ip: str = "127.0.0.1") -> dict[str, str]:
    """This environment without what another torchrun left in it; a run on `device` sees no other card, and its
    processes share the CPU. They talk at this machine's address `ip`: those of one machine where nobody else is."""
    kept = {name: value for name, value in os.environ.items() if not process.belongs_to_a_training(name)}
    kept["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    kept["PYTHONUNBUFFERED"] = "1"
    kept.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    # Threads that spin while they wait slow whatever else runs on the same cores (`docs/benchmarks.md`).
    kept.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if interface := interface_of(ip):
        # Else gloo looks its own host name up, which may be known to others, or to nobody.
        kept |= {"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": interface}
    if device is not None:
        kept["CUDA_VISIBLE_DEVICES"] = "" if device == CPU else device
    return kept


def interface_of(ip: str) -> str | None:
    """The name of the network interface that has this address."""
    for name, every in psutil.net_if_addrs().items():
        if any(each.family == socket.AF_INET and each.address == ip for each in every):
            return str(name)
    return None
