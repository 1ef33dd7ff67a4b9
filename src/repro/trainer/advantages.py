"""Advantage estimators beside TRL's own: RLOO, REINFORCE++ and PRIME, as pure functions.

Sequences are in groups of ``num_generations`` neighbours, one group per prompt. A reward of NaN marks a completion that
no reward function scored: it is left out of every mean and its advantage is 0, as in TRL.
"""

import torch
from torch import Tensor

WHITENING_EPSILON = 1e-8
"""Added to the variance, as verl's ``masked_whiten`` does."""


def rloo(rewards: Tensor, num_generations: int) -> Tensor:
    """RLOO: a reward minus the mean reward of the others in its group, not divided by anything (arXiv:2402.14740).

    Args:
        rewards: ``[N]``; NaN where unscored.
        num_generations: completions per prompt.

    Returns:
        ``[N]``; 0 where unscored and where nothing else in the group is scored.
    """
    groups = rewards.view(-1, num_generations)
    others = ((~groups.isnan()).sum(1, keepdim=True) - 1).clamp(min=1)
    baseline = (groups.nansum(1, keepdim=True) - groups) / others
    alone = (~groups.isnan()).sum(1, keepdim=True) < 2
    return (groups - baseline).masked_fill(alone, 0.0).nan_to_num(nan=0.0).view(-1)


def whiten(values: Tensor, weights: Tensor) -> Tensor:
    """Values minus their weighted mean, over their weighted standard deviation (unbiased: n / (n - 1)).

    Args:
        values: any shape; never read where its weight is 0.
        weights: of that shape: how many tokens each value stands for.

    Returns:
        Of that shape, 0 where the weight is 0.
    """
    values = torch.where(weights > 0, values, 0.0)
    total = weights.sum().clamp(min=2)
    mean = (values * weights).sum() / total
    variance = (weights * (values - mean) ** 2).sum() / (total - 1)
    return torch.where(weights > 0, (values - mean) * torch.rsqrt(variance + WHITENING_EPSILON), 0.0)


def reinforce_plus_plus(rewards: Tensor, lengths: Tensor) -> Tensor:
    """REINFORCE++: rewards whitened over all tokens of the batch (arXiv:2501.03262, as in verl).

    Without discount and without a KL in the reward, every token's return is its sequence's reward, so whitening over
    tokens weighs each sequence with its length.

    Args:
        rewards: ``[N]`` of the whole batch; NaN where unscored.
        lengths: ``[N]`` tokens of each completion.

    Returns:
        ``[N]``.
    """
    return whiten(rewards, torch.where(rewards.isnan(), 0, lengths).to(rewards.dtype))


def prime(process_rewards: Tensor, outcome_rewards: Tensor, mask: Tensor, num_generations: int) -> Tensor:
    """PRIME's advantages from implicit process rewards and outcome rewards (arXiv:2502.01456, Eq. 5; no discount).

        A_t^i = sum_{s >= t} [r_s^i - mean_{j != i} rbar^j] + R^i - mean_{j != i} R^j,     rbar^j = mean_s r_s^j,

    then whitened over all tokens of the batch, as the authors' code does.

    Args:
        process_rewards: ``[N, T]``; what stands at masked places is never read.
        outcome_rewards: ``[N]``; NaN where unscored: such a sequence has advantage 0 and no part in the means.
        mask: ``[N, T]``, bool or 0/1.
        num_generations: completions per prompt.

    Returns:
        ``[N, T]``, 0 where masked.
    """
    keep = (mask != 0) & ~outcome_rewards.isnan().unsqueeze(1)
    rewards = torch.where(keep, process_rewards, 0.0)
    lengths = keep.sum(1)
    means = torch.where(lengths > 0, rewards.sum(1) / lengths.clamp(min=1), torch.nan)
    # rloo(means) is rbar minus the others' mean, so this is the others' mean; rbar itself where there are no others.
    baseline = means.nan_to_num(nan=0.0) - rloo(means, num_generations)
    centred = torch.where(keep, rewards - baseline.unsqueeze(1), 0.0)
    returns = centred.flip(1).cumsum(1).flip(1) + rloo(outcome_rewards, num_generations).unsqueeze(1)
    return whiten(returns, keep.to(returns.dtype))
