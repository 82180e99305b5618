"""Who has which card: one run at a time on each, and never a run and a chat on one without a word.

A device is "cpu", or the cards of a run by their UUIDs, joined by commas: a number changes when a card is added or
fails, a UUID does not. A run without a card of its own leases "cpu".
"""

from __future__ import annotations

from dataclasses import dataclass

from glmstudio.errors import StudioError
from glmstudio.rundir.run import Run, list_runs

CPU = "cpu"


@dataclass(frozen=True)
class Card:
    """One card; memory in MiB. `uuid` is its number where the driver gives none."""

    uuid: str
    index: int
    name: str
    free: int
    total: int


def cards() -> list[Card]:
    """The cards that are there."""
    from glmstudio.system.nvml import read_cards

    return [
        Card(gpu.uuid or str(gpu.index), gpu.index, gpu.name, gpu.free_mib, gpu.total_mib) for gpu in read_cards().gpus
    ]


def choose(wanted: str, processes: int = 0) -> str:
    """The device for the settings `device` and `processes`.

    "auto" takes the cards with the most free memory, as many as there are processes (0: one). Raises StudioError for
    a card that is not there or is named twice, and for fewer cards than processes.
    """
    if wanted == CPU:
        return CPU
    known = sorted(cards(), key=lambda card: -card.free)
    if not known and wanted in ("", "auto", "all"):
        return CPU
    if wanted in ("", "auto"):
        named = known[: processes or 1]
    elif wanted == "all":
        named = known
    else:
        named = [_card(each.strip(), known) for each in wanted.split(",")]
    if len(set(named)) < len(named):
        raise StudioError("runs.card_twice", cards=wanted)
    if processes > len(named) or (processes and wanted not in ("", "auto", "all") and processes < len(named)):
        raise StudioError("runs.cards_and_processes", processes=processes, cards=len(named))
    named = named[: processes or len(named)]
    return ",".join(card.uuid for card in sorted(named, key=lambda card: card.index))


def processes_on(device: str, processes: int) -> int:
    """How many processes train on the device: one on each card, on the CPU as many as asked for (0: one)."""
    return max(1, processes) if device == CPU else len(device.split(","))


def cards_of(device: str) -> list[Card]:
    """The cards of a device that are there now; also those of older runs, which noted numbers."""
    names = set(device.split(","))
    return [card for card in cards() if card.uuid in names or str(card.index) in names]


def overlap(one: str, other: str) -> bool:
    """Whether two devices have a card, or the CPU, in common; the driver is asked only for numbers of older runs."""
    names = set(one.split(",")), set(other.split(","))
    if names[0] & names[1] or not any(name.isdecimal() for name in names[0] | names[1]):
        return bool(names[0] & names[1])
    return bool({card.uuid for card in cards_of(one)} & {card.uuid for card in cards_of(other)})


def run_on(device: str) -> Run | None:
    """The run that holds the device, or a card of it, now."""
    return next((run for run in list_runs() if overlap(run.device, device) and run.read_state().holds_device), None)


def chat_on(device: str) -> str | None:
    """The model that a chat holds on the device now."""
    from glmstudio.chat.model_server import ModelServer

    server = ModelServer.current()
    if server.state not in ("loading", "ready"):
        return None
    return server.model if overlap(device, chat_device()) else None


def chat_device() -> str:
    """Where a chat loads its model: the first card, or the CPU."""
    return next((card.uuid for card in cards()), CPU)


def refuse_held(device: str, *, chat_too: bool = True) -> None:
    """Raise StudioError where a run, or a chat, holds the device: what to do about it is in its words."""
    if held := run_on(device):
        raise StudioError("runs.device_busy", name=held.name)
    if chat_too and (model := chat_on(device)):
        raise StudioError("runs.chat_loaded", model=model)


def no_card(name: str) -> StudioError:
    """The error for a card that is not there: which there are."""
    return StudioError("runs.no_card", card=name, cards=", ".join([CPU, *(str(card.index) for card in cards())]))


def _card(name: str, known: list[Card]) -> Card:
    found = next((card for card in known if name in (card.uuid, str(card.index))), None)
    if found is None:
        raise no_card(name)
    return found
