"""The definitions, in the plainest torch: what the fast implementations are tested against.

Any float dtype up to float64. On several ranks every token is gathered on every rank, and selections read values on
the host: right, slow, and not for training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from repro.ops.common import (
    accumulator_dtype,
    compute_dtype,
    draw_keys,
    draw_seed,
    host_quota,
    raise_not_finite,
    whole_weights,
)

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def _all_ranks(values: Tensor, group: ProcessGroup | None) -> tuple[Tensor, int]:
    """`values` of all ranks one after another, and where this rank's begin."""
    if group is None:
        return values, 0
    parts: list[Tensor] = [values] * dist.get_world_size(group)
    dist.all_gather_object(parts, values, group=group)
    return torch.cat(parts), sum(len(part) for part in parts[: dist.get_rank(group)])


def token_covariance(log_probs: Tensor, advantages: Tensor, mask: Tensor, group: ProcessGroup | None) -> Tensor:
    dtype = compute_dtype(log_probs, advantages)
    keep = mask != 0
    own_log_probs, own_advantages = log_probs[keep].to(dtype), advantages[keep].to(dtype)
    wide = accumulator_dtype(log_probs.device)
    mean_log_prob = _all_ranks(own_log_probs, group)[0].to(wide).mean().to(dtype)
    mean_advantage = _all_ranks(own_advantages, group)[0].to(wide).mean().to(dtype)
    cov = torch.zeros(log_probs.shape, dtype=dtype, device=log_probs.device)
    cov[keep] = (own_log_probs - mean_log_prob) * (own_advantages - mean_advantage)
    return cov


def _largest(keys: Tensor, eligible: Tensor, quota: int, group: ProcessGroup | None) -> Tensor:
    """The `quota` eligible tokens of all ranks with the largest keys, the earliest first among equals."""
    own = keys[eligible]
    everything, start = _all_ranks(own, group)
    chosen = torch.zeros(len(everything), dtype=torch.bool, device=keys.device)
    chosen[torch.sort(everything, descending=True, stable=True).indices[:quota]] = True
    selected = torch.zeros_like(eligible)
    selected[eligible] = chosen[start : start + len(own)]
    return selected


def _unmasked_tokens(cov: Tensor, keep: Tensor, group: ProcessGroup | None) -> int:
    """Number of unmasked tokens of all ranks, after checking that their covariances are finite."""
    everything = _all_ranks(cov[keep], group)[0]
    broken = int((~torch.isfinite(everything)).sum())
    if broken:
        raise_not_finite(broken)
    return len(everything)


def select_top(cov: Tensor, mask: Tensor, ratio: tuple[int, int], minimum: int, group: ProcessGroup | None) -> Tensor:
    keep = mask != 0
    quota = host_quota(_unmasked_tokens(cov, keep, group), ratio, minimum)
    return _largest(cov, keep, quota, group)


def select_band(
    cov: Tensor,
    mask: Tensor,
    ratio: tuple[int, int],
    low: float,
    high: float,
    exclude: Tensor | None,
    minimum: int,
    generator: torch.Generator | None,
    group: ProcessGroup | None,
) -> Tensor:
    cov, keep = cov.to(compute_dtype(cov)), mask != 0
    quota = host_quota(_unmasked_tokens(cov, keep, group), ratio, minimum)
    candidates = keep & (cov > low) & (cov < high)
    if exclude is not None:
        candidates &= exclude == 0
    seed = draw_seed(cov.device, generator, group)
    own = torch.arange(int(candidates.sum()), device=cov.device)
    start = _all_ranks(own, group)[1]
    keys = torch.zeros(cov.shape, dtype=torch.int64, device=cov.device)
    keys[candidates] = draw_keys(own + start, seed)
    return _largest(keys, candidates, quota, group)


def select_share(
    score: Tensor, weight: Tensor, mask: Tensor, ratio: tuple[int, int], group: ProcessGroup | None
) -> Tensor:
    keep = mask != 0
    scores, start = _all_ranks(score[keep].to(compute_dtype(score)), group)
    weights, _ = _all_ranks(weight[keep], group)
    broken = int((scores.isnan() | (scores == torch.inf) | ~weights.isfinite() | (weights < 0)).sum())
    if broken:
        raise_not_finite(broken, "score(s) are NaN or inf, or their weight(s) negative, NaN or infinite")
    whole = whole_weights(weights, torch.ones_like(weights, dtype=torch.bool), None).tolist()
    target = -(-sum(whole) * ratio[0] // ratio[1])
    chosen, reached = torch.zeros(len(whole), dtype=torch.bool, device=score.device), 0
    for place in torch.sort(scores, descending=True, stable=True).indices.tolist():
        if reached >= target or scores[place] == -torch.inf:
            break
        chosen[place] = whole[place] > 0
        reached += whole[place]
    selected = torch.zeros_like(keep)
    selected[keep] = chosen[start : start + int(keep.sum())]
    return selected


def _log_softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """log-probabilities over the last axis, with 0 in place of -inf where the probability is 0, and probabilities."""
    log_probs = torch.log_softmax(logits, dim=-1)
    probs = log_probs.exp()
    return torch.where(probs == 0, 0.0, log_probs), probs


def _covariance(log_probs: Tensor, probs: Tensor, x: Tensor) -> Tensor:
    x = torch.where(probs == 0, 0.0, x)
    mean = (probs * x).sum(-1, keepdim=True)
    mean_log_prob = (probs * log_probs).sum(-1, keepdim=True)
    return (probs * (log_probs - mean_log_prob) * (x - mean)).sum(-1)


def _head(hidden: Tensor, weight: Tensor, bias: Tensor | None, softcap: float | None, temperature: float) -> Tensor:
    logits = hidden @ weight.T
    if bias is not None:
        logits = logits + bias
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return logits / temperature


def vocab_covariance(logits: Tensor, x: Tensor, temperature: float) -> Tensor:
    dtype = compute_dtype(logits, x)
    return _covariance(*_log_softmax(logits.to(dtype) / temperature), x.to(dtype))


def linear_vocab_covariance(
    hidden: Tensor,
    weight: Tensor,
    next_hidden: Tensor,
    next_weight: Tensor,
    bias: Tensor | None,
    next_bias: Tensor | None,
    temperature: float,
    softcap: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = compute_dtype(hidden, weight, next_hidden, next_weight, bias, next_bias)

    def head(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _head(hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype), softcap, temperature)

    logits, next_logits = head(hidden, weight, bias), head(next_hidden, next_weight, next_bias)
    log_probs, probs = _log_softmax(logits)
    next_log_probs, next_probs = _log_softmax(next_logits)
    entropy = -(probs * log_probs).sum(-1)
    next_entropy = -(next_probs * next_log_probs).sum(-1)
    return _covariance(log_probs, probs, next_logits - logits), entropy, next_entropy
