"""Sampling completions from small policies, faster than ``generate`` and from the same distribution.

Three things make it faster for small policies: a prompt is read once and its keys and values are repeated for its
completions, completions that have ended leave the batch, and the cache has room for the tokens to come. The forward
pass is that of transformers.
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from repro.policies.cache import roomy_cache

LEAVE = 8
"""Ended completions leave the batch once they are one in so many: each time costs a copy of the cache."""


def pad_left(rows: list[list[int]], pad: int) -> Tensor:
    """Token lists as one tensor ``[B, longest]``, padded on the left."""
    length = max(map(len, rows))
    return torch.tensor([[pad] * (length - len(row)) + row for row in rows])


@torch.no_grad()
def sample_tokens(
    model: PreTrainedModel,
    prompts: list[list[int]],
    samples: int = 1,
    *,
    temperature: float,
    max_new_tokens: int,
    eos: int,
    pad: int,
) -> list[list[int]]:
    """Completions of tokenized prompts, ``samples`` of each in a row; greedy where ``temperature`` is 0.

    Draws from torch's global generator. The policy's mode (training or not) is as before when this returns.

    Returns:
        ``len(prompts) * samples`` lists of token ids. A list ends with ``eos`` unless it has ``max_new_tokens``.
    """
    training = model.training
    model.eval()
    try:
        # By length and not by token: a policy may pad with a token that is in its prompts too.
        mask = pad_left([[1] * len(prompt) for prompt in prompts], 0).to(model.device)
        rows = pad_left(prompts, pad).to(model.device)
        tokens = _sample(model, rows, mask, samples, temperature, max_new_tokens, eos, pad)
    finally:
        model.train(training)
    ended = tokens == eos
    lengths = torch.where(ended.any(1), ended.int().argmax(1) + 1, tokens.size(1))
    return [row[:length] for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True)]


def _sample(
    model: PreTrainedModel,
    prompts: Tensor,
    mask: Tensor,
    samples: int,
    temperature: float,
    longest: int,
    eos: int,
    pad: int,
) -> Tensor:
    """Sampled tokens ``[B * samples, at most longest]`` after left-padded prompts ``[B, P]`` and their mask."""
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache = roomy_cache(model.config)
    logits = model(
        input_ids=prompts,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
    cache.batch_repeat_interleave(samples)
    logits, mask, position = (each.repeat_interleave(samples, 0) for each in (logits, mask, positions[:, -1:]))
    tokens = torch.full((len(logits), longest), pad, device=prompts.device)
    rows = torch.arange(len(logits), device=prompts.device)
    going = torch.ones_like(rows, dtype=torch.bool)
    for step in range(longest):
        drawn = _draw(logits, temperature)
        tokens[rows, step] = drawn
        # What an ended completion draws until it leaves is cut off by the caller.
        going &= drawn != eos
        count = int(going.sum())
        if count == 0 or step == longest - 1:
            return tokens[:, : step + 1]
        if len(going) - count >= len(going) / LEAVE:
            keep = going.nonzero()[:, 0]
            cache.batch_select_indices(keep)
            rows, mask, position, drawn, going = (each[keep] for each in (rows, mask, position, drawn, going))
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        position = position + 1
        logits = model(
            input_ids=drawn[:, None],
            attention_mask=mask,
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
    raise AssertionError("longest is at least 1")


def _draw(logits: Tensor, temperature: float) -> Tensor:
    """One token a row of ``[B, V]``."""
    if temperature == 0:
        return logits.argmax(-1)
    return torch.multinomial(torch.softmax(logits.float() / temperature, -1), 1)[:, 0]
