"""Claim 2 against null models: how much of the law is there with the wrong entropy, or with none.

Two curves that level off together are related whatever links them. So the same fit is made with something in place of a
run's own exp(H) that cannot be the cause of its performance:

- `another seed`: the entropy of the next seed's run of the same arm, at the same steps (the last seed takes the
  first's);
- `half pace`, `double pace`: the run's own entropy read at half, and at twice, the step of the evaluation; double pace
  has the first half of training only, and is compared with the law there;
- `exponential in steps`: exp(-step / tau), with a tau that is fitted too, and `line in steps`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from repro.analysis import law
from repro.analysis.intervals import Interval, over_seeds
from repro.analysis.law import Trajectory
from repro.claims.curves import common_steps, curve
from repro.claims.errors import ClaimError, NoEffect
from repro.claims.measures.law import coefficient_of, fit_points, fit_run, relative_gap, trajectory
from repro.claims.registry import per_seed, pooled
from repro.runs import Run

PACES = {"half pace": 0.5, "double pace": 2.0}
NULLS = ("another seed", *PACES, *law.IN_STEPS)


class Fits(NamedTuple):
    """Quality of the law with a run's own entropy and of a null model, on the same evaluations.

    `rmse` are in fractions of accuracy; `r2` is the null model's.
    """

    own_rmse: float
    rmse: float
    r2: float

    @property
    def ratio(self) -> float:
        """The law's error over the null model's; `NoEffect` where the null model is exact."""
        if not self.rmse:
            raise NoEffect("the error to compare with is zero")
        return self.own_rmse / self.rmse


def with_entropy_of(points: Trajectory, run: Run, pace: float = 1) -> Trajectory:
    """Evaluations with the entropy of a run, read at `pace` times their steps, which must lie within the run.

    Raises:
        NoEffect: fewer than three of them do, which no law can be fitted to.
    """
    there = points.step * pace <= run.config.max_steps
    if there.sum() < 3:
        raise NoEffect(f"{there.sum()} evaluations, but a law needs at least 3")
    path = curve(run, "entropy")
    entropy = np.interp(points.step[there] * pace, path["step"], path["entropy"])
    return Trajectory(points.step[there], entropy, points.reward[there])


def null_fits(runs: Sequence[Run], model: str, minimum: float, decoding: str) -> list[Fits]:
    """Of every run of an arm, in the order of the seeds.

    Raises:
        NoEffect: no other run to take the entropy of, too few evaluations, entropy that changes by less than `minimum`
            nats, or accuracy that does not vary.
        ClaimError: an unknown null model or decoding.
    """
    if model not in NULLS:
        raise ClaimError(f"there is no null model {model!r}; choose from {', '.join(NULLS)}")
    if model == "another seed" and len(runs) < 2:
        raise NoEffect("no other seed to take the entropy of")
    return [_fits(run, runs[(place + 1) % len(runs)], model, minimum, decoding) for place, run in enumerate(runs)]


def _fits(run: Run, other: Run, model: str, minimum: float, decoding: str) -> Fits:
    points = trajectory(run, decoding=decoding)
    if model in law.IN_STEPS:
        fitted = _in_steps(model, points)
    else:
        wrong = with_entropy_of(points, run, PACES[model]) if model in PACES else with_entropy_of(points, other)
        points = _first(points, wrong.step.size)
        fitted = fit_points(wrong, minimum).predict(wrong.entropy)
    errors, spread = fitted - points.reward, points.reward - points.reward.mean()
    if not spread.any():
        raise NoEffect("accuracy does not vary")
    share = 1 - float(errors @ errors) / float(spread @ spread)
    return Fits(fit_points(points, minimum).rmse, float(np.sqrt(np.square(errors).mean())), share)


def _in_steps(model: str, points: Trajectory) -> np.ndarray:
    try:
        return law.IN_STEPS[model](points)(points.step, points.entropy)
    except law.TooFewPoints as error:
        raise NoEffect(str(error)) from error


def _first(points: Trajectory, n: int) -> Trajectory:
    return Trajectory(points.step[:n], points.entropy[:n], points.reward[:n])


@pooled
def null_r2(runs: Sequence[Run], *, model: str, minimum: float, decoding: str = "sampled") -> Interval:
    """Share of the variance of accuracy along a run that a null model explains; Student's t over the seeds."""
    return over_seeds([one.r2 for one in null_fits(runs, model, minimum, decoding)])


@pooled
def null_against(runs: Sequence[Run], *, model: str, minimum: float, decoding: str = "sampled") -> Interval:
    """RMSE of the law with a run's own entropy over the RMSE of a null model; Student's t over the seeds."""
    return over_seeds([one.ratio for one in null_fits(runs, model, minimum, decoding)])


@per_seed
def pace_gap(run: Run, *, pace: str, coefficient: str, minimum: float) -> float:
    """How far a coefficient moves, as a share of itself, where the run's entropy is read at another pace."""
    points = trajectory(run)
    wrong = with_entropy_of(points, run, PACES[pace])
    own = _first(points, wrong.step.size)
    value, base = (coefficient_of(fit_points(one, minimum), coefficient) for one in (wrong, own))
    if base <= 0:
        raise NoEffect(f"its {coefficient} is {base:.3f}, not positive")
    return abs(value / base - 1)


@per_seed
def swap_cost(reference: Run, *others: Run, coefficient: str, minimum: float) -> float:
    """How much further from a reference's coefficient those of other arms are with the reference's entropy.

    The mean size of their relative distances to the reference's coefficient, fitted to their own performance against
    the reference's entropy, minus the same against their own entropy.
    """
    return float(np.mean([_swapped(reference, other, coefficient, minimum) for other in others]))


def _swapped(reference: Run, other: Run, coefficient: str, minimum: float) -> float:
    steps = common_steps([reference, other])
    base = coefficient_of(fit_run(reference, minimum, steps), coefficient)
    swapped = coefficient_of(fit_points(with_entropy_of(trajectory(other, steps), reference), minimum), coefficient)
    return abs(swapped / base - 1) - abs(relative_gap(reference, other, coefficient, minimum))
