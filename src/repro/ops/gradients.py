"""How much gradient a token carries, without a backward pass."""

from __future__ import annotations

import torch
from torch import Tensor

from repro.ops.common import check_same_shape, compute_dtype


@torch.no_grad()
def token_gradient_norm(log_probs: Tensor, log_sum_sq_probs: Tensor, coefficients: Tensor) -> Tensor:
    r"""Norm of each token's policy gradient with respect to its own logits.

    Of c log pi(y) the gradient is c (onehot(y) - pi), whose norm is

        |c| sqrt(1 - 2 pi(y) + sum_v pi(v)^2) = |c| sqrt((1 - pi(y))^2 + sum_{v != y} pi(v)^2).

    The right-hand form is computed: the left one loses all digits where pi(y) is near 1. There the second sum drowns in
    the rounding of log pi(y), and is kept between 0 and (1 - pi(y))^2, where it must be; so the norm is at most a
    factor of sqrt(2) off, and to 1e-3 right where pi(y) < 0.99.

    Args:
        log_probs: log pi(y) in nats, `[...]`, any float dtype.
        log_sum_sq_probs: log sum_v pi(v)^2 over the vocabulary, `[...]`, which TRL's fused head has.
        coefficients: `[...]`, c: for a policy gradient the advantage times the ratio, 0 where the ratio is clipped.

    Returns:
        `[...]`, float32 (float64 where an input is). Where logits are divided by a temperature, with respect to what
        comes of that. NaN propagates.

    Raises:
        ValueError: where shapes differ.
    """
    check_same_shape(log_probs=log_probs, log_sum_sq_probs=log_sum_sq_probs, coefficients=coefficients)
    dtype = compute_dtype(log_probs, log_sum_sq_probs, coefficients)
    log_probs, log_sum_sq_probs = log_probs.to(dtype), log_sum_sq_probs.to(dtype)
    missing = -torch.expm1(log_probs).clamp(max=0.0)
    others = (2 * log_probs).exp() * torch.expm1(log_sum_sq_probs - 2 * log_probs)
    others = torch.minimum(others.clamp(min=0.0), missing.square())
    return coefficients.to(dtype).abs() * (missing.square() + others).sqrt()
