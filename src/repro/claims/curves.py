"""Curves of a run, their levels, and runs of several arms beside each other: what measures and figures read of records.

Quantities are `entropy` (nats, the paper's Eq. 5: mean over responses of their tokens' mean), `token_entropy` (nats,
mean over tokens), `length` (tokens of a sampled response), `truncated` (share of responses that the limit of length
cut), `no_spread` (share of groups whose rewards are all equal), `accuracy` (a fraction, mean@k on the validation set at
the run's `eval_temperature`) and `greedy_accuracy` (the same of one greedy response).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from repro.analysis.intervals import stretch_mean
from repro.claims.errors import ClaimError, NoEffect
from repro.runs import Run

ACCURACY, ENTROPY = "accuracy/mean", "entropy/response_mean"
BY_ROLLOUT = {
    "entropy": ENTROPY,
    "token_entropy": "entropy/token_mean",
    "length": "completions/mean_length",
    "truncated": "completions/clipped_ratio",
    "no_spread": "frac_reward_zero_std",
}
BY_EVALUATION = {"accuracy": ACCURACY, "greedy_accuracy": "accuracy/greedy"}
DECODINGS = {"sampled": "accuracy", "greedy": "greedy_accuracy"}
"""Quantities by the decoding of the responses that an accuracy judges."""
# What is known of a rollout stands at its first update only.
ONCE_A_ROLLOUT = ("length", "truncated", "no_spread")


def accuracy_of(decoding: str) -> str:
    """The quantity that judges responses of a decoding in `DECODINGS`.

    Raises:
        ClaimError: a decoding that evaluations do not have.
    """
    if decoding not in DECODINGS:
        raise ClaimError(f"evaluations have no decoding {decoding!r}; choose from {', '.join(DECODINGS)}")
    return DECODINGS[decoding]


def column(run: Run, frame: pd.DataFrame, name: str, *, gaps: bool = False) -> np.ndarray:
    """Column `name` of one of a run's tables as float64.

    Raises:
        ClaimError: the column is missing, or a value is not finite; NaN is let through where there may be `gaps`.
    """
    if name not in frame.columns:
        raise ClaimError(f"{run.name}: no column {name!r} (it has {', '.join(map(str, frame.columns))})")
    values = frame[name].to_numpy(dtype=np.float64)
    bad = np.isinf(values) if gaps else ~np.isfinite(values)
    if bad.any():
        step = frame["step"].to_numpy()[bad][0]
        raise ClaimError(f"{run.name}: {name} is not a finite number at step {step}; redo the run")
    return values


def curve(run: Run, quantity: str, steps: int | None = None) -> pd.DataFrame:
    """Columns `step` (updates made) and `quantity`, of what was measured in the first `steps` steps (all if None).

    Accuracies have a row per evaluation. The others have one per rollout, the mean over its updates, `step` too:
    together they see each of its responses once. Row s of the metrics is measured before update s, at s - 1 made.
    """
    steps = run.config.max_steps if steps is None else steps
    if quantity in BY_EVALUATION:
        rows = run.evaluations[run.evaluations["step"] <= steps]
        values = column(run, rows, BY_EVALUATION[quantity])
        return pd.DataFrame({"step": rows["step"].to_numpy(np.float64), quantity: values})
    rows = run.metrics[run.metrics["step"] <= steps]
    made = rows["step"].to_numpy() - 1
    values = column(run, rows, BY_ROLLOUT[quantity], gaps=quantity in ONCE_A_ROLLOUT)
    table = pd.DataFrame({"step": made.astype(np.float64), quantity: values})
    return table.groupby(made // run.config.updates_per_rollout).mean().reset_index(drop=True)


def curves(runs: Sequence[Run], quantity: str) -> pd.DataFrame:
    """Long table of the seeds' curves: `seed`, `step`, `quantity`."""
    return pd.concat([curve(run, quantity).assign(seed=run.config.seed) for run in runs], ignore_index=True)


def level_at(run: Run, quantity: str, fraction: float, window: float, steps: int | None = None) -> float:
    """`quantity` at a fraction of a run's first `steps` steps (of the whole run if None).

    It is the mean of the piecewise-linear curve over a stretch of `window`, a fraction too, around that point, moved
    inside where it would reach over an end. At 0 it is the first point itself: the base policy is a state of its own,
    and what follows it is already training.

    The curve is cut before it is read: a run that goes on after `steps` and one that ends there are read alike.
    Interpolating towards a rollout or an evaluation behind the cut would let only the longer of two runs that are
    compared know its future.
    """
    steps = run.config.max_steps if steps is None else steps
    points = curve(run, quantity, steps)
    if fraction == 0:
        return float(points[quantity].iloc[0])
    low = steps * min(max(fraction - window / 2, 0), 1 - window)
    return stretch_mean(points["step"], points[quantity], low, low + steps * window)


def end_level(run: Run, quantity: str, window: float, steps: int | None = None) -> float:
    """`quantity` at the end of a run's first `steps` steps: the mean over the last `window`, a fraction of them."""
    return level_at(run, quantity, 1, window, steps)


def step_at(run: Run, quantity: str, level: float, window: float, steps: int | None = None) -> float:
    """The first rollout of a run's first `steps` steps at which `quantity` is at `level` or under, as updates made.

    It is read as `level_at` reads it: as the mean over a stretch of `window`, a fraction, around each point.

    Raises:
        NoEffect: it never gets there.
    """
    steps = run.config.max_steps if steps is None else steps
    for step in curve(run, quantity, steps)["step"]:
        if level_at(run, quantity, step / steps, window, steps) <= level:
            return float(step)
    raise NoEffect(f"{quantity} never falls to {level:.3g}")


def common_steps(runs: Sequence[Run]) -> int:
    """Optimizer steps that all of the runs have."""
    return min(run.config.max_steps for run in runs)


def common_rollout(runs: Sequence[Run]) -> int:
    """Whole rollouts that all of the runs have been trained on."""
    return min(run.config.max_steps // run.config.updates_per_rollout for run in runs)


def paired(*groups: Sequence[Run]) -> list[tuple[Run, ...]]:
    """The runs of several arms side by side, a tuple per seed that all of them have, in the order of the seeds.

    Raises:
        NoEffect: they have no seed in common.
    """
    by_seed = [{run.config.seed: run for run in group} for group in groups]
    seeds = sorted(set.intersection(*map(set, by_seed)))
    if not seeds:
        raise NoEffect("no seed that all arms have")
    return [tuple(runs[seed] for runs in by_seed) for seed in seeds]
