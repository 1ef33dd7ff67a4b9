"""Curves of one run and their levels: what measures and figures read of a record."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from repro.analysis.intervals import stretch_mean
from repro.claims.errors import ClaimError
from repro.runs import Run

ENTROPY = "entropy/response_mean"
ACCURACY = "accuracy/mean"


def _column(run: Run, frame: pd.DataFrame, name: str) -> np.ndarray:
    """Column `name` of a run's table as float64, or a ClaimError if it is missing or not all numbers."""
    if name not in frame.columns:
        raise ClaimError(f"{run.name}: no column {name!r} (it has {', '.join(map(str, frame.columns))})")
    values = frame[name].to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        step = frame["step"].to_numpy()[~np.isfinite(values)][0]
        raise ClaimError(f"{run.name}: {name} is not a finite number at step {step}; redo the run")
    return values


def entropy_curve(run: Run) -> pd.DataFrame:
    """Entropy in nats by rollout: `step` (updates made, averaged over the rollout's updates) and `entropy`.

    `entropy/response_mean` (the paper's Eq. 5) is averaged over the updates made with one rollout, which together see
    each of its responses once. Row s of the metrics is measured before update s, hence at s - 1 updates made.
    """
    made = run.metrics["step"].to_numpy() - 1
    table = pd.DataFrame(
        {
            "rollout": made // run.config.updates_per_rollout,
            "step": made.astype(np.float64),
            "entropy": _column(run, run.metrics, ENTROPY),
        }
    )
    return table.groupby("rollout").mean().reset_index(drop=True)


def accuracy_curve(run: Run) -> pd.DataFrame:
    """Validation accuracy as a fraction, by evaluation: `step` (updates made) and `accuracy` (mean@k)."""
    return pd.DataFrame(
        {
            "step": run.evaluations["step"].to_numpy(dtype=np.float64),
            "accuracy": _column(run, run.evaluations, ACCURACY),
        }
    )


def level_at_step(run: Run, quantity: str, step: float, window_steps: float) -> float:
    """`quantity` ('entropy' in nats or 'accuracy' as a fraction) of a run after `step` updates.

    It is the mean of the piecewise-linear curve over a stretch of `window_steps` around that point, moved inside the
    run where it would reach over an end. At 0 it is the first point itself: the base policy is a state of its own, and
    what follows it is already training.
    """
    curve = {"entropy": entropy_curve, "accuracy": accuracy_curve}[quantity](run)
    if step == 0:
        return float(curve[quantity].iloc[0])
    low = min(max(step - window_steps / 2, 0), run.config.max_steps - window_steps)
    return stretch_mean(curve["step"], curve[quantity], low, low + window_steps)


def level_at(run: Run, quantity: str, fraction: float, window: float) -> float:
    """`level_at_step` with the point and the window as fractions of the run's training."""
    return level_at_step(run, quantity, fraction * run.config.max_steps, window * run.config.max_steps)


def common_steps(runs: Sequence[Run]) -> int:
    """Optimizer steps that all of the runs have."""
    return min(run.config.max_steps for run in runs)


def by_rollout(run: Run, column: str) -> pd.Series:
    """A column of the metrics averaged over each rollout's updates."""
    if column not in run.metrics.columns:
        raise ClaimError(f"{run.name}: no column {column!r} (it has {', '.join(map(str, run.metrics.columns))})")
    rollout = (run.metrics["step"] - 1) // run.config.updates_per_rollout
    return run.metrics[column].groupby(rollout).mean()
