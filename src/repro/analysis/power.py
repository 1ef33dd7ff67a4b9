"""How many seeds a paired comparison needs, by the noncentral t distribution.

Of n paired differences of mean `effect` and standard deviation `spread`, Student's t has n - 1 degrees of freedom and
the noncentrality sqrt(n) effect / spread (Cohen 1988, Statistical Power Analysis for the Behavioral Sciences, 2nd ed.,
section 2.3.4). The test is two-sided, as the intervals of the study are: at `alpha` = 0.05 it rejects where the 95 %
interval leaves out zero. Effect and spread have one unit, whichever.
"""

import math

import scipy

from repro.analysis.intervals import LEVEL

ALPHA = 1 - LEVEL
"""Size of a test that agrees with the study's intervals."""
POWER = 0.8
"""Chance of seeing an effect that is there, as commonly asked for."""
MOST_PAIRS = 100_000


def paired_power(effect: float, spread: float, n: int, *, alpha: float = ALPHA) -> float:
    """Chance that a paired t test of n pairs rejects "no difference", on either side.

    Args:
        effect: true mean of the differences; its sign does not matter.
        spread: standard deviation of the differences, over 0.
        n: pairs, such as seeds, 2 or more.
        alpha: size of the test.

    Raises:
        ValueError: for a value out of range.
    """
    _check(spread, alpha)
    if not math.isfinite(effect):
        raise ValueError(f"effect must be a finite number, got {effect}")
    if n < 2:
        raise ValueError(f"a t test needs at least 2 pairs, got n={n}")
    if effect == 0:
        return alpha  # SciPy 1.17 has ncf.sf(x, 1, n - 1, 0) negative
    # The square of t has a noncentral F distribution, which holds both sides.
    return float(scipy.stats.ncf.sf(scipy.stats.f.isf(alpha, 1, n - 1), 1, n - 1, n * (effect / spread) ** 2))


def pairs_needed(effect: float, spread: float, *, alpha: float = ALPHA, power: float = POWER) -> int:
    """The least number of pairs, 2 or more, with which `paired_power` is at least `power`.

    Raises:
        ValueError: for a value out of range, an effect of 0, and where it takes more than `MOST_PAIRS` pairs.
    """
    _check(spread, alpha, power)
    if effect == 0:
        raise ValueError("effect is 0: no number of pairs sees it; pass the smallest difference that would matter")
    low, high = 1, 2  # the power grows with n: too few, and not known
    while paired_power(effect, spread, high, alpha=alpha) < power:
        low, high = high, 2 * high
        if low >= MOST_PAIRS:
            raise ValueError(f"an effect of {effect} at a spread of {spread} takes more than {MOST_PAIRS} pairs")
    while high - low > 1:
        middle = (low + high) // 2
        enough = paired_power(effect, spread, middle, alpha=alpha) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def detectable_effect(n: int, spread: float, *, alpha: float = ALPHA, power: float = POWER) -> float:
    """The effect that n pairs see with probability `power`, in the unit of `spread`.

    Raises:
        ValueError: for a value out of range.
    """
    _check(spread, alpha, power)
    largest = 1.0
    while paired_power(largest, 1.0, n, alpha=alpha) < power:
        largest *= 2
    return spread * float(
        scipy.optimize.brentq(lambda size: paired_power(size, 1.0, n, alpha=alpha) - power, 0.0, largest)
    )


def _check(spread: float, alpha: float, power: float | None = None) -> None:
    if not 0 < spread < math.inf:
        raise ValueError(f"spread must be a standard deviation over 0, got {spread}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be strictly between 0 and 1 (0.05 for 5 %), got {alpha}")
    if power is not None and not alpha < power < 1:
        raise ValueError(f"power must be strictly between alpha={alpha:g} and 1 (0.8 for 80 %), got {power}")
