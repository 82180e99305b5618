"""One token after another: plainly, or over static buffers, which a GPU can be given as one CUDA graph.

A 6B model makes some 700 small kernels for a token, and starting each of them costs a GPU more time than they take.
A CUDA graph starts them all at once; for that nothing may change but numbers in buffers that stay: the token, its
position, the keys and values. So a conversation moves into such buffers while its answer is made, and out again.
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

_SMALLEST = 512  # tokens that static buffers hold at least
_MOST = 8  # graphs that are kept
_WARM = 3  # rounds before a capture, in which libraries choose their kernels and take their memory


class EagerDecoder:
    """Each token of an answer as any piece of a prompt."""

    def __init__(self, model: GlmForCausalLM) -> None:
        self._forward = DecodeForward(model)
        self._device = model.device
        self._cache: Any = None  # a GrowingCache while an answer is made

    def begin(self, adapter: str, cache: GrowingCache) -> None:
        """An answer is made, with this adapter, after what `cache` holds."""
        self._adapter, self._cache = adapter, cache
        self._forward.begin()

    def read(self, ids: Sequence[int]) -> torch.Tensor:
        """The logits (V) after a piece of the prompt."""
        return self.logits(self.states(ids)[-1])

    def states(self, ids: Sequence[int]) -> torch.Tensor:
        """The hidden states (T, H) of a piece of the prompt, from which `logits` are made."""
        return self._forward.states(torch.tensor([ids], device=self._device), self._cache)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """(…, V) for hidden states (…, H)."""
        return self._forward.logits(states)

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
    """Over static buffers of 512, 1,024, … tokens; `graphs`: as CUDA graphs."""

    def __init__(self, model: GlmForCausalLM, *, graphs: bool = True) -> None:
        super().__init__(model)
        self._captures = graphs
        # One for all graphs, of which only one runs at a time.
        self._pool = torch.cuda.graph_pool_handle() if graphs and torch.cuda.is_available() else None
        self._room = self._length = 0
        self._buffers: dict[int, _StaticBuffers] = {}
        self._graphs: dict[tuple[str, int], _CudaGraph] = {}

    def begin(self, adapter: str, cache: GrowingCache) -> None:
        """As in `EagerDecoder`."""
        super().begin(adapter, cache)
        self._room = self._length = 0

    def step(self, token: int) -> torch.Tensor:
        """As in `EagerDecoder`."""
        if self._length >= self._room:
            self._move(self._length or self._cache.get_seq_length())
        buffers = self._buffers[self._room]
        buffers.token.fill_(token)
        buffers.cache.position.fill_(self._length)
        self._length += 1
        graph = self._graph() if self._captures else None
        return buffers.compute() if graph is None else graph.replay()

    def end(self) -> None:
        """As in `EagerDecoder`."""
        if self._room:
            self._buffers[self._room].cache.give(self._cache, self._length)

    def clear(self) -> None:
        """As in `EagerDecoder`."""
        super().clear()
        self._room = self._length = 0
        self._graphs.clear()
        self._buffers.clear()

    def _move(self, length: int) -> None:
        """Into buffers that have room for at least one token more than `length`."""
        if self._room:
            self._buffers[self._room].cache.give(self._cache, length)
        room = max(_SMALLEST, 1 << length.bit_length())
        if room not in self._buffers:
            self._buffers[room] = _StaticBuffers(self._forward, room)
        self._buffers[room].cache.fill(self._cache)
        self._room, self._length = room, length

    def _graph(self) -> _CudaGraph | None:
        """The graph for the adapter in use and these buffers; None where the GPU takes none."""
        key = (self._adapter, self._room)
        if key not in self._graphs:
            while len(self._graphs) >= _MOST:
                self._graphs.pop(next(iter(self._graphs)))
            try:
                self._graphs[key] = _CudaGraph(self._buffers[self._room], self._pool)
            except torch.OutOfMemoryError:
                raise  # that is another trouble, which passes
            except RuntimeError as error:
                log.warning("This GPU does not take CUDA graphs, so answers are made without: %s", error)
                self._captures = False
                self._graphs.clear()
                return None
        return self._graphs[key]


class _StaticBuffers:
    """Static buffers of one size: the next token, and the keys and values of what has been read."""

    def __init__(self, forward: DecodeForward, room: int) -> None:
        self.forward, model = forward, forward.model
        self.cache = FixedCache(model, room)
        self.token = torch.zeros(1, 1, dtype=torch.long, device=model.device)
        self._every = torch.arange(room, device=model.device)

    def compute(self) -> torch.Tensor:
        """The logits (V), by operations that are always the same. Done twice, it only writes the same again."""
        position = self.cache.position
        seen = (self._every <= position)[None, None, None]
        return self.forward.read(self.token, self.cache, position, seen)


class _CudaGraph:
    """What `buffers.compute` does with the adapter in use, as a graph. Raises RuntimeError where that fails."""

    def __init__(self, buffers: _StaticBuffers, pool: Any) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM):
                buffers.compute()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # The outer one comes back to this stream also where a capture breaks and does not.
        with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(self._graph, pool=pool):
            self._logits = buffers.compute()
        # The graph knows only the address of the prefix's states, which the prefix itself forgets with another adapter.
        self._held = [getattr(layer.self_attn, "prefix", None) for layer in buffers.forward.model.model.layers]

    def replay(self) -> torch.Tensor:
        """Compute; the logits (V)."""
        self._graph.replay()
        return self._logits.clone()
