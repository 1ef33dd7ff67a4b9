"""Claim 1: how early the entropy goes and the gain comes, and what is left at the end."""

from collections.abc import Sequence

import numpy as np

from repro.claims.curves import accuracy_of, end_level, level_at
from repro.claims.errors import NoEffect
from repro.claims.reading import load_ledger
from repro.claims.registry import per_seed
from repro.claims.words import spell_seeds
from repro.runs import Run


@per_seed
def entropy_share(run: Run, *, fraction: float, window: float, minimum: float, until: float = 1.0) -> float:
    """Share of the run's whole fall of entropy that is over at `fraction` of training: (H0 - Hf) / (H0 - H1).

    `until` is the fraction of the run that is taken for its whole, as if training had ended there.

    Raises `NoEffect` if the whole fall H0 - H1 is under `minimum` nats.
    """
    steps = round(until * run.config.max_steps)
    start, there, end = (level_at(run, "entropy", point, window, steps) for point in (0, fraction, 1))
    if start - end < minimum:
        raise NoEffect(f"entropy fell by {start - end:.3f} nat, less than {minimum:g}")
    return (start - there) / (start - end)


@per_seed
def gain_share(
    run: Run, *, fraction: float, window: float, minimum: float, until: float = 1.0, decoding: str = "sampled"
) -> float:
    """Share of the run's whole gain of accuracy that is there at `fraction` of training: (Rf - R0) / (R1 - R0).

    `until` is as in `entropy_share`; `decoding` is `sampled` or `greedy`. Raises `NoEffect` if the whole gain R1 - R0
    is under `minimum`.
    """
    steps = round(until * run.config.max_steps)
    quantity = accuracy_of(decoding)
    start, there, end = (level_at(run, quantity, point, window, steps) for point in (0, fraction, 1))
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
    """Entropy at the end of training as a share of the base policy's; above 1 it has grown.

    Raises `NoEffect` if the base policy has no entropy.
    """
    return left_after(run, run.config.max_steps, window)


def left_after(run: Run, steps: int, window: float) -> float:
    """`entropy_left` after so many optimizer steps."""
    start = level_at(run, "entropy", 0, window)
    if start <= 0:
        raise NoEffect(f"the base policy's entropy is {start:.3f} nat")
    return end_level(run, "entropy", window, steps) / start


def describe(runs: Sequence[Run]) -> dict[str, str]:
    """The levels behind the shares, in words with intervals over seeds: entropy in nats, accuracy in per cent."""
    window = load_ledger().argument("collapse", "window")
    values = {
        f"{quantity}_{name}": np.array([level_at(run, quantity, point, window) for run in runs])
        for quantity in ("entropy", "accuracy")
        for name, point in (("start", 0), ("end", 1))
    }
    values["accuracy_gain"] = values["accuracy_end"] - values["accuracy_start"]
    return {name: spell_seeds(one, "nat" if name.startswith("entropy") else "share") for name, one in values.items()}
