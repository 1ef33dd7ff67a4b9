r"""The two covariance-aware policy losses as pure functions (Cui et al. 2025, arXiv:2505.22617, Section 4.2).

`repro.trainer` puts the same penalty, advantages and choice of tokens into TRL's loss; here they stand whole. With
r_t = pi(y_t) / pi_old(y_t), advantages A_t and means over the unmasked tokens,

    Clip-Cov (Eq. 12):  L = -mean_t r_t A_t,  where tokens drawn from the band low < cov < high count as constant 0;
    KL-Cov   (Eq. 14):  L = -mean_t (r_t A_t - coef * |log pi(y_t) - log pi_old(y_t)| for the selected tokens).

The loss is to be minimised. Where the published code differs from the equations we follow the code:

1. The penalty of KL-Cov is the absolute difference of log-probabilities, which estimates no KL divergence, and its
   gradient is 0 where the two policies agree: with one update per rollout it does nothing.
2. Clip-Cov keeps the PPO clip, of range `1 - epsilon_low` to `1 + epsilon_high`, and draws only among tokens that this
   clip leaves alone. Drawn tokens stay in the denominator of the mean.
3. KL-Cov has no PPO clip; pass `epsilon_low` and `epsilon_high` to the Clip-Cov loss with `fraction=0, minimum=0` for a
   clipped loss without covariance control, or KL-Cov with `coef=0` for the unclipped one.

Where we differ from the published code: the selection is over whatever is passed, all of it and all ranks of `group`,
not over one micro-batch of one rank. To select over more than the tokens of one call, pass the set as `selected`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from repro.ops import select_band, select_top, token_covariance
from repro.ops.common import broadcast_advantages, check_same_shape

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = [
    "clip_cov_advantages",
    "clip_cov_loss",
    "kl_cov_loss",
    "kl_cov_penalty",
    "policy_gradient_coefficients",
    "policy_gradient_terms",
]


def policy_gradient_terms(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    *,
    epsilon_low: float | None = None,
    epsilon_high: float | None = None,
) -> tuple[Tensor, Tensor]:
    """The per-token PPO objective to minimise (Eq. 4), and where its clip is active.

    Args:
        log_probs, old_log_probs: `[B, T]` in nats.
        advantages: `[B, T]`, or one per sequence: `[B]` or `[B, 1]`.
        epsilon_low, epsilon_high: the ratio is clipped to [1 - epsilon_low, 1 + epsilon_high]; None does not clip on
            that side.

    Returns:
        (terms, clipped), `[B, T]` each: max(-r A, -clip(r) A), and bool, true where the clip makes the term larger (its
        gradient is then 0).
    """
    advantages = broadcast_advantages(log_probs, advantages)
    ratio = torch.exp(log_probs - old_log_probs)
    terms = -advantages * ratio
    if epsilon_low is None and epsilon_high is None:
        return terms, torch.zeros_like(terms, dtype=torch.bool)
    lowest = None if epsilon_low is None else 1.0 - epsilon_low
    highest = None if epsilon_high is None else 1.0 + epsilon_high
    clipped_terms = -advantages * torch.clamp(ratio, lowest, highest)
    return torch.maximum(terms, clipped_terms), clipped_terms > terms


def policy_gradient_coefficients(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    *,
    epsilon_low: float,
    epsilon_high: float,
    delta: float | None = None,
) -> Tensor:
    """What the gradient of each token's log-probability is multiplied by in the PPO objective: r A, 0 where clipped.

    Args:
        log_probs, old_log_probs, advantages, epsilon_low, epsilon_high: as for `policy_gradient_terms`; infinity for no
            clip on that side.
        delta: TRL's bound on the ratio where the advantage is negative (two-sided clipping); None for none.

    Returns:
        `[B, T]`.
    """
    terms, clipped = policy_gradient_terms(
        log_probs, old_log_probs, advantages, epsilon_low=epsilon_low, epsilon_high=epsilon_high
    )
    if delta is not None:
        clipped = clipped | (torch.exp(log_probs - old_log_probs) > delta)
    return torch.where(clipped, 0.0, -terms)


def kl_cov_penalty(log_probs: Tensor, old_log_probs: Tensor, selected: Tensor, coef: float | Tensor = 1.0) -> Tensor:
    """KL-Cov's per-token penalty, coef * |log pi - log pi_old| where `selected`, else 0: `[B, T]` in nats.

    `coef` is a number or a 0-d tensor.
    """
    return torch.where(selected != 0, coef * (log_probs - old_log_probs).abs(), 0.0)


def clip_cov_advantages(advantages: Tensor, selected: Tensor) -> Tensor:
    """Clip-Cov's effect: advantages `[B, T]`, `[B]` or `[B, 1]`, with 0 where `selected` (bool `[B, T]`): `[B, T]`.

    A term without advantage is a constant 0 in the loss.
    """
    if advantages.ndim == 1:
        advantages = advantages.unsqueeze(1)
    return torch.where(selected, 0.0, advantages)


def kl_cov_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    fraction: float,
    coef: float = 1.0,
    minimum: int = 1,
    selected: Tensor | None = None,
    group: ProcessGroup | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """KL-Cov's loss (Eq. 14): the unclipped policy gradient, and a penalty on the tokens of largest covariance.

    Args:
        log_probs: log pi(y_t), `[B, T]` in nats; carries the gradient.
        old_log_probs: log pi_old(y_t) of the policy that sampled, `[B, T]`.
        advantages: `[B, T]`, or one per sequence: `[B]` or `[B, 1]`.
        mask: `[B, T]`, bool or 0/1.
        fraction: fraction of the unmasked tokens that is penalised. The paper: 0.002 at 7B, 0.0002 at 32B.
        coef: weight of the penalty. The paper: 1.
        minimum: tokens to penalise at least; the published code: 1.
        selected: `[B, T]`, the set to penalise, chosen elsewhere; `fraction` and `minimum` are then not used.
        group: ranks whose tokens are one batch for the covariance and the selection. The loss and the metrics are means
            over this process's tokens in any case.

    Returns:
        (loss, metrics): 0-d, and 0-d tensors without gradient: `covariance/mean`, `covariance/selected` (mean over the
        selected), `selected/count`, `selected/fraction`, `penalty/mean` and `ratio/mean`.

    Raises:
        ValueError: where shapes or `fraction` do not fit, or a covariance is not finite (see `repro.ops`).
    """
    check_same_shape(log_probs=log_probs, old_log_probs=old_log_probs, mask=mask, selected=selected)
    log_probs, old_log_probs, advantages = _without_masked(log_probs, old_log_probs, advantages, mask)
    cov = token_covariance(log_probs, advantages, mask, group=group)
    if selected is None:
        selected = select_top(cov, mask, fraction, minimum=minimum, group=group)
    selected = (selected != 0) & (mask != 0)
    terms, _ = policy_gradient_terms(log_probs, old_log_probs, advantages)
    penalty = kl_cov_penalty(log_probs, old_log_probs, selected, coef)
    tokens = (mask != 0).sum().clamp(min=1)
    metrics = _metrics(log_probs, old_log_probs, cov, selected, tokens)
    metrics["penalty/mean"] = penalty.detach().sum() / tokens
    return (terms + penalty).sum() / tokens, metrics


def clip_cov_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    fraction: float,
    low: float = 1.0,
    high: float = 5.0,
    epsilon_low: float | None = 1.0,
    epsilon_high: float | None = 1.0,
    minimum: int = 1,
    generator: torch.Generator | None = None,
    selected: Tensor | None = None,
    group: ProcessGroup | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Clip-Cov's loss (Eq. 12): tokens drawn from a band of covariance are taken out of the policy gradient.

    Args:
        log_probs: log pi(y_t), `[B, T]` in nats; carries the gradient.
        old_log_probs: log pi_old(y_t) of the policy that sampled, `[B, T]`.
        advantages: `[B, T]`, or one per sequence: `[B]` or `[B, 1]`.
        mask: `[B, T]`, bool or 0/1.
        fraction: fraction of the unmasked tokens that is drawn. The paper: 0.0002.
        low, high: the band of covariance, both strict. The paper: 1 and 5.
        epsilon_low, epsilon_high: PPO's clip to [1 - epsilon_low, 1 + epsilon_high]; None for none on that side. The
            published runs: 1 and 1.
        minimum: tokens to draw at least; the published code: 1.
        generator: of the draw, on the device of the tokens.
        selected: `[B, T]`, the set to take out, drawn elsewhere; `fraction`, the band, `minimum` and `generator` are
            then not used.
        group: ranks whose tokens are one batch for the covariance and the draw. The loss and the metrics are means over
            this process's tokens in any case.

    Returns:
        (loss, metrics): 0-d, and 0-d tensors without gradient: those of `kl_cov_loss` without the penalty, and
        `clipped/fraction` (tokens whose PPO clip is active).

    Raises:
        ValueError: where shapes, `fraction` or the band do not fit, or a covariance is not finite (see `repro.ops`).
    """
    check_same_shape(log_probs=log_probs, old_log_probs=old_log_probs, mask=mask, selected=selected)
    log_probs, old_log_probs, advantages = _without_masked(log_probs, old_log_probs, advantages, mask)
    cov = token_covariance(log_probs, advantages, mask, group=group)
    epsilons = {"epsilon_low": epsilon_low, "epsilon_high": epsilon_high}
    _, clipped = policy_gradient_terms(log_probs, old_log_probs, advantages, **epsilons)
    if selected is None:
        selected = select_band(
            cov, mask, fraction, low, high, exclude=clipped, minimum=minimum, generator=generator, group=group
        )
    selected = (selected != 0) & (mask != 0)
    kept = clip_cov_advantages(advantages, selected)
    terms, _ = policy_gradient_terms(log_probs, old_log_probs, kept, **epsilons)
    tokens = (mask != 0).sum().clamp(min=1)
    metrics = _metrics(log_probs, old_log_probs, cov, selected, tokens)
    metrics["clipped/fraction"] = clipped.sum() / tokens
    return terms.sum() / tokens, metrics


def _without_masked(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The three inputs, 0 where masked: what stands there may be NaN and would reach the gradient as 0 * NaN.

    Every term of a loss is then 0 at masked places too, and means need only the number of tokens.
    """
    keep = mask != 0
    advantages = broadcast_advantages(log_probs, advantages)
    return torch.where(keep, log_probs, 0.0), torch.where(keep, old_log_probs, 0.0), torch.where(keep, advantages, 0.0)


@torch.no_grad()
def _metrics(
    log_probs: Tensor, old_log_probs: Tensor, cov: Tensor, selected: Tensor, tokens: Tensor
) -> dict[str, Tensor]:
    count = selected.sum()
    return {
        "covariance/mean": cov.sum() / tokens,
        "covariance/selected": (cov * selected).sum() / count.clamp(min=1),
        "selected/count": count,
        "selected/fraction": count / tokens,
        # exp(0) - 1 is 0 at masked places.
        "ratio/mean": 1.0 + torch.expm1(log_probs - old_log_probs).sum() / tokens,
    }
