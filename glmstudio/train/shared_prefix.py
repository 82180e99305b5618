"""What conversations begin with: the tools and the system prompt, which many of them have in common.

Such a part has the same hidden states in all of them: a pack computes it once, and its gradient is the sum of theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glmstudio.data.openings import openings_of
from glmstudio.data.store import Store
from glmstudio.data.table import Numbers


@dataclass(frozen=True)
class Prompts:
    """For each of N conversations: those of one `family` (N) begin with the same `length` (N) of tokens, of which none
    is learned and after which no learned one follows at once. Where that is 0, the conversation is alone. At most
    `most` share one."""

    family: Numbers
    length: Numbers
    most: int

    def of(self, conversations: Sequence[int]) -> list[tuple[int, int]]:
        """For each conversation of a pack: which prompt it has, counted from 0, and how many tokens it shares with
        others; 0 where nobody has the same one."""
        groups: dict[int, list[list[int]]] = {}
        for at, index in enumerate(conversations):
            known = groups.setdefault(int(self.family[index]), [[]])
            if len(known[-1]) == self.most:
                known.append([])
            known[-1].append(at)
        shared = [(0, 0)] * len(conversations)
        for place, group in enumerate(group for known in groups.values() for group in known):
            length = int(self.length[conversations[group[0]]]) if len(group) > 1 else 0
            for at in group:
                shared[at] = (place, length)
        return shared


def prompts_of(store: Store, rows: Numbers, ends: Numbers, user: int, most: int) -> Prompts:
    """The prompts of chosen rows up to their ends: all that stands before the first turn of the user, whose special
    token is `user`."""
    found = openings_of(store, rows, ends, user)
    return Prompts(found.family, found.length, most)
