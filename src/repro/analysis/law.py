"""The law R = b - a e^H between mean policy entropy H and performance R (arXiv:2505.22617, Eq. 6), and its rivals.

Entropy is in nats per token. R may be on any scale, a fraction, percent or points: every fit here is linear in R, so
a, b, the ceiling b - a and every error come out in the unit that R went in with, and nothing is converted on the way.
`LawFit.scaled` is the one way to change the unit. Compare only fits of the same unit.

Where we differ from the paper:

1. Coefficients have intervals: along one run by a moving-block bootstrap, and over seeds by Student's t.
2. Early prediction is scored beside rivals that see the same points, down to "the last value seen".
3. The law, and its rivals in H, are told the entropy of the points that they predict, as the paper's Fig. 5 does. That
   is no forecast in time: who stands at the end of the early stretch does not know that entropy yet. The sigmoid in
   steps and the last value are not told.

Everything is a pure function of its arguments; whatever is random takes an explicit `numpy.random.Generator`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from repro.analysis.intervals import Interval, t_interval, welch_interval

# No vocabulary has e^20 tokens, so no mean per token reaches 20 nats.
_LARGEST_ENTROPY = 20.0


class Coefficients(NamedTuple):
    """The law's coefficients and its ceiling b - a, each with its interval, in the unit of R."""

    a: Interval
    b: Interval
    ceiling: Interval


class Diagnostics(NamedTuple):
    """What the residuals R - (b - a e^H) of a fit look like along the run.

    `lag1` is their autocorrelation at lag 1 and `durbin_watson` the statistic of that name (2 without autocorrelation,
    towards 0 with a positive one); both are NaN where the fit is exact. `thirds` are the mean residuals of the first,
    middle and last third of the points and `largest` the residual of largest size, in the unit of R. Thirds of
    different sign that are large beside the rmse mean that the form is wrong, however high r2 is.
    """

    lag1: float
    durbin_watson: float
    thirds: tuple[float, float, float]
    largest: float


def _flat(name: str, values: ArrayLike, minimum: int) -> np.ndarray:
    """`values` as a fresh read-only float64 [n], or a ValueError that names them."""
    array = np.array(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must be a flat sequence with one value per evaluation, got shape {array.shape}")
    if array.size < minimum:
        raise ValueError(f"{name} has {array.size} points, but at least {minimum} are needed; evaluate more often")
    if not np.isfinite(array).all():
        place = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"{name}[{place}] is {array[place]}; leave out the points that were not measured")
    array.flags.writeable = False
    return array


def _entropy(values: ArrayLike, minimum: int) -> np.ndarray:
    array = _flat("entropy", values, minimum)
    for place in np.flatnonzero((array < 0) | (array > _LARGEST_ENTROPY))[:1]:
        raise ValueError(
            f"entropy[{place}] is {array[place]}; it must be a mean per token in nats, from 0 to {_LARGEST_ENTROPY:g} "
            "(divide sums over a response by its length, multiply bits by ln 2)"
        )
    return array


def _same_length(**arrays: np.ndarray) -> None:
    if len({array.size for array in arrays.values()}) > 1:
        sizes = " and ".join(f"{array.size} of {name}" for name, array in arrays.items())
        raise ValueError(f"got {sizes}; pass one value of each per evaluation")


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Intercept and slope of the least-squares line; x, y: [n], x not constant."""
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    return float(y.mean() - slope * x.mean()), slope


def _r2(y: np.ndarray, residuals: np.ndarray) -> float:
    if np.ptp(y) == 0:
        return float("nan")
    return 1 - float(np.square(residuals).sum()) / float(np.square(y - y.mean()).sum())


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean()))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must be strictly between 0 and 1 (0.95 for 95 %), got {level}")


@dataclass(frozen=True, eq=False)
class LawFit:
    """A fit of R = b - a e^H to one run; made by `fit_law`.

    `a`, `b`, `rmse` (root mean square residual, no correction for the two coefficients) are in the unit of R; `r2` is
    NaN where R does not vary. `entropy` and `reward` are the fitted points [n], in the order of training.
    """

    a: float
    b: float
    r2: float
    rmse: float
    entropy: np.ndarray
    reward: np.ndarray

    @property
    def ceiling(self) -> float:
        """Performance at zero entropy, b - a, in the unit of R."""
        return self.b - self.a

    @property
    def residuals(self) -> np.ndarray:
        """Measured minus fitted performance, [n], in the unit of R."""
        return self.reward - self.predict(self.entropy)

    def predict(self, entropy: ArrayLike) -> np.ndarray:
        """Performance that the law gives for entropies (nats) of any shape, in the unit of R."""
        return self.b - self.a * np.exp(np.asarray(entropy, dtype=np.float64))

    def scaled(self, factor: float) -> "LawFit":
        """The same fit with R in another unit: `fit.scaled(100)` takes fractions to percent.

        Raises:
            ValueError: a factor that is not positive and finite.
        """
        if not (np.isfinite(factor) and factor > 0):
            raise ValueError(f"factor must be positive and finite (100 takes fractions to percent), got {factor}")
        return fit_law(self.entropy, self.reward * factor)

    def diagnostics(self) -> Diagnostics:
        """What the residuals look like along the run."""
        residuals = self.residuals
        first, middle, last = (float(part.mean()) for part in np.array_split(residuals, 3))
        squares = float(np.square(residuals).sum())
        exact = np.sqrt(squares) <= 1e-12 * np.linalg.norm(self.reward)
        lag1 = float("nan") if exact else float(residuals[1:] @ residuals[:-1]) / squares
        durbin_watson = float("nan") if exact else float(np.square(np.diff(residuals)).sum()) / squares
        largest = float(residuals[np.abs(residuals).argmax()])
        return Diagnostics(lag1, durbin_watson, (first, middle, last), largest)

    def interval(
        self, level: float, rng: np.random.Generator, *, resamples: int = 1999, block: int | None = None
    ) -> Coefficients:
        """Percentile intervals of a, b and the ceiling along this one run, by a moving-block bootstrap.

        The entropies stay as measured. The residuals' AR(1) part is taken off, moving blocks of what remains are drawn
        (Kuensch 1989, centred at each place of a block as in Lahiri 2003, section 2.5), the AR(1) part is put back
        (post-blackening: Davison and Hinkley 1997, section 8.2.3) and the law is fitted again. The AR(1) coefficient is
        freed of the bias (2 + 4 rho) / n that it has in residuals of a sloping line, and draws are widened by
        Student's t with n (1 - rho) / (1 + rho) - 2 degrees over the normal, for n points that lean on each other are
        worth fewer. Without those steps, plain blocks cover the truth 80 % of the time where they claim 95 %
        (60 points, AR(1) noise of coefficient 0.6); with them 90 %, and 94 % for independent noise.

        They say how far noise along the run moves the coefficients when the form is right. They know nothing of other
        seeds: `over_seeds` does.

        Args:
            level: coverage, strictly between 0 and 1.
            rng: the only source of randomness.
            resamples: number of draws, at least 1.
            block: length of the blocks, from 1 to n / 2; by default n^(1/3) rounded up.

        Raises:
            ValueError: fewer than eight points, or level, resamples or block out of range.
        """
        draws = self._draws(level, rng, resamples, block)
        return _intervals((self.a, self.b, self.ceiling), draws, level, self.entropy.size)

    def interval_at(
        self, entropy: float, level: float, rng: np.random.Generator, *, resamples: int = 1999, block: int | None = None
    ) -> Interval:
        """The interval of b - a e^H at one entropy, in the unit of R; at 0 it is the ceiling's, see `interval`."""
        draws = self._draws(level, rng, resamples, block)
        values = draws[:, 1] - draws[:, 0] * np.exp(entropy)
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        return Interval(float(self.predict(entropy)), float(low), float(high), self.entropy.size, level)

    def _draws(self, level: float, rng: np.random.Generator, resamples: int, block: int | None) -> np.ndarray:
        """Widened draws of (a, b), [resamples, 2]."""
        _check_level(level)
        n = self.entropy.size
        if n < 8:
            raise ValueError(f"an interval along a run needs at least 8 points, got {n}; use several seeds, over_seeds")
        # Some machines have 3.0000000000000004 for the cube root of 27.
        block = int(np.ceil(np.cbrt(n).round(9))) if block is None else block
        if not 1 <= block <= n // 2:
            raise ValueError(f"block must be from 1 to {n // 2}, half the points of the fit, got {block}")
        if resamples < 1:
            raise ValueError(f"resamples must be at least 1, got {resamples}")
        lag1 = np.nan_to_num(self.diagnostics().lag1)
        rho = float(np.clip(lag1 + (2 + 4 * lag1) / n, 0, 0.95))
        innovations = (self.residuals[1:] - rho * self.residuals[:-1]) * np.sqrt(n / (n - 2))
        blocks = sliding_window_view(innovations, block)  # [n - block, block]
        blocks = blocks - blocks.mean(axis=0)
        # Long enough before the first point for the start from zero to be forgotten to 1 %.
        warm = int(np.ceil(np.log(0.01) / np.log(max(rho, 0.01))))
        chosen = rng.integers(0, len(blocks), size=(resamples, -(-(n + warm) // block)))
        noise = scipy.signal.lfilter([1], [1, -rho], blocks[chosen].reshape(resamples, -1)[:, : n + warm])[:, warm:]
        solve = np.linalg.pinv(np.stack([-np.exp(self.entropy), np.ones(n)], axis=1))  # [2, n]
        freedom = max(n * (1 - rho) / (1 + rho), 4) - 2
        tail = (1 + level) / 2
        widening = scipy.stats.t.ppf(tail, freedom) / scipy.stats.norm.ppf(tail)
        return np.array([self.a, self.b]) + widening * (noise @ solve.T)


def _intervals(estimates: tuple[float, float, float], draws: np.ndarray, level: float, n: int) -> Coefficients:
    """Intervals of a, b and b - a from draws of (a, b), [resamples, 2]."""
    columns = (draws[:, 0], draws[:, 1], draws[:, 1] - draws[:, 0])
    ends = [np.quantile(column, [(1 - level) / 2, (1 + level) / 2]) for column in columns]
    return Coefficients(
        *(
            Interval(estimate, float(low), float(high), n, level)
            for estimate, (low, high) in zip(estimates, ends, strict=True)
        )
    )


def fit_law(entropy: ArrayLike, reward: ArrayLike) -> LawFit:
    """Fits R = b - a e^H by least squares (arXiv:2505.22617, Eq. 6).

    Args:
        entropy: [n], mean policy entropy in nats per token at each evaluation, in the order of training; n >= 3.
        reward: [n], performance at the same evaluations, on any scale.

    Raises:
        ValueError: fewer than three points, lengths that differ, a value that is not finite, an entropy outside
            [0, 20] nats, or entropies that are all equal.
    """
    entropy, reward = _entropy(entropy, 3), _flat("reward", reward, 3)
    _same_length(entropy=entropy, reward=reward)
    x = np.exp(entropy)
    if np.ptp(x) <= 1e-9 * x.max():
        raise ValueError(
            f"entropy is constant at {entropy[0]} nats, so a and b cannot be told apart; "
            "fit a stretch of training over which entropy changes"
        )
    b, slope = _line(x, reward)
    residuals = reward - (b + slope * x)
    return LawFit(-slope, b, _r2(reward, residuals), _rms(residuals), entropy, reward)


def over_seeds(fits: Sequence[LawFit], level: float = 0.95) -> Coefficients:
    """Mean coefficients of one fit per seed, with Student's t intervals over the seeds.

    Args:
        fits: one per seed, at least 2, all in the same unit of R.
        level: coverage.

    Raises:
        ValueError: fewer than two fits, or a level outside (0, 1).
    """
    columns = ([fit.a for fit in fits], [fit.b for fit in fits], [fit.ceiling for fit in fits])
    return Coefficients(*(t_interval(column, level) for column in columns))


def difference(first: Sequence[LawFit], second: Sequence[LawFit], level: float = 0.95) -> Coefficients:
    """Mean coefficients of the first group minus those of the second, with Welch's t intervals over seeds.

    An interval that holds 0 does not show that groups share a coefficient; one that lies inside a margin does.

    Args:
        first, second: one fit per seed, at least 2 in each group, all in the same unit of R.
        level: coverage.

    Raises:
        ValueError: a group of fewer than two fits, or a level outside (0, 1).
    """
    _check_level(level)
    for name, group in (("first", first), ("second", second)):
        if len(group) < 2:
            raise ValueError(
                f"the {name} group has {len(group)} fits, but a spread over seeds needs at least 2; train another seed"
            )
    return Coefficients(
        *(
            welch_interval([getattr(fit, name) for fit in first], [getattr(fit, name) for fit in second], level)
            for name in Coefficients._fields
        )
    )


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The evaluations of one run, in the order of training.

    Args:
        step: [n], strictly increasing, >= 0; optimizer steps, or any other measure of compute.
        entropy: [n], mean per token in nats.
        reward: [n], performance on any scale.

    Raises:
        ValueError: no points, lengths that differ, a value that is not finite, an entropy outside [0, 20] nats, or
            steps that are negative or do not increase.
    """

    step: np.ndarray
    entropy: np.ndarray
    reward: np.ndarray

    def __post_init__(self) -> None:
        step, entropy, reward = _flat("step", self.step, 1), _entropy(self.entropy, 1), _flat("reward", self.reward, 1)
        _same_length(step=step, entropy=entropy, reward=reward)
        if step[0] < 0 or (np.diff(step) <= 0).any():
            raise ValueError(f"step must start at 0 or above and increase strictly, got {step.tolist()}; sort the run")
        for name, array in (("step", step), ("entropy", entropy), ("reward", reward)):
            object.__setattr__(self, name, array)

    def split(self, step: float) -> tuple["Trajectory", "Trajectory"]:
        """The evaluations up to and including a step, and the rest.

        Raises:
            ValueError: when either part would be empty.
        """
        early = self.step <= step
        if early.all() or not early.any():
            raise ValueError(
                f"step {step:g} leaves nothing on one side; it must be at least {self.step[0]:g} and below "
                f"{self.step[-1]:g}"
            )
        return tuple(Trajectory(self.step[part], self.entropy[part], self.reward[part]) for part in (early, ~early))


# Performance at the given steps [n] and entropies [n].
Predictor = Callable[[np.ndarray, np.ndarray], np.ndarray]


class TooFewPoints(ValueError):
    """A form has more parameters than the points that it is to be fitted to can tell apart."""


def _need(points: Trajectory, minimum: int, what: str) -> None:
    if points.step.size < minimum:
        raise TooFewPoints(
            f"{what} needs at least {minimum} points to fit, got {points.step.size}; fit a longer stretch of training"
        )


def _law(points: Trajectory) -> Predictor:
    """R = b - a e^H."""
    fit = fit_law(points.entropy, points.reward)
    return lambda step, entropy: fit.predict(entropy)


def _linear(points: Trajectory) -> Predictor:
    """R = b - a H."""
    fit_law(points.entropy, points.reward)  # Refuses what no line fits.
    b, slope = _line(points.entropy, points.reward)
    return lambda step, entropy: b + slope * entropy


def _power(points: Trajectory) -> Predictor:
    """R = b - a H^p with p from 0.05 to 8, the best p by search, a and b by least squares."""
    _need(points, 4, "the power law")
    fit_law(points.entropy, points.reward)  # Refuses what no power fits.

    def loss(log_p: float) -> float:
        return _projected_loss(points.entropy ** np.exp(log_p), points.reward)

    power = float(np.exp(_least(loss, np.linspace(np.log(0.05), np.log(8), 60))))
    b, slope = _line(points.entropy**power, points.reward)
    return lambda step, entropy: b + slope * entropy**power


def _sigmoid(points: Trajectory) -> Predictor:
    """R = R0 + (A - R0) / (1 + (C / step)^B), ScaleRL's form (arXiv:2510.13786) with steps as compute.

    B is searched from 0.3 to 8 and C from the first positive step to ten times the last; R0 and A by least squares, R0
    too because it is measured with the same error as every other point.
    """
    _need(points, 5, "the sigmoid")
    positive = points.step[points.step > 0]

    def shape(log_c: float, log_b: float, step: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return scipy.special.expit(np.exp(log_b) * (np.log(step) - log_c))

    def loss(parameters: np.ndarray) -> float:
        return _projected_loss(shape(*parameters, points.step), points.reward)

    box = [(np.log(positive[0]), np.log(10 * positive[-1])), (np.log(0.3), np.log(8))]
    grid = [(log_c, log_b) for log_c in np.linspace(*box[0], 30) for log_b in np.linspace(*box[1], 20)]
    start = min(grid, key=loss)
    tight = {"xatol": 1e-7, "fatol": 0, "maxiter": 2000}
    log_c, log_b = scipy.optimize.minimize(loss, start, method="Nelder-Mead", bounds=box, options=tight).x
    low, rise = _line(shape(log_c, log_b, points.step), points.reward)
    return lambda step, entropy: low + rise * shape(log_c, log_b, step)


def _projected_loss(x: np.ndarray, y: np.ndarray) -> float:
    """Share of the variance of y that its best line in x leaves; 1 where x is constant."""
    centred, target = x - x.mean(), y - y.mean()
    norm, total = float(centred @ centred), float(target @ target)
    if norm <= 1e-24 * float(x @ x) or total == 0:
        return 1.0
    return 1 - float(centred @ target) ** 2 / (norm * total)


def _line_in_steps(points: Trajectory) -> Predictor:
    """R = b - a step."""
    b, slope = _line(points.step, points.reward)
    return lambda step, entropy: b + slope * step


def _exponential_in_steps(points: Trajectory) -> Predictor:
    """R = b - a exp(-step / tau), the best tau by search from a tenth of the first step to ten times the last."""
    _need(points, 4, "the exponential in steps")
    ends = np.log(0.1 * points.step[points.step > 0][0]), np.log(10 * points.step[-1])

    def loss(log_tau: float) -> float:
        return _projected_loss(np.exp(-points.step / np.exp(log_tau)), points.reward)

    tau = float(np.exp(_least(loss, np.linspace(*ends, 60))))
    b, slope = _line(np.exp(-points.step / tau), points.reward)
    return lambda step, entropy: b + slope * np.exp(-step / tau)


def _least(loss: Callable[[float], float], grid: np.ndarray) -> float:
    """Where a loss is least: the best of a grid, and the best between its neighbours."""
    best = int(np.argmin([loss(one) for one in grid]))
    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)])
    return float(scipy.optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-9}).x)


def _last_value(points: Trajectory) -> Predictor:
    """The last value seen, for ever."""
    value = float(points.reward[-1])
    return lambda step, entropy: np.full(np.shape(step), value)


FORMS: Mapping[str, Callable[[Trajectory], Predictor]] = MappingProxyType(
    {"law": _law, "linear in H": _linear, "power of H": _power, "sigmoid in steps": _sigmoid, "last value": _last_value}
)
"""The law and its rivals: each is fitted to a `Trajectory` and gives performance for steps and entropies."""

IN_STEPS: Mapping[str, Callable[[Trajectory], Predictor]] = MappingProxyType(
    {"exponential in steps": _exponential_in_steps, "line in steps": _line_in_steps}
)
"""Curves of time alone, which know no entropy: what any two quantities that level off together share."""


class Prediction(NamedTuple):
    """How a form that was fitted to the early points predicts the rest; errors are predicted minus measured.

    `rmse`, `bias` (mean error) and `final_error` (at the last evaluation) are over the rest, `fit_rmse` over the early
    points, all in the unit of R; `predicted` and `measured` are the rest itself, [n_rest].
    """

    rmse: float
    bias: float
    final_error: float
    fit_rmse: float
    n_fit: int
    n_rest: int
    predicted: np.ndarray
    measured: np.ndarray


def predict_rest(trajectory: Trajectory, until: float, form: str = "law") -> Prediction:
    """Fits a form to the evaluations up to and including step `until` and predicts the others.

    The paper fits its first 15 % (Fig. 5): `until = 0.15 * trajectory.step[-1]`. Forms in H are told the entropies of
    the rest, see the head of this module.

    Args:
        trajectory: one run.
        until: in the unit of `trajectory.step`.
        form: a name in `FORMS`.

    Raises:
        ValueError: an unknown form, no points on one side, or too few to fit the form.
    """
    if form not in FORMS:
        raise ValueError(f"there is no form {form!r}; choose from {', '.join(FORMS)}")
    early, rest = trajectory.split(until)
    predictor = FORMS[form](early)
    fitted, predicted = predictor(early.step, early.entropy), predictor(rest.step, rest.entropy)
    errors = predicted - rest.reward
    return Prediction(
        _rms(errors),
        float(errors.mean()),
        float(errors[-1]),
        _rms(fitted - early.reward),
        early.step.size,
        rest.step.size,
        predicted,
        rest.reward,
    )


def compare(trajectory: Trajectory, until: float, forms: Sequence[str] = tuple(FORMS)) -> pd.DataFrame:
    """Out-of-sample comparison of `forms`: one row each, columns rmse, bias, final_error, fit_rmse, n_fit, n_rest.

    Units and errors are those of `predict_rest`; a form with too few early points raises rather than sit out.
    """
    columns = ["rmse", "bias", "final_error", "fit_rmse", "n_fit", "n_rest"]
    rows = [predict_rest(trajectory, until, form)._asdict() for form in forms]
    return pd.DataFrame(rows, index=pd.Index(forms, name="form"), columns=columns)


@dataclass(frozen=True, eq=False)
class SizeTrend:
    """A coefficient as intercept + slope ln(size); made by `fit_size_trend`.

    `slope` is the change for each factor e in size, `intercept` the value at size 1, both in the coefficient's unit.
    """

    slope: float
    intercept: float
    r2: float
    size: np.ndarray
    value: np.ndarray

    @property
    def residuals(self) -> np.ndarray:
        """Coefficients minus the trend, [n]."""
        return self.value - (self.intercept + self.slope * np.log(self.size))

    def predict(self, size: float, level: float = 0.95) -> Interval:
        """The trend at a size, with the interval for a new coefficient there (Student's t, n - 2 degrees).

        With three sizes the interval has one degree of freedom, and is as wide as that deserves.

        Raises:
            ValueError: a size that is not positive, or a level outside (0, 1).
        """
        _check_level(level)
        if not size > 0:
            raise ValueError(f"size must be a positive number of parameters, got {size}")
        x, n = np.log(self.size), self.size.size
        estimate = self.intercept + self.slope * float(np.log(size))
        spread = np.sqrt(np.square(self.residuals).sum() / (n - 2))
        distance = (np.log(size) - x.mean()) ** 2 / np.square(x - x.mean()).sum()
        half = float(scipy.stats.t.ppf((1 + level) / 2, n - 2) * spread * np.sqrt(1 + 1 / n + distance))
        return Interval(estimate, estimate - half, estimate + half, n, level)


def fit_size_trend(size: ArrayLike, value: ArrayLike) -> SizeTrend:
    """Least-squares line of a coefficient in the logarithm of model size (arXiv:2505.22617, Fig. 7).

    Args:
        size: [n], non-embedding parameters in any unit, n >= 3, at least two different.
        value: [n], the coefficient of each.

    Raises:
        ValueError: fewer than three sizes, lengths that differ, values not finite, or sizes not positive or all equal.
    """
    size, value = _flat("size", size, 3), _flat("value", value, 3)
    _same_length(size=size, value=value)
    if (size <= 0).any() or np.ptp(size) == 0:
        raise ValueError(f"sizes must be positive and not all equal, got {size.tolist()}")
    intercept, slope = _line(np.log(size), value)
    return SizeTrend(slope, intercept, _r2(value, value - intercept - slope * np.log(size)), size, value)


class LeftOut(NamedTuple):
    """The largest model's coefficient as the trend of the smaller ones predicts it, and as it is."""

    size: float
    predicted: Interval
    actual: float


def leave_largest_out(size: ArrayLike, value: ArrayLike, level: float = 0.95) -> LeftOut:
    """Predicts the largest model's coefficient from the log-linear trend of the others.

    Args:
        size: [n], non-embedding parameters, n >= 4, the largest only once.
        value: [n], the coefficient of each.
        level: coverage of the interval of the prediction.

    Raises:
        ValueError: fewer than four sizes, two largest, or what `fit_size_trend` refuses.
    """
    size, value = _flat("size", size, 4), _flat("value", value, 4)
    _same_length(size=size, value=value)
    largest = size == size.max()
    if largest.sum() > 1:
        raise ValueError(f"size {size.max():g} occurs {largest.sum()} times; average the runs of one size first")
    trend = fit_size_trend(size[~largest], value[~largest])
    return LeftOut(float(size.max()), trend.predict(float(size.max()), level), float(value[largest][0]))
