"""Who has which card: one run at a time on each, and never a run and a chat on one without a word.

A device is "cpu" or a card's number, as NVML counts. A run without a card of its own leases "cpu".
"""

from __future__ import annotations

from glmstudio.errors import StudioError
from glmstudio.runs.run import Run, list_runs

CPU = "cpu"


def cards() -> dict[str, tuple[str, int, int]]:
    """The cards by number: name, free and total memory in MiB. Empty where there is none."""
    from glmstudio.doctor.nvml import read_cards

    return {str(gpu.index): (gpu.name, gpu.free_mib, gpu.total_mib) for gpu in read_cards().gpus}


def choose(wanted: str) -> str:
    """The device for the setting `device`: a card that is there, or for "auto" the one with the most free memory.

    Raises StudioError for a card that is not there.
    """
    if wanted == CPU:
        return CPU
    known = cards()
    if wanted in ("", "auto"):
        return max(known, key=lambda number: known[number][1], default=CPU)
    if wanted not in known:
        raise StudioError("runs.no_card", card=wanted, cards=", ".join([CPU, *known]))
    return wanted


def run_on(device: str) -> Run | None:
    """The run that holds the device now."""
    return next((run for run in list_runs() if run.device == device and run.read_state().holds_device), None)


def chat_on(device: str) -> str | None:
    """The model that a chat holds on the device now."""
    from glmstudio.chat.server import ModelServer

    server = ModelServer.current()
    if server.state not in ("loading", "ready"):
        return None
    return server.model if device == chat_device() else None


def chat_device() -> str:
    """Where a chat loads its model: the first card, or the CPU."""
    return "0" if cards() else CPU


def refuse_held(device: str, *, chat_too: bool = True) -> None:
    """Raise StudioError where a run, or a chat, holds the device: what to do about it is in its words."""
    if held := run_on(device):
        raise StudioError("runs.device_busy", name=held.name)
    if chat_too and (model := chat_on(device)):
        raise StudioError("runs.chat_loaded", model=model)
