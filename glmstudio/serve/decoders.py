"""One token after another: plainly, or in fixed places, which a card can be given as one graph.

A 6B model makes some 700 small kernels for a token, and starting each of them costs a card more time than they take.
A CUDA graph starts them all at once; for that nothing may change but numbers in places that stay: the token, its
position, the keys and values. So a conversation moves into such places while its answer is made, and out again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from transformers import GlmForCausalLM

from glmstudio.glm.decode import DecodeForward
from glmstudio.glm.kv_cache import FixedCache, GrowingCache

log = logging.getLogger(__name__)

_SMALLEST = 512  # tokens that fixed places hold at least
_MOST = 8  # graphs that are kept
_WARM = 3  # rounds before a capture, in which libraries choose their kernels and take their memory


class EagerDecoder:
    """Each token of an answer as any piece of a prompt."""

    def __init__(self, model: GlmForCausalLM) -> None:
        self._reader = DecodeForward(model)
        self._device = model.device
        self._cache: Any = None  # a GrowingCache while an answer is made

    def begin(self, adapter: str, cache: GrowingCache) -> None:
        """An answer is made, with this adapter, after what `cache` holds."""
        self._adapter, self._cache = adapter, cache
        self._reader.begin()

    def read(self, ids: Sequence[int]) -> torch.Tensor:
        """The logits (V) after a piece of the prompt."""
        return self.logits(self.states(ids)[-1])

    def states(self, ids: Sequence[int]) -> torch.Tensor:
        """The hidden states (T, H) of a piece of the prompt, from which `logits` are made."""
        return self._reader.states(torch.tensor([ids], device=self._device), self._cache)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """(…, V) for hidden states (…, H)."""
        return self._reader.logits(states)

    def step(self, token: int) -> torch.Tensor:
        """The logits (V) after one more token of the answer. Nothing is read after the first one."""
        return self.read([token])

    def end(self) -> None:
        """The answer is over: `cache` has all of it."""

    def forget(self) -> None:
        """Let go of the conversation, however its answer ended."""
        self._cache = None

    def clear(self) -> None:
        """Give back what is kept between answers."""
        self.forget()


class StaticCacheDecoder(EagerDecoder):
    """In fixed places, of 512, 1,024, … tokens; `graphs`: as CUDA graphs."""

    def __init__(self, model: GlmForCausalLM, *, graphs: bool = True) -> None:
        super().__init__(model)
        self._graphs = graphs
        # One for all graphs, of which only one runs at a time.
        self._pool = torch.cuda.graph_pool_handle() if graphs and torch.cuda.is_available() else None
        self._room = self._length = 0
        self._places: dict[int, _Places] = {}
        self._made: dict[tuple[str, int], _Graph] = {}

    def begin(self, adapter: str, cache: GrowingCache) -> None:
        """As in `EagerDecoder`."""
        super().begin(adapter, cache)
        self._room = self._length = 0

    def step(self, token: int) -> torch.Tensor:
        """As in `EagerDecoder`."""
        if self._length >= self._room:
            self._move(self._length or self._cache.get_seq_length())
        places = self._places[self._room]
        places.token.fill_(token)
        places.cache.position.fill_(self._length)
        self._length += 1
        graph = self._graph() if self._graphs else None
        return places.compute() if graph is None else graph.replay()

    def end(self) -> None:
        """As in `EagerDecoder`."""
        if self._room:
            self._places[self._room].cache.give(self._cache, self._length)

    def clear(self) -> None:
        """As in `EagerDecoder`."""
        super().clear()
        self._room = self._length = 0
        self._made.clear()
        self._places.clear()

    def _move(self, length: int) -> None:
        """Into places that have room for at least one token more than `length`."""
        if self._room:
            self._places[self._room].cache.give(self._cache, length)
        room = max(_SMALLEST, 1 << length.bit_length())
        if room not in self._places:
            self._places[room] = _Places(self._reader, room)
        self._places[room].cache.fill(self._cache)
        self._room, self._length = room, length

    def _graph(self) -> _Graph | None:
        """The graph for the adapter in use and these places; None where the card takes none."""
        key = (self._adapter, self._room)
        if key not in self._made:
            while len(self._made) >= _MOST:
                self._made.pop(next(iter(self._made)))
            try:
                self._made[key] = _Graph(self._places[self._room], self._pool)
            except torch.OutOfMemoryError:
                raise  # that is another trouble, which passes
            except RuntimeError as error:
                log.warning("This card does not take CUDA graphs, so answers are made without: %s", error)
                self._graphs = False
                self._made.clear()
                return None
        return self._made[key]


class _Places:
    """Fixed places of one size: where the next token stands, and what has been read."""

    def __init__(self, reader: DecodeForward, room: int) -> None:
        self.reader, model = reader, reader.model
        self.cache = FixedCache(model, room)
        self.token = torch.zeros(1, 1, dtype=torch.long, device=model.device)
        self._every = torch.arange(room, device=model.device)

    def compute(self) -> torch.Tensor:
        """The logits (V), by operations that are always the same. Done twice, it only writes the same again."""
        position = self.cache.position
        seen = (self._every <= position)[None, None, None]
        return self.reader.read(self.token, self.cache, position, seen)


class _Graph:
    """What `places.compute` does with the adapter in use, as a graph. Raises RuntimeError where that fails."""

    def __init__(self, places: _Places, pool: Any) -> None:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM):
                places.compute()
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        # The outer one comes back to this stream also where a capture breaks and does not.
        with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(self._graph, pool=pool):
            self._logits = places.compute()
        # The graph knows only the address of the prefix's states, which the prefix itself forgets with another adapter.
        self._held = [getattr(layer.self_attn, "prefix", None) for layer in places.reader.model.model.layers]

    def replay(self) -> torch.Tensor:
        """Compute; the logits (V)."""
        self._graph.replay()
        return self._logits.clone()
