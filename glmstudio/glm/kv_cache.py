"""Keys and values of what a model has read: in places that are kept, never put together anew."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Cache, GlmConfig, GlmForCausalLM
from transformers.cache_utils import DynamicLayer

_LEAST = 256  # tokens that a fresh place holds


class GrowingLayer(DynamicLayer):
    """One layer's, (B, groups, S, D): written where there is room, in a place that doubles when it is full."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self._places: list[torch.Tensor] = []

    @property
    def room(self) -> int:
        """How many tokens the place is for."""
        return self._places[0].shape[2] if self._places else 0

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        """Add the new ones; returns all, without a copy."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        before, new = self.get_seq_length(), key_states.shape[2]
        if self.room < before + new:
            self._grow(key_states, before, before + new)
        keys, values = self._places
        keys.narrow(2, before, new).copy_(key_states)
        values.narrow(2, before, new).copy_(value_states)
        self.keys, self.values = keys.narrow(2, 0, before + new), values.narrow(2, 0, before + new)
        return self.keys, self.values

    def _grow(self, like: torch.Tensor, before: int, after: int) -> None:
        room = max(_LEAST, 1 << (after - 1).bit_length())
        places = [like.new_empty(*like.shape[:2], room, like.shape[3]) for _ in range(2)]
        for place, held in zip(places, (self.keys, self.values), strict=True):
            if before:
                place[:, :, :before] = held
        self._places = places


class GrowingCache(Cache):
    """A conversation's, layer by layer."""

    def __init__(self, config: GlmConfig) -> None:
        super().__init__(layers=[GrowingLayer() for _ in range(config.num_hidden_layers)])

    @property
    def room(self) -> int:
        """How many tokens the places are for."""
        return max((each.room for each in self.layers), default=0)

    def cut(self, length: int) -> None:
        """Forget what comes after the first `length` tokens; nothing is moved."""
        for layer in self.layers:
            layer.keys, layer.values = layer.keys[:, :, :length], layer.values[:, :, :length]

    def copied(self, config: GlmConfig, length: int) -> GrowingCache:
        """Another one with the first `length` tokens."""
        other = GrowingCache(config)
        for mine, layer in zip(self.layers, other.layers, strict=True):
            layer.update(mine.keys[:, :, :length], mine.values[:, :, :length])
        return other


class FixedLayer(DynamicLayer):
    """One layer's in a place of fixed size, written at `position` (1): nothing about it changes from token to token."""

    def __init__(self, position: torch.Tensor) -> None:
        super().__init__()
        self._position = position

    def hold(self, config: GlmConfig, room: int, like: torch.Tensor) -> None:
        """Make the place, (1, groups, room, D) of zeros."""
        shape = (1, config.num_key_value_heads, room, config.head_dim)
        self.lazy_initialization(like, like)
        self.keys, self.values = (torch.zeros(shape, dtype=like.dtype, device=like.device) for _ in range(2))

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        """Put one token's where `position` says; returns all the place holds, which a mask has to tell apart."""
        self.keys.index_copy_(2, self._position, key_states)
        self.values.index_copy_(2, self._position, value_states)
        return self.keys, self.values


class FixedCache(Cache):
    """Room for so many tokens in fixed places; `position` is where the next one goes."""

    def __init__(self, model: GlmForCausalLM, room: int) -> None:
        self.position = torch.zeros(1, dtype=torch.long, device=model.device)
        layers = [FixedLayer(self.position) for _ in range(model.config.num_hidden_layers)]
        super().__init__(layers=layers)
        like = torch.empty(0, dtype=model.dtype, device=model.device)
        for layer in layers:
            layer.hold(model.config, room, like)

    def fill(self, source: GrowingCache) -> None:
        """Take over what a conversation holds. The rest is 0: it weighs nothing, but 0 times infinite is no number."""
        length = source.get_seq_length()
        for own, layer in zip(self.layers, source.layers, strict=True):
            own.values[:, :, length:].zero_()
            own.keys[:, :, :length], own.values[:, :, :length] = layer.keys, layer.values

    def give(self, target: GrowingCache, length: int) -> None:
        """Add the tokens that the conversation does not have yet, up to `length`."""
        before = target.get_seq_length()
        for own, layer in zip(self.layers, target.layers, strict=True):
            layer.update(own.keys[:, :, before:length], own.values[:, :, before:length])
