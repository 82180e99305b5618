"""The GPUs: whether the driver answers, who holds their memory, and whether a chosen one is there."""

from __future__ import annotations

import os
import re
from pathlib import Path

from glmstudio.doctor.engine.check import Probes, check, found
from glmstudio.doctor.engine.report import Finding
from glmstudio.doctor.stale.stale_processes import list_stale
from glmstudio.system.environment import in_container, in_wsl
from glmstudio.system.nvml import Gpu, GpuReading, read_cards
from glmstudio.system.portable.open_files import all_open_files
from glmstudio.units import memory

_NEED_MIB = 14 * 1024  # ChatGLM3-6B with P-Tuning and gradient checkpointing, as the shipped preset for 16 GiB has it
_UNNAMED_MIB = 500  # below that it is what programs and driver round
_P2P_FIXED = (550, 40, 7)  # from this driver on, RTX 40 GPUs say themselves that they cannot reach each other
_DEVICE = re.compile(r"/dev/nvidia\d+")


@check("gpu.driver", family="card", limit=10)
def driver(probes: Probes) -> Finding | list[Finding]:
    """The driver and its GPUs. A machine without either is healthy: it works on the processor."""
    cards = probes.ask(read_cards)
    if cards.gpus or cards.lost:
        return _listed(cards)
    if cards.problem == "LibRmVersionMismatch":
        return found("error", "restart")
    if cards.problem in ("LibraryNotFound", "DriverNotLoaded"):
        # In a container the GPU of the host may be visible on the bus though it was not handed over.
        if not _card_on_bus() or in_container():
            return found("ok", "none")
        return found("error" if cards.problem == "DriverNotLoaded" else "warning", "no_driver")
    if cards.problem:
        return found("error", "unreadable", error=cards.problem)
    return found("ok", "empty", driver=cards.driver)


def _listed(cards: GpuReading) -> list[Finding]:
    lost = [found("error", "lost", subject=f"GPU {index}", index=index) for index in cards.lost]
    names = ", ".join(f"{gpu.name} ({memory(gpu.free_mib)} / {memory(gpu.total_mib)})" for gpu in cards.gpus)
    return [*lost, found("ok", "ok", cards=names, count=len(cards.gpus), driver=cards.driver)] if cards.gpus else lost


@check("gpu.memory_free", family="card", limit=10)
def memory_free(probes: Probes) -> Finding | None:
    """Whether the freest GPU has room for ChatGLM3-6B, and who holds it if not."""
    gpus = probes.ask(read_cards).gpus
    if not gpus:
        return None
    best = max(gpus, key=lambda gpu: gpu.free_mib)
    free, total, need = memory(best.free_mib), memory(best.total_mib), memory(_NEED_MIB)
    values = {"index": best.index, "free": free, "total": total, "need": need}
    if best.free_mib >= _NEED_MIB:
        return Finding("ok", "ok", values)
    if best.total_mib < _NEED_MIB:
        return Finding("ok", "small", values)
    return Finding("warning", "held", values | {"holders": _holders(best)}, action="proc.end")


def _holders(gpu: Gpu) -> str:
    by_size = sorted(gpu.processes, key=lambda process: -(process.used_mib or 0))
    named = [
        f"{process.name or '?'} ({process.pid}{', ' + process.user if process.user else ''}"
        f"{', ' + memory(process.used_mib) if process.used_mib is not None else ''})"
        for process in by_size[:5]
    ]
    return ", ".join(named) or "?"


@check("gpu.unaccounted_mem", family="card", limit=10)
def unaccounted(probes: Probes) -> list[Finding] | None:
    """Memory in use by no program that the driver names: mostly data loaders of a training that was killed."""
    gpus = [gpu for gpu in probes.ask(read_cards).gpus if (gpu.unnamed_mib or 0) > _UNNAMED_MIB]
    if not gpus or in_container() or in_wsl():
        return None
    named = {process.pid for gpu in probes.ask(read_cards).gpus for process in gpu.processes}
    known = named | {os.getpid()}  # asking the driver keeps the device open, too
    holders = [pid for pid in _have_a_card_open() if pid not in known]
    stale = {process.identity.pid for process in probes.ask_with_probes(list_stale)}
    case = "hidden" if not holders else "loaders" if stale & set(holders) else "programs"
    pids = ", ".join(map(str, holders[:10])) or "–"
    return [
        Finding(
            "warning",
            case,
            {"index": gpu.index, "unnamed": memory(gpu.unnamed_mib or 0), "pids": pids},
            f"GPU {gpu.index}",
        )
        for gpu in gpus
    ]


def _have_a_card_open() -> list[int]:
    """The processes with a GPU's device file open, as far as this user may look."""
    return sorted(pid for pid, files in all_open_files() if any(map(_DEVICE.fullmatch, files.values())))


@check("gpu.identity", family="card", limit=10)
def identity(probes: Probes) -> Finding | None:
    """Whether CUDA_VISIBLE_DEVICES names GPUs that are there."""
    gpus, chosen = probes.ask(read_cards).gpus, os.environ.get("CUDA_VISIBLE_DEVICES")
    if not gpus or chosen is None:
        return None
    if chosen.strip() in ("", "-1"):
        return found("info", "hidden")
    absent = [name for name in chosen.split(",") if not _names_a_card(name.strip(), gpus)]
    if absent:
        return found("error", "absent", chosen=chosen[:80], absent=", ".join(absent)[:80], count=len(gpus))
    return found("ok", "ok", chosen=chosen[:80])


def _names_a_card(name: str, gpus: tuple[Gpu, ...]) -> bool:
    if name.isdecimal():
        return int(name) < len(gpus)
    return name.startswith("MIG-") or any(gpu.uuid.startswith(name) for gpu in gpus if len(name) > len("GPU-"))


@check("nccl.p2p", family="card", limit=10)
def peer_to_peer(probes: Probes) -> Finding | None:
    """RTX 40 GPUs cannot talk directly, and drivers before 550.40.07 do not say so: several of them then hang."""
    cards = probes.ask(read_cards)
    affected = [gpu for gpu in cards.gpus if re.search(r"RTX 40\d\d", gpu.name)]
    if len(affected) < 2:
        return None
    if version(cards.driver) >= _P2P_FIXED:
        return found("ok", "ok", driver=cards.driver)
    return found("info", "direct", driver=cards.driver, count=len(affected))


@check("precision", family="card", limit=10)
def precision(probes: Probes) -> list[Finding] | None:
    """The number format that training takes on each GPU, and why."""
    known = [gpu for gpu in probes.ask(read_cards).gpus if gpu.capability != (0, 0)]
    kinds = {gpu.capability: gpu.name for gpu in known}
    return [
        found("ok", "bf16" if capability >= (8, 0) else "fp16", subject=name, capability="{}.{}".format(*capability))
        for capability, name in sorted(kinds.items())
    ] or None


def version(text: str) -> tuple[int, ...]:
    """A driver's version as numbers; empty for what is none."""
    return tuple(int(part) for part in re.findall(r"\d+", text))


def _card_on_bus() -> bool:
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = (device / "vendor").read_text(), (device / "class").read_text()
        except OSError:
            continue
        if vendor.startswith("0x10de") and kind.startswith("0x03"):
            return True
    return False
