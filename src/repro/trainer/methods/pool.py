"""The tokens that one selection chooses from, and the criteria that it can choose by."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from repro.ops import select_band, select_top


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

    def largest(self, score: Tensor, among: Tensor | None = None) -> Tensor:
        """The tokens of the largest score, ``among`` candidates (bool) only; all of these where there are fewer."""
        if among is not None:
            # The fraction is one of the whole pool, so the other tokens stay in it, under all candidates.
            score = torch.where(among, score, torch.finfo(score.dtype).min)
        selected = select_top(score, self.mask, self.fraction, minimum=self.minimum, group=self.group)
        return selected if among is None else selected & among

    def drawn(self, low: float = -math.inf, high: float = math.inf, exclude: Tensor | None = None) -> Tensor:
        """Tokens drawn uniformly from those with ``low < covariance < high`` that are not excluded."""
        return select_band(
            self.covariance,
            self.mask,
            self.fraction,
            low,
            high,
            exclude=exclude,
            minimum=self.minimum,
            generator=self.generator,
            group=self.group,
        )


def covariance(pool: Pool) -> Tensor:
    """the largest covariance: the method"""
    return pool.largest(pool.covariance)


def random(pool: Pool) -> Tensor:
    """drawn uniformly from the pool"""
    return pool.drawn()


def positive_advantage(pool: Pool) -> Tensor:
    """the largest covariance where $A_i > 0$"""
    return pool.largest(pool.covariance, among=pool.advantages > 0)


def negative_advantage(pool: Pool) -> Tensor:
    """the largest covariance where $A_i < 0$"""
    return pool.largest(pool.covariance, among=pool.advantages < 0)


def rare_failing(pool: Pool) -> Tensor:
    """the lowest log-probability where $A_i < 0$; needs no covariance"""
    return pool.largest(-pool.log_probs.to(pool.covariance.dtype), among=pool.advantages < 0)


SELECTORS: dict[str, Callable[[Pool], Tensor]] = {
    selector.__name__: selector
    for selector in (covariance, random, positive_advantage, negative_advantage, rare_failing)
}
"""Which tokens, by name; the first line of each one's documentation stands in the table of the page."""
