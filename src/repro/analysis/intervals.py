"""Intervals over seeds and averages over a stretch of a run.

Everything here is a pure function of its arguments; whatever is random takes an explicit `numpy.random.Generator`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

LEVEL = 0.95
"""Coverage of every interval of the study."""


class Interval(NamedTuple):
    """A point estimate with its two-sided interval, in the unit of the values it was computed from.

    Both ends are None where there are too few values for an interval.
    """

    estimate: float
    low: float | None
    high: float | None
    n: int
    level: float

    def map(self, function: Callable[[float], float]) -> "Interval":
        """The interval on another scale, by an increasing function of its estimate and ends."""
        ends = (None if one is None else float(function(one)) for one in self[:3])
        return Interval(*ends, self.n, self.level)


def exact(value: float, n: int = 0) -> Interval:
    """A number without chance: an interval of no width."""
    return Interval(float(value), float(value), float(value), n, LEVEL)


def centred(estimate: float, half: float | None, n: int) -> Interval:
    """`estimate` +- `half`, or without ends where `half` is None."""
    ends = (None, None) if half is None else (float(estimate - half), float(estimate + half))
    return Interval(float(estimate), *ends, n, LEVEL)


def _sample(values: ArrayLike, minimum: int) -> np.ndarray:
    """Return `values` as float64 [n], or raise a ValueError saying what is wrong with them."""
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size < minimum:
        raise ValueError(f"need a flat sequence of at least {minimum} values, got shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError(f"values must be finite, got {sample.tolist()}")
    return sample


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must be strictly between 0 and 1 (0.95 for 95 %), got {level}")


def t_interval(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Mean of independent values with Student's t interval: mean +- t_{n-1} s / sqrt(n), s with n - 1.

    Args:
        values: [n], one value per seed, n >= 2.
        level: coverage of the two-sided interval.

    Raises:
        ValueError: fewer than two values, a value that is not finite, or a level outside (0, 1).
    """
    sample = _sample(values, 2)
    _check_level(level)
    mean = float(sample.mean())
    half = float(scipy.stats.t.ppf((1 + level) / 2, sample.size - 1) * sample.std(ddof=1) / np.sqrt(sample.size))
    return Interval(mean, mean - half, mean + half, sample.size, level)


def over_seeds(values: ArrayLike) -> Interval:
    """`t_interval` of one value per seed, and the value alone where there is one.

    Raises:
        ValueError: no value, or one that is not finite.
    """
    sample = _sample(values, 1)
    return t_interval(sample) if sample.size > 1 else Interval(float(sample[0]), None, None, 1, LEVEL)


def welch_interval(first: ArrayLike, second: ArrayLike, level: float = LEVEL) -> Interval:
    """Mean of `first` minus that of `second`, independent samples, with Welch's t interval; `n` counts both.

    Args:
        first, second: [n], n >= 2, one value per seed.
        level: coverage.

    Raises:
        ValueError: as `t_interval`, for either sample.
    """
    groups = [_sample(values, 2) for values in (first, second)]
    _check_level(level)
    gap = float(groups[0].mean() - groups[1].mean())
    parts = [float(group.var(ddof=1)) / group.size for group in groups]
    half = 0.0
    if sum(parts) > 0:
        freedom = sum(parts) ** 2 / sum(part**2 / (group.size - 1) for part, group in zip(parts, groups, strict=True))
        half = float(scipy.stats.t.ppf((1 + level) / 2, freedom) * np.sqrt(sum(parts)))
    return Interval(gap, gap - half, gap + half, sum(group.size for group in groups), level)


def implied_difference(first: Interval, second: Interval, level: float = LEVEL) -> Interval:
    """`first` minus `second` with the interval that their own, which need not be symmetric, imply if independent.

    The distance from each estimate to the end of its interval that faces the other stands for its error, and the errors
    add in squares (Zou and Donner 2008, doi:10.1002/sim.3095). For another `level` than the intervals' they are
    stretched like Student's t of n - 1 degrees of freedom, n the smaller; with n < 2 like a normal's.

    Args:
        first, second: intervals with both ends.
        level: coverage.
    """
    _check_level(level)
    freedom = min(first.n, second.n) - 1
    law = scipy.stats.t(freedom) if freedom > 0 else scipy.stats.norm()
    stretch = float(law.ppf((1 + level) / 2) / law.ppf((1 + first.level) / 2))
    gap = first.estimate - second.estimate
    below = float(np.hypot(first.estimate - first.low, second.high - second.estimate))
    above = float(np.hypot(first.high - first.estimate, second.estimate - second.low))
    return Interval(gap, gap - stretch * below, gap + stretch * above, min(first.n, second.n), level)


def stretch_mean(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, low: float, high: float) -> float:
    """Mean over [low, high] of the piecewise-linear curve through the points (x, y).

    It is the integral of the interpolant divided by the length of the stretch (its value where low = high), so it does
    not jump when a point enters or leaves the stretch, and uneven spacing does not weight it. Outside the points the
    curve keeps its first or last value.

    Args:
        x: [n] strictly increasing positions, n >= 1.
        y: [n] values.
        low, high: the stretch, in the unit of x, low <= high.

    Raises:
        ValueError: shapes that differ, positions that do not increase, a value that is not finite, or low > high.
    """
    position, value = _sample(x, 1), _sample(y, 1)
    if position.shape != value.shape:
        raise ValueError(f"x and y must have the same length, got {position.size} and {value.size}")
    if (np.diff(position) <= 0).any():
        raise ValueError("x must increase strictly")
    if low > high:
        raise ValueError(f"the stretch must run upwards, got [{low}, {high}]")
    if low == high:
        return float(np.interp(low, position, value))
    inside = position[(position > low) & (position < high)]
    grid = np.concatenate(([low], inside, [high]))
    return float(np.trapezoid(np.interp(grid, position, value), grid) / (high - low))
