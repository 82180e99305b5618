"""How the conversations of one optimizer step become packs: rows of tokens, each for one forward and backward pass.

A pack is only a layout. What a step learns is the same however its conversations are laid out, on one GPU as on
eight: that is what the weights say, which every learned token brings along.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from glmstudio.train.shared_prefix import Prompts

Pack = list[tuple[int, float]]
"""Conversations, and for each the weight of each of its learned tokens."""

_Unit = tuple[int, ...]  # conversations that come into one pack, as they begin with the same prompt


@dataclass(frozen=True)
class Packer:
    """How to lay out: packs of at most `limit` tokens, or, where it is None, batches as they are, to be padded.

    A token costs more the longer its conversation is: twice as much at `bend` tokens as at the start. What several
    conversations begin with by `prompts` is computed once for those that come into one pack.
    """

    limit: int | None
    bend: float = 50_000.0
    prompts: Prompts | None = None

    def packs(
        self, batches: Sequence[Sequence[int]], length: Callable[[int], int], world: int = 1, *, full: bool = False
    ) -> list[list[int]]:
        """The conversations of a step's batches, laid out for `world` processes: as few packs as hold the limit, but as
        many for each process where there are enough of what need not stay together, and all about equally heavy.
        `full`: packs up to the limit instead, the last one has the rest."""
        if self.limit is None:
            return [list(batch) for batch in batches]
        order = sorted((index for batch in batches for index in batch), key=length, reverse=True)
        sizes = _Sizes(length, self.bend, self.prompts)
        units = _units(order, sizes, self.limit, world)
        filled = _first_fit(units, sizes.tokens, self.limit)
        if full:
            return _conversations(filled)
        most = max(self.limit, sizes.tokens(units[0]))
        count = min(-(-len(filled) // world) * world, len(units))
        while True:  # it ends: at the latest, each unit has a pack of its own
            evened = _lightest_first(units, sizes.cost, count)
            if count == len(units) or max(sum(map(sizes.tokens, pack)) for pack in evened) <= most:
                return _conversations(evened)
            count = min(count + world, len(units))


@dataclass(frozen=True)
class _Sizes:
    """What units have to compute."""

    length: Callable[[int], int]
    bend: float
    prompts: Prompts | None

    def _shared(self, unit: _Unit) -> int:
        return int(self.prompts.length[unit[0]]) if self.prompts and len(unit) > 1 else 0

    def tokens(self, unit: _Unit) -> int:
        """Tokens: the prompt that they share counts once."""
        return sum(map(self.length, unit)) - (len(unit) - 1) * self._shared(unit)

    def cost(self, unit: _Unit) -> float:
        """The same in tokens of a short conversation."""
        shared = self._shared(unit)
        own = [(self.length(index) - shared, self.length(index) + shared) for index in unit]
        return shared * (1 + shared / self.bend) + sum(count * (1 + seen / self.bend) for count, seen in own)


def shard_packs(packs: list[Pack], rank: int, world: int) -> list[Pack]:
    """The packs of one process. All get as many, so that no collective blocks: where they do not come out even, some
    packs come again with no weight."""
    rounds = -(-len(packs) // world)
    spare = [[(index, 0.0) for index, _ in pack] for pack in packs]
    every = packs + [spare[at % len(packs)] for at in range(rounds * world - len(packs))]
    # There and back again, as the packs may be sorted: else the first process always had the heaviest.
    turns = [every[at : at + world][:: -1 if at // world % 2 else 1] for at in range(0, len(every), world)]
    return [turn[rank] for turn in turns]


def _units(order: Sequence[int], sizes: _Sizes, limit: int, world: int) -> list[_Unit]:
    """Those that share a prompt together, as far as the limit holds them and something is left for every process."""
    if sizes.prompts is None:
        return [(index,) for index in order]
    most = min(sizes.prompts.most, -(-len(order) // world))
    families: dict[int, list[_Unit]] = {}
    for index in order:
        units = families.setdefault(int(sizes.prompts.family[index]), [])
        larger = (*units[-1], index) if units else (index,)
        if 1 < len(larger) <= most and sizes.tokens(larger) <= limit:
            units[-1] = larger
        else:
            units.append((index,))
    return sorted((unit for units in families.values() for unit in units), key=sizes.tokens, reverse=True)


def _first_fit(order: Sequence[_Unit], tokens: Callable[[_Unit], int], limit: int) -> list[list[_Unit]]:
    """Each into the first pack that has room. What is longer than the limit is alone."""
    packs: list[list[_Unit]] = []
    room: list[int] = []
    for unit in order:
        own = tokens(unit)
        place = next((at for at, free in enumerate(room) if free >= own), None)
        if place is None:
            packs.append([unit])
            room.append(limit - own)
        else:
            packs[place].append(unit)
            room[place] -= own
    return packs


def _lightest_first(order: Sequence[_Unit], cost: Callable[[_Unit], float], count: int) -> list[list[_Unit]]:
    """Each into the pack that has least to do; the heaviest pack comes first."""
    packs: list[list[_Unit]] = [[] for _ in range(count)]
    load = [0.0] * count
    for unit in order:
        place = load.index(min(load))
        packs[place].append(unit)
        load[place] += cost(unit)
    return [packs[at] for at in sorted(range(count), key=lambda at: -load[at])]


def _conversations(packs: list[list[_Unit]]) -> list[list[int]]:
    return [[index for unit in pack for index in unit] for pack in packs]
