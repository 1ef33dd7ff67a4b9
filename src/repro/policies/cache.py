"""A cache of keys and values with room for the tokens to come."""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

ROOM = 32
"""Tokens that a layer gets room for at a time."""


class RoomyLayer(DynamicLayer):
    """A layer that writes a token in place, where transformers' copies all tokens before it to append one.

    ``keys`` and ``values``, ``[B, heads, T, width]``, are the first tokens of their room, which may differ in width.
    """

    _room: tuple[Tensor, ...] = ()

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        before = self.get_seq_length()
        after = before + key_states.size(-2)
        if not self._room or self._room[0].size(-2) < after:
            self._move(len(key_states), after, lambda past, room: room.copy_(past))
        for room, states in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, before:after] = states
        self.keys, self.values = (room[:, :, :after] for room in self._room)
        return self.keys, self.values

    def batch_repeat_interleave(self, repeats: int) -> None:
        if tokens := self.get_seq_length():
            rows = len(self.keys)
            self._move(
                rows * repeats, tokens, lambda past, room: room.unflatten(0, (rows, repeats)).copy_(past[:, None])
            )

    def batch_select_indices(self, indices: Tensor) -> None:
        if tokens := self.get_seq_length():
            self._move(len(indices), tokens, lambda past, room: torch.index_select(past, 0, indices, out=room))

    def _move(self, rows: int, tokens: int, copy: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Move to new room for so many rows and tokens: ``copy`` puts what is there into its part of the room."""
        before, pasts = self.get_seq_length(), (self.keys, self.values)
        self._room = tuple(past.new_empty(rows, past.size(1), tokens + ROOM, past.size(-1)) for past in pasts)
        self.keys, self.values = (room[:, :, :before] for room in self._room)
        for past, room in zip(pasts, (self.keys, self.values), strict=True):
            copy(past, room)


def roomy_cache(config: PreTrainedConfig) -> DynamicCache:
    """A cache for a model; layers of other kinds than full attention are as transformers makes them."""
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
