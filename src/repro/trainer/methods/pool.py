"""The tokens that one selection chooses from, and the criteria that it can choose by."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from repro.ops import draw_scores, select_band, select_share, select_top

BUDGETS = ("tokens", "gradient")


@dataclass(frozen=True)
class Pool:
    """This rank's part of a pool, all tensors ``[B, T]``, and how much of it is to be selected.

    Args:
        log_probs, old_log_probs: in nats, of the policy that covariances are taken on and of the one that sampled.
        advantages: one per token.
        mask: 0/1; nothing else is ever selected.
        covariance: of log-probability and advantage, Eq. 10, centred over the whole pool.
        fraction, minimum: max(minimum, floor(fraction N)) of the pool's N tokens are selected.
        generator: of a draw.
        group: the ranks that share the pool; None for this one alone.
        entropies: exact, in nats; for the criteria in ``ENTROPY_SELECTORS``, else they may be None.
        coefficients: ratio times advantage, 0 where PPO's clip is active; where there are entropies.
        gradient: norm of each token's policy gradient with respect to its own logits. Where it is given, ``fraction``
            is a share of its sum over the pool, tokens are taken until they carry that, and ``minimum`` is not read.
        excluded: bool, tokens that a method never selects; None for none.
    """

    log_probs: Tensor
    old_log_probs: Tensor
    advantages: Tensor
    mask: Tensor
    covariance: Tensor
    fraction: float
    minimum: int
    generator: torch.Generator
    group: ProcessGroup | None
    entropies: Tensor | None = None
    coefficients: Tensor | None = None
    gradient: Tensor | None = None
    excluded: Tensor | None = None

    def without(self, excluded: Tensor) -> "Pool":
        """The pool, of which these tokens (bool) remain a part and are never selected."""
        return replace(self, excluded=excluded)

    def largest(self, score: Tensor, among: Tensor | None = None) -> Tensor:
        """The tokens of the largest score, ``among`` candidates (bool) only; all of these where they are too few."""
        among = self._candidates(among)
        if self.gradient is not None:
            score = score if among is None else torch.where(among, score, -math.inf)
            return select_share(score, self.gradient, self.mask, self.fraction, group=self.group)
        if among is not None:
            # The fraction is one of the whole pool, so the other tokens stay in it, under all candidates.
            score = torch.where(among, score, torch.finfo(score.dtype).min)
        selected = select_top(score, self.mask, self.fraction, minimum=self.minimum, group=self.group)
        return selected if among is None else selected & among

    def drawn(self, low: float = -math.inf, high: float = math.inf, among: Tensor | None = None) -> Tensor:
        """Tokens drawn uniformly from those with ``low < covariance < high``, ``among`` candidates (bool) only."""
        among = self._candidates(among)
        if self.gradient is not None:
            candidates = (self.mask != 0) & (self.covariance > low) & (self.covariance < high)
            score = draw_scores(
                candidates if among is None else candidates & among, generator=self.generator, group=self.group
            )
            return select_share(score, self.gradient, self.mask, self.fraction, group=self.group)
        return select_band(
            self.covariance,
            self.mask,
            self.fraction,
            low,
            high,
            exclude=None if among is None else ~among,
            minimum=self.minimum,
            generator=self.generator,
            group=self.group,
        )

    def _candidates(self, among: Tensor | None) -> Tensor | None:
        if self.excluded is None:
            return among
        return ~self.excluded if among is None else among & ~self.excluded


def covariance(pool: Pool) -> Tensor:
    """the largest covariance"""
    return pool.largest(pool.covariance)


def random(pool: Pool) -> Tensor:
    """drawn uniformly from the pool"""
    return pool.drawn()


def random_positive(pool: Pool) -> Tensor:
    """drawn uniformly where $A_i > 0$, the control of arXiv:2511.05993"""
    return pool.drawn(among=pool.advantages > 0)


def positive_advantage(pool: Pool) -> Tensor:
    """the largest covariance where $A_i > 0$"""
    return pool.largest(pool.covariance, among=pool.advantages > 0)


def negative_advantage(pool: Pool) -> Tensor:
    """the largest covariance where $A_i < 0$"""
    return pool.largest(pool.covariance, among=pool.advantages < 0)


def rare_failing(pool: Pool) -> Tensor:
    """the lowest log-probability where $A_i < 0$; needs no covariance"""
    return pool.largest(-pool.log_probs.to(pool.covariance.dtype), among=pool.advantages < 0)


def high_entropy(pool: Pool) -> Tensor:
    """the largest entropy of the distribution that the token was sampled from, by which arXiv:2506.01939 selects

    There these tokens alone are trained on; here they are the ones held back.
    """
    return pool.largest(pool.entropies)


def steer(pool: Pool) -> Tensor:
    r"""the largest $\lvert r_i A_i (1 - \pi(y_i)) (\log\pi(y_i) + H_i) \rvert$, STEER's estimated change of entropy

    arXiv:2510.10150 calls it Omega and gives a token the less weight the larger it is. The formula is that of the
    authors' code (github.com/zz-haooo/STEER at b31df71, ``verl/trainer/ppo/core_algos.py``, lines 612 to 635). PPO's
    clip, which the paper has as one of its four factors and the code leaves to the loss, makes it 0 here.
    """
    probability = pool.log_probs.exp()
    return pool.largest((pool.coefficients * (1 - probability) * (pool.log_probs + pool.entropies)).abs())


SELECTORS: dict[str, Callable[[Pool], Tensor]] = {
    selector.__name__: selector
    for selector in (
        covariance,
        random,
        random_positive,
        positive_advantage,
        negative_advantage,
        rare_failing,
        high_entropy,
        steer,
    )
}
"""Which tokens, by name; the first line of each one's documentation stands in the table of the page."""

ENTROPY_SELECTORS = frozenset({"high_entropy", "steer"})
"""Those that need entropies and coefficients."""
