"""Keys and values that an answer left behind, for what begins alike: the next round of tools, the next turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import GlmConfig

from glmstudio.glm.kv_cache import GrowingCache
from glmstudio.serve.token_scores import TokenScore

_MOST = 8
_SHORT = 256  # tokens: so much may be cut off the end of an entry; where more would be lost, it is copied


@dataclass
class CachedPrefix:
    """The keys and values of `ids`, computed with one adapter; `scores[i]`, where known, is that of `ids[i + 1]`."""

    adapter: str
    ids: list[int]
    cache: GrowingCache
    scores: list[TokenScore]


class PrefixCache:
    """The few that were used last, `limit` tokens in all. Never shared between adapters: their numbers differ."""

    def __init__(self, config: GlmConfig, limit: int) -> None:
        self._config, self._limit = config, limit
        self._entries: list[CachedPrefix] = []

    @property
    def tokens(self) -> int:
        """How many tokens the places that are held have room for."""
        return sum(each.cache.room for each in self._entries)

    def take(
        self, adapter: str, prompt: Sequence[int], *, scored: bool = False
    ) -> tuple[GrowingCache, int, list[TokenScore]]:
        """A cache whose first tokens are those of `prompt`, how many, and the scores of the prompt that are known, from
        its second token on; at least one token is left to compute. With `scored`, all up to that one are known.
        """
        best, length = None, 0
        for each in self._entries:
            if each.adapter != adapter:
                continue
            known = _common(each.ids, prompt)
            if scored:  # one less: what was computed for a token gives the score of the next one
                known = min(known - 1, len(each.scores))
            if min(known, len(prompt) - 1) > length:
                best, length = each, min(known, len(prompt) - 1)
        if best is None:
            return GrowingCache(self._config), 0, []
        scores = best.scores[: length if scored else length - 1]
        if len(best.ids) - length > _SHORT:
            return best.cache.copied(self._config, length), length, scores
        self._entries.remove(best)
        best.cache.cut(length)
        return best.cache, length, scores

    def put(self, adapter: str, ids: Sequence[int], cache: GrowingCache, scores: Sequence[TokenScore] = ()) -> None:
        """Keep what was computed; the ones that were not used for longest go."""
        known = list(ids[: cache.get_seq_length()])
        self._entries.append(CachedPrefix(adapter, known, cache, list(scores)))
        while len(self._entries) > _MOST or (self.tokens > self._limit and len(self._entries) > 1):
            del self._entries[0]

    def clear(self) -> None:
        """Give all of it back."""
        self._entries.clear()


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many ids both begin with."""
    pairs = zip(first, second, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
