"""Claim 2: performance follows entropy by the law R = -a exp(H) + b.

Along a run, R is validation accuracy (a fraction; its `decoding` is that of responses `sampled` at the run's
`eval_temperature`, or `greedy`) and H `entropy/response_mean` (nats), each rollout's updates averaged and interpolated
to the step of the evaluation; before the first rollout's middle it is the first rollout's. Runs that are compared are
cut to the steps that all of them have, and paired by seed.

Fits need a stretch over which entropy falls by at least `minimum` nats; without one there is `NoEffect`, for a and b
cannot be told apart.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from repro import paper, paths
from repro.analysis import law
from repro.analysis.intervals import LEVEL, Interval, over_seeds
from repro.analysis.law import LawFit, LeftOut, Prediction, Trajectory
from repro.claims.curves import accuracy_of, common_steps, curve, end_level, paired
from repro.claims.errors import ClaimError, NoEffect
from repro.claims.registry import per_seed, pooled
from repro.runs import Run

COEFFICIENTS = ("a", "b", "ceiling")
PAPER_STEPS = 288
"""Gradient steps of the 36 rollouts that the paper fits, at the 8 updates per rollout of Fig. 11."""

# Errors of reading the coefficients off Fig. 1 (right), from the header of its file.
_COEFFICIENT_ERROR = {"a": 0.03, "b": 0.01}  # Of a as a share, of b as a fraction.
_READINGS = 999


def trajectory(run: Run, steps: int | None = None, entropy: str = "entropy", decoding: str = "sampled") -> Trajectory:
    """The evaluations of a run up to `steps` (the whole run if None), with `entropy` or `token_entropy`.

    Raises:
        NoEffect: fewer than three evaluations, which no law can be fitted to.
        ClaimError: a decoding that evaluations do not have.
    """
    quantity = accuracy_of(decoding)
    accuracy = curve(run, quantity, steps)
    if len(accuracy) < 3:
        raise NoEffect(f"{len(accuracy)} evaluations, but a law needs at least 3")
    at, path = accuracy["step"].to_numpy(), curve(run, entropy, steps)
    return Trajectory(at, np.interp(at, path["step"], path[entropy]), accuracy[quantity].to_numpy())


def _check_fall(points: Trajectory, minimum: float) -> None:
    fall = float(np.ptp(points.entropy))
    if fall < minimum:
        raise NoEffect(f"entropy changed by {fall:.3f} nat over the fitted stretch, less than {minimum:g}")


def fit_run(
    run: Run, minimum: float, steps: int | None = None, entropy: str = "entropy", decoding: str = "sampled"
) -> LawFit:
    """The law fitted to the evaluations of a run up to `steps`; a and b are fractions.

    Raises:
        NoEffect: too few evaluations, or entropy that changes by less than `minimum` nats over them.
    """
    return fit_points(trajectory(run, steps, entropy, decoding), minimum)


def fit_points(points: Trajectory, minimum: float) -> LawFit:
    """The law fitted to evaluations.

    Raises:
        NoEffect: entropy that changes by less than `minimum` nats over them.
    """
    _check_fall(points, minimum)
    return law.fit_law(points.entropy, points.reward)


def coefficient_of(fit: LawFit, name: str) -> float:
    """A fit's a, b or ceiling, or a ClaimError naming those."""
    if name not in COEFFICIENTS:
        raise ClaimError(f"the law has no coefficient {name!r}; choose from {', '.join(COEFFICIENTS)}")
    return float(getattr(fit, name))


def half_way(points: Trajectory, consumed: float, least: int) -> float:
    """The step of the first evaluation, from the `least`-th on, at which `consumed` of the fall of entropy is over.

    Raises:
        NoEffect: entropy does not fall, or no evaluation is left after that step.
    """
    start, end = points.entropy[0], points.entropy[-1]
    if not start > end:
        raise NoEffect("entropy does not fall over the run")
    first = int(np.argmax(points.entropy <= start - consumed * (start - end)))
    place = max(first, least - 1)
    if place >= points.step.size - 1:
        raise NoEffect(f"{points.step.size} evaluations leave none to predict")
    return float(points.step[place])


def predict(points: Trajectory, until: float, form: str, minimum: float) -> Prediction:
    """`law.predict_rest`, with `NoEffect` where the early stretch has too few points or changes entropy too little."""
    early = points.step <= until
    if early.sum() < 3 or early.all():
        raise NoEffect(f"{early.sum()} of {early.size} evaluations in the early stretch, of which a law needs 3")
    _check_fall(points.split(until)[0], minimum)
    try:
        return law.predict_rest(points, until, form)
    except law.TooFewPoints as error:
        raise NoEffect(str(error)) from error


def _early(run: Run, fraction: float, minimum: float, form: str = "law", decoding: str = "sampled") -> Prediction:
    return predict(trajectory(run, decoding=decoding), fraction * run.config.max_steps, form, minimum)


def _half(run: Run, consumed: float, points: int, minimum: float, form: str = "law") -> Prediction:
    whole = trajectory(run)
    return predict(whole, half_way(whole, consumed, points), form, minimum)


def _ratio(numerator: float, denominator: float) -> float:
    if denominator <= 0:
        raise NoEffect("the error to compare with is zero")
    return numerator / denominator


# The fit.


@per_seed
def fit_r2(run: Run, *, minimum: float, decoding: str = "sampled") -> float:
    """Share of the variance of accuracy along the run that the law explains."""
    fit = fit_run(run, minimum, decoding=decoding)
    if not np.isfinite(fit.r2):
        raise NoEffect("accuracy does not vary")
    return fit.r2


@per_seed
def fit_pattern(run: Run, *, minimum: float) -> float:
    """Largest absolute mean residual of a third of the evaluations, as a share of the fitted gain, first to last.

    Raises `NoEffect` if the fitted gain is under `minimum` too, as a fraction.
    """
    fit = fit_run(run, minimum)
    first, last = fit.predict(fit.entropy[[0, -1]])
    if last - first < minimum:
        raise NoEffect(f"the fitted gain is {last - first:.3f}, less than {minimum:g}")
    return max(map(abs, fit.diagnostics().thirds)) / float(last - first)


@per_seed
def fit_against(run: Run, *, rival: str, minimum: float) -> float:
    """RMSE of the law over that of a rival form, both fitted to the whole run."""
    fit = fit_run(run, minimum)
    points = trajectory(run)
    fitted = law.FORMS[rival](points)(points.step, points.entropy)
    return _ratio(fit.rmse, float(np.sqrt(np.square(fitted - points.reward).mean())))


@per_seed
def coefficient(run: Run, *, coefficient: str, minimum: float) -> float:
    """a, b or the ceiling b - a of the whole run's fit, as a fraction of accuracy."""
    return coefficient_of(fit_run(run, minimum), coefficient)


@per_seed
def ceiling_gap(run: Run, *, window: float, minimum: float) -> float:
    """The ceiling b - a of the whole run's fit minus the mean accuracy of the last `window` of training."""
    return fit_run(run, minimum).ceiling - end_level(run, "accuracy", window)


@per_seed
def which_entropy(run: Run, *, minimum: float) -> float:
    """RMSE of the law in the token mean of entropy over its RMSE in the mean of response means."""
    return _ratio(fit_run(run, minimum, entropy="token_entropy").rmse, fit_run(run, minimum).rmse)


# Early prediction.


@per_seed
def early_rmse(run: Run, *, fraction: float, minimum: float, decoding: str = "sampled") -> float:
    """RMSE over the rest of the law fitted on the first `fraction` of training."""
    return _early(run, fraction, minimum, decoding=decoding).rmse


@per_seed
def early_final(run: Run, *, fraction: float, minimum: float) -> float:
    """Absolute error at the last evaluation of the law fitted on the first `fraction` of training."""
    return abs(_early(run, fraction, minimum).final_error)


@per_seed
def early_against(run: Run, *, rival: str, fraction: float, minimum: float) -> float:
    """RMSE over the rest of the law over that of a rival, both fitted on the first `fraction` of training."""
    return _ratio(_early(run, fraction, minimum).rmse, _early(run, fraction, minimum, rival).rmse)


@per_seed
def half_rmse(run: Run, *, consumed: float, points: int, minimum: float) -> float:
    """RMSE over the rest of the law fitted until `consumed` of the fall of entropy is over, on at least `points`."""
    return _half(run, consumed, points, minimum).rmse


@per_seed
def half_against(run: Run, *, rival: str, consumed: float, points: int, minimum: float) -> float:
    """RMSE over the rest of the law over that of a rival, both fitted as for `half_rmse`."""
    return _ratio(_half(run, consumed, points, minimum).rmse, _half(run, consumed, points, minimum, rival).rmse)


# Algorithms and training data.


def relative_gap(reference: Run, other: Run, name: str, minimum: float) -> float:
    """A coefficient of one run minus that of a reference run, as a share of the reference's.

    Raises:
        NoEffect: no fit, or a reference coefficient that is not positive.
    """
    steps = common_steps([reference, other])
    ours, base = (coefficient_of(fit_run(run, minimum, steps), name) for run in (other, reference))
    if base <= 0:
        raise NoEffect(f"the reference's {name} is {base:.3f}, not positive")
    return (ours - base) / base


@per_seed
def coefficient_gap(reference: Run, other: Run, *, coefficient: str, minimum: float) -> float:
    """A coefficient's relative difference to the reference's run of the same seed."""
    return relative_gap(reference, other, coefficient, minimum)


@per_seed
def curve_rmse(reference: Run, other: Run, *, minimum: float) -> float:
    """RMSE of the law fitted to the reference for the evaluations of the other run."""
    steps = common_steps([reference, other])
    points = trajectory(other, steps)
    errors = fit_run(reference, minimum, steps).predict(points.entropy) - points.reward
    return float(np.sqrt(np.square(errors).mean()))


@pooled
def coefficient_distance(
    references: Sequence[Run], others: Sequence[Run], *, coefficient: str, minimum: float
) -> Interval:
    """Size of the mean relative difference of a coefficient, paired by seed, with the interval's image.

    The interval is Student's t interval of the signed mean, with its sign taken off: from 0 where it holds 0, else from
    its end nearer to 0.

    Raises:
        NoEffect: no seed in common, or a seed without a fit.
    """
    estimate, low, high, n, level = over_seeds(
        [relative_gap(*pair, coefficient, minimum) for pair in paired(references, others)]
    )
    if low is None:
        return Interval(abs(estimate), None, None, n, level)
    nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    return Interval(abs(estimate), nearest, max(abs(low), abs(high)), n, level)


# Size.


def parameters(base: str) -> int:
    """Non-embedding parameters of a base policy, from its provenance.

    Raises:
        ClaimError: the base policy is not there, or its provenance does not say.
    """
    path = paths.bases_dir() / base / "provenance.json"
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["non_embedding_parameters"])
    except (OSError, ValueError, KeyError) as error:
        raise ClaimError(
            f"{path}: no number of parameters ({error}); `python -m repro bases {base}` makes it"
        ) from error


def size_fits(runs: Sequence[Run], minimum: float) -> tuple[np.ndarray, list[LawFit]]:
    """Parameters [n] and fits of runs of different sizes, cut to the steps that all have."""
    steps = common_steps(runs)
    return np.array([parameters(run.config.base) for run in runs]), [fit_run(run, minimum, steps) for run in runs]


def _sizes(runs: Sequence[Run], name: str, minimum: float) -> tuple[np.ndarray, list[float]]:
    size, fits = size_fits(runs, minimum)
    return size, [coefficient_of(fit, name) for fit in fits]


@per_seed
def size_slope(*runs: Run, coefficient: str, minimum: float) -> float:
    """Change of a coefficient (a fraction) for each factor e in non-embedding parameters."""
    return law.fit_size_trend(*_sizes(runs, coefficient, minimum)).slope


@per_seed
def size_left_out(*runs: Run, coefficient: str, minimum: float) -> float:
    """The largest model's coefficient as the others' log-linear trend predicts it, minus its own, as a share of it.

    Raises `NoEffect` if the largest model's own coefficient is not positive.
    """
    return _relative(law.leave_largest_out(*_sizes(runs, coefficient, minimum)), coefficient)


@per_seed
def size_left_out_ceiling(*runs: Run, minimum: float) -> float:
    """The largest model's ceiling b - a as the others' log-linear trend predicts it, minus its own."""
    left = law.leave_largest_out(*_sizes(runs, "ceiling", minimum))
    return left.predicted.estimate - left.actual


def _relative(left: LeftOut, name: str) -> float:
    if left.actual <= 0:
        raise NoEffect(f"the largest model's {name} is {left.actual:.3f}, not positive")
    return left.predicted.estimate / left.actual - 1


# Entropy under control.


class End(NamedTuple):
    """Mean entropy (nats) and accuracy (fraction) of the last stretch of a run."""

    entropy: float
    accuracy: float


def end(run: Run, steps: int, window: float) -> End:
    """Where a run stands after `steps` steps: means over the last `window`, a share of them."""
    return End(*(end_level(run, name, window, steps) for name in ("entropy", "accuracy")))


@per_seed
def control_gap(baseline: Run, other: Run, *, window: float, minimum: float) -> float:
    """Final accuracy of a run minus what the law fitted to the baseline gives for its final entropy."""
    steps = common_steps([baseline, other])
    entropy, accuracy = end(other, steps, window)
    return accuracy - float(fit_run(baseline, minimum, steps).predict(entropy))


@per_seed
def target_order(lower: Run, higher: Run, *, window: float, minimum: float) -> float:
    """Final accuracy of the run held at the higher entropy minus that of the one held at the lower.

    Raises `NoEffect` if their final entropies are less than `minimum` nats apart.
    """
    steps = common_steps([lower, higher])
    low, high = end(lower, steps, window), end(higher, steps, window)
    if high.entropy - low.entropy < minimum:
        raise NoEffect(f"the final entropies are {high.entropy - low.entropy:.3f} nat apart, less than {minimum:g}")
    return high.accuracy - low.accuracy


# The paper's own curves. Readings are drawn evenly within their error; the interval is of the draws, and reaches to the
# estimate where noise can only add to it.


def paper_trajectories() -> dict[str, Trajectory]:
    """The paper's GRPO runs that can be read off: `fig1` (Fig. 1, left), `7B` and `32B` (Fig. 11). R as a fraction."""
    tables = {"fig1": paper.read_training()} | {size: paper.read_validations(size, "GRPO") for size in ("7B", "32B")}
    return {name: Trajectory(one["step"], one["entropy"], one["accuracy"]) for name, one in tables.items()}


def _readings(points: Trajectory, name: str) -> list[Trajectory]:
    rng = np.random.default_rng(0)
    reward, entropy = (rng.uniform(-error, error, (_READINGS, points.step.size)) for error in paper.READING_ERROR[name])
    return [
        dataclasses.replace(points, entropy=np.maximum(points.entropy + h, 0), reward=points.reward + r)
        for h, r in zip(entropy, reward, strict=True)
    ]


def _read_interval(estimate: float, draws: Sequence[float]) -> Interval:
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate), 0, LEVEL)


def paper_early(name: str, steps: float, value: Callable[[Prediction], float]) -> Interval:
    """A value of the law's prediction of a curve of `paper_trajectories` after `steps`, with the error of reading."""
    points = paper_trajectories()[name]
    draws = [value(law.predict_rest(one, steps)) for one in _readings(points, name)]
    return _read_interval(value(law.predict_rest(points, steps)), draws)


@pooled
def paper_fig1_early(*, steps: float) -> Interval:
    """RMSE over the rest of the law fitted to the paper's Fig. 1 (left) up to `steps`."""
    return paper_early("fig1", steps, lambda prediction: prediction.rmse)


@pooled
def paper_fig11_early(*, size: str, steps: float) -> Interval:
    """RMSE over the rest of the law fitted to GRPO's curves in the paper's Fig. 11 up to `steps`."""
    return paper_early(size, steps, lambda prediction: prediction.rmse)


def paper_leave_out(name: str) -> LeftOut:
    """32B's coefficient as the smaller models of the paper's Fig. 1 (right) predict it, and as plotted."""
    fits = paper.read_fits()
    return law.leave_largest_out(fits["size"], fits[name])


def _paper_left_out(name: str, value: Callable[[LeftOut], float]) -> Interval:
    fits = paper.read_fits()
    rng = np.random.default_rng(0)
    a = fits["a"].to_numpy() * rng.uniform(1 - _COEFFICIENT_ERROR["a"], 1 + _COEFFICIENT_ERROR["a"], (_READINGS, 5))
    b = fits["b"].to_numpy() + rng.uniform(-_COEFFICIENT_ERROR["b"], _COEFFICIENT_ERROR["b"], (_READINGS, 5))
    rows = {"a": a, "b": b, "ceiling": b - a}[name]
    draws = [value(law.leave_largest_out(fits["size"], row)) for row in rows]
    return _read_interval(value(paper_leave_out(name)), draws)


@pooled
def paper_left_out(*, coefficient: str) -> Interval:
    """As `size_left_out`, of the paper's Fig. 1 (right)."""
    return _paper_left_out(coefficient, lambda left: _relative(left, coefficient))


@pooled
def paper_left_out_ceiling() -> Interval:
    """As `size_left_out_ceiling`, of the paper's Fig. 1 (right)."""
    return _paper_left_out("ceiling", lambda left: left.predicted.estimate - left.actual)
