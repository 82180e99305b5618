"""The devices of this machine: "cpu", or GPUs by their UUIDs, joined by commas.

A number changes when a GPU is added or fails, a UUID does not.
"""

from __future__ import annotations

from dataclasses import dataclass

from glmstudio.errors import StudioError
from glmstudio.system import nvml

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
    return [
        Card(gpu.uuid or str(gpu.index), gpu.index, gpu.name, gpu.free_mib, gpu.total_mib)
        for gpu in nvml.read_cards().gpus
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
    """The cards of a device that are there now."""
    names = set(device.split(","))
    return [card for card in cards() if card.uuid in names]


def overlap(one: str, other: str) -> bool:
    """Whether two devices have a card, or the CPU, in common."""
    return not set(one.split(",")).isdisjoint(other.split(","))


def no_card(name: str) -> StudioError:
    """The error for a card that is not there: which there are."""
    return StudioError("runs.no_card", card=name, cards=", ".join([CPU, *(str(card.index) for card in cards())]))


def _card(name: str, known: list[Card]) -> Card:
    found = next((card for card in known if name in (card.uuid, str(card.index))), None)
    if found is None:
        raise no_card(name)
    return found
