"""A cache of keys and values with room for the tokens to come."""

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

ROOM = 32
"""Tokens that a layer gets room for at a time."""


class RoomyLayer(DynamicLayer):
    """A layer that writes a token in place, where transformers' copies all tokens before it to append one."""

    _room: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        before = self.get_seq_length()
        after = before + key_states.size(-2)
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if self._room is None or self._room[0].size(-2) < after:
            rows, heads = key_states.shape[:2]
            # Values may be of another width than keys.
            new = [
                states.new_empty(rows, heads, after + ROOM, states.size(-1)) for states in (key_states, value_states)
            ]
            if before:
                for room, past in zip(new, (self.keys, self.values), strict=True):
                    room[:, :, :before] = past
            self._room = (new[0], new[1])
        for room, states in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, before:after] = states
        self.keys, self.values = (room[:, :, :after] for room in self._room)
        return self.keys, self.values

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        self._room = None

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self._room = None


def roomy_cache(config: PreTrainedConfig) -> DynamicCache:
    """A cache for a model; layers of other kinds than full attention are as transformers makes them."""
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
