"""Holm's correction for several tests (Holm 1979, Scandinavian Journal of Statistics 6, 65-70)."""

import numpy as np
from numpy.typing import ArrayLike


def holm(p_values: ArrayLike) -> np.ndarray:
    """p-values adjusted so that tests under a bound have together at most that chance of one false rejection.

    Of m p-values the i-th smallest is multiplied by m - i + 1, made no smaller than the ones before it, and cut at 1.
    That holds for tests that depend on each other in any way, and rejects whatever Bonferroni's correction does.

    Args:
        p_values: [m], one per test, m >= 1; those of one family, all of them, whatever came out.

    Returns:
        [m], in the order given. Reject where it is at most the bound, such as 0.05.

    Raises:
        ValueError: for no p-value, or one outside [0, 1].
    """
    given = np.asarray(p_values, dtype=np.float64)
    if given.ndim != 1 or given.size == 0:
        raise ValueError(f"need a flat sequence of p-values, at least one, got shape {given.shape}")
    if not ((given >= 0) & (given <= 1)).all():
        raise ValueError(f"p-values must be between 0 and 1, got {given.tolist()}")
    order = np.argsort(given, kind="stable")
    stepped = np.maximum.accumulate(given[order] * np.arange(given.size, 0, -1))
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
