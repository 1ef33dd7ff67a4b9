"""Claim 1: how early the entropy goes and the gain comes, and what is left at the end."""

from repro.claims.curves import level_at
from repro.claims.errors import NoEffect
from repro.claims.measures import per_seed
from repro.runs import Run


@per_seed
def entropy_share(run: Run, *, fraction: float, window: float, minimum: float) -> float:
    """Share of the run's whole fall of entropy that is over at `fraction` of training: (H0 - Hf) / (H0 - H1).

    Raises `NoEffect` if the whole fall H0 - H1 is under `minimum` nats.
    """
    start, there, end = (level_at(run, "entropy", point, window) for point in (0, fraction, 1))
    if start - end < minimum:
        raise NoEffect(f"entropy fell by {start - end:.3f} nat, less than {minimum:g}")
    return (start - there) / (start - end)


@per_seed
def gain_share(run: Run, *, fraction: float, window: float, minimum: float) -> float:
    """Share of the run's whole gain of accuracy that is there at `fraction` of training: (Rf - R0) / (R1 - R0).

    Raises `NoEffect` if the whole gain R1 - R0 is under `minimum`.
    """
    start, there, end = (level_at(run, "accuracy", point, window) for point in (0, fraction, 1))
    if end - start < minimum:
        raise NoEffect(f"accuracy gained {end - start:.3f}, less than {minimum:g}")
    return (there - start) / (end - start)


@per_seed
def late_gain(run: Run, *, fraction: float, window: float, minimum: float) -> float:
    """Share of the run's whole gain of accuracy that the last `fraction` of training adds.

    Raises `NoEffect` if the whole gain is under `minimum`.
    """
    return 1 - gain_share(run, fraction=1 - fraction, window=window, minimum=minimum)


@per_seed
def entropy_left(run: Run, *, window: float) -> float:
    """Entropy at the end of training as a share of the base policy's.

    Raises `NoEffect` if the base policy has no entropy.
    """
    start = level_at(run, "entropy", 0, window)
    if start <= 0:
        raise NoEffect(f"the base policy's entropy is {start:.3f} nat")
    return level_at(run, "entropy", 1, window) / start
