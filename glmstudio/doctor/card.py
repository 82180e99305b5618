"""The graphics cards: whether the driver answers, who holds their memory, and how they are."""

from __future__ import annotations

from pathlib import Path

from glmstudio.doctor.checks import Found, Probes, check, found
from glmstudio.doctor.nvml import read_cards, sees_the_drivers_processes


@check("gpu.driver", family="card", limit=10)
def gpu(probes: Probes) -> Found:
    """The driver and its GPUs. A machine without either is healthy: it works on the processor."""
    cards = probes.ask(read_cards)
    if cards.gpus:
        names = ", ".join(
            f"{gpu.name} ({gpu.free_mib / 1024:.1f} / {gpu.total_mib / 1024:.1f} GB)" for gpu in cards.gpus
        )
        return found("ok", "ok", cards=names, count=len(cards.gpus), driver=cards.driver)
    if cards.problem == "LibRmVersionMismatch":
        return found("error", "restart")
    if cards.problem in ("LibraryNotFound", "DriverNotLoaded"):
        # In a container the card of the host may be visible on the bus though it was not handed over.
        if not _card_on_bus() or _in_container():
            return found("info", "none")
        return found("error" if cards.problem == "DriverNotLoaded" else "warning", "no_driver")
    if cards.problem:
        return found("error", "unreadable", error=cards.problem)
    return found("info", "empty", driver=cards.driver)


def _card_on_bus() -> bool:
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = (device / "vendor").read_text(), (device / "class").read_text()
        except OSError:
            continue
        if vendor.startswith("0x10de") and kind.startswith("0x03"):
            return True
    return False


def _in_container() -> bool:
    return (
        any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv")) or not sees_the_drivers_processes()
    )
