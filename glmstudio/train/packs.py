"""How the conversations of one optimizer step become packs: rows of tokens, each for one forward and backward pass.

A pack is only a layout. What a step learns is the same however its conversations are laid out, on one card as on
eight: that is what the weights say, which every learned token brings along.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Pack = list[tuple[int, float]]
"""Conversations, and for each the weight of each of its learned tokens."""


@dataclass(frozen=True)
class Layout:
    """How to lay out: packs of at most `limit` tokens, or, where it is None, batches as they are, to be padded.

    A token costs more the longer its conversation is: twice as much at `bend` tokens as at the start.
    """

    limit: int | None
    bend: float = 50_000.0

    def cost(self, length: int) -> float:
        """What a conversation costs, in tokens of a short one."""
        return length * (1 + length / self.bend)

    def packs(
        self, batches: Sequence[Sequence[int]], length: Callable[[int], int], world: int = 1, *, full: bool = False
    ) -> list[list[int]]:
        """The conversations of a step's batches, laid out for `world` processes: as few packs as hold the limit, but as
        many for each process where there are enough conversations, and all about equally heavy. `full`: packs up to
        the limit instead, the last one has the rest."""
        if self.limit is None:
            return [list(batch) for batch in batches]
        order = sorted((index for batch in batches for index in batch), key=length, reverse=True)
        filled = _first_fit(order, length, self.limit)
        if full:
            return filled
        most = max(self.limit, length(order[0]))
        count = min(-(-len(filled) // world) * world, len(order))
        while True:  # it ends: at the latest, each conversation has a pack of its own
            evened = _lightest_first(order, lambda index: self.cost(length(index)), count)
            if count == len(order) or max(sum(map(length, pack)) for pack in evened) <= most:
                return evened
            count = min(count + world, len(order))


def dealt(packs: list[Pack], rank: int, world: int) -> list[Pack]:
    """The packs of one process. All get as many, so that nobody waits in vain: where they do not come out even, some
    packs come again with no weight."""
    rounds = -(-len(packs) // world)
    spare = [[(index, 0.0) for index, _ in pack] for pack in packs]
    every = packs + [spare[at % len(packs)] for at in range(rounds * world - len(packs))]
    # There and back again, as the packs may be sorted: else the first process always had the heaviest.
    turns = [every[at : at + world][:: -1 if at // world % 2 else 1] for at in range(0, len(every), world)]
    return [turn[rank] for turn in turns]


def _first_fit(order: Sequence[int], length: Callable[[int], int], limit: int) -> list[list[int]]:
    """Each into the first pack that has room. What is longer than the limit is alone."""
    packs: list[list[int]] = []
    room: list[int] = []
    for index in order:
        own = length(index)
        place = next((at for at, free in enumerate(room) if free >= own), None)
        if place is None:
            packs.append([index])
            room.append(limit - own)
        else:
            packs[place].append(index)
            room[place] -= own
    return packs


def _lightest_first(order: Sequence[int], cost: Callable[[int], float], count: int) -> list[list[int]]:
    """Each into the pack that has least to do; the heaviest pack comes first."""
    packs: list[list[int]] = [[] for _ in range(count)]
    load = [0.0] * count
    for index in order:
        place = load.index(min(load))
        packs[place].append(index)
        load[place] += cost(index)
    return [packs[at] for at in sorted(range(count), key=lambda at: -load[at])]
