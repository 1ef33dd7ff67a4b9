"""Claim 4: restricting the tokens of highest covariance keeps entropy up and improves performance.

Arms of different lengths are compared at the end of the shortest one's length: a level "at the end" is the mean over
the last `window` of that common length, for every arm alike. Differences and ratios are paired by seed.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy

from repro.analysis.intervals import LEVEL, Interval, centred, exact, over_seeds
from repro.claims.curves import common_steps, end_level, level_at, paired, step_at
from repro.claims.errors import ClaimError, NoEffect
from repro.claims.measures.collapse import left_after
from repro.claims.reading import load_ledger
from repro.claims.registry import per_seed, pooled
from repro.claims.words import spell, spell_seeds
from repro.paper import BENCHMARKS, read_results
from repro.runs import Run

PLAIN = "grpo8"
OWN_CLIP = {"kl_cov": "unclipped", "clip_cov": "clip_two"}
"""A method -> GRPO with that method's own clip, and without the method."""
POWER = 0.8
METHODS = ("grpo8", "clip_higher", "clip_two", "clip_cov", "unclipped", "kl_cov", "grpo8_slow")
# Under this a policy is sure of everything, and a ratio of two such entropies is a ratio of rounding errors.
_SURE = 1e-9


def window() -> float:
    """The last part of training that "at the end" is, a fraction: the ledger's."""
    return load_ledger().argument("fixes", "window")


def pass_at(run: Run, k: int) -> float:
    """pass@k as a fraction in a run's last evaluation; at k = 1 the share of correct samples.

    Raises:
        ClaimError: the evaluation has no such k.
    """
    name = "accuracy/mean" if k == 1 else f"accuracy/pass@{k}"
    last = run.evaluations.iloc[-1]
    if name not in last or not np.isfinite(last[name]):
        raise ClaimError(f"{run.name}: the last evaluation has no {name}; it drew {last.get('k', 'too few')} samples")
    return float(last[name])


def minimum_detectable(differences: Sequence[float], *, power: float = POWER, level: float = LEVEL) -> float:
    """The smallest true mean difference that a paired t test of this size sees with probability `power`.

    With z standard normal, v chi-squared of n - 1 degrees of freedom and s the standard deviation of the `differences`,
    one per seed in their own unit, it is d with P(|z + d sqrt(n) / s| > t_{n-1} sqrt(v / (n - 1))) = `power`.

    Raises:
        ValueError: fewer than two differences.
    """
    sample = np.asarray(differences, dtype=np.float64)
    if sample.size < 2:
        raise ValueError(f"a spread needs at least two differences, got {sample.size}")
    freedom = sample.size - 1
    critical = scipy.stats.t.ppf((1 + level) / 2, freedom)
    # The mean over v is taken at equally likely values; SciPy's noncentral t fails in its far tail.
    likely = (np.arange(2000) + 0.5) / 2000
    needed = critical * np.sqrt(scipy.stats.chi2.ppf(likely, freedom) / freedom)

    def excess(shift: float) -> float:
        return float((scipy.stats.norm.sf(needed - shift) + scipy.stats.norm.cdf(-needed - shift)).mean()) - power

    # Without a shift the power is 1 - level; ten critical values away it is 1.
    shift = scipy.optimize.brentq(excess, 0, 10 * critical)
    return float(shift * sample.std(ddof=1) / np.sqrt(sample.size))


def levels(groups: Sequence[Sequence[Run]], quantity: str, fraction: float, window: float) -> np.ndarray:
    """`level_at` of the steps that all arms have, [seeds, arms], of the seeds that all arms have.

    Raises:
        NoEffect: no seed that all arms have.
    """
    steps = common_steps([run for group in groups for run in group])
    return np.array([[level_at(run, quantity, fraction, window, steps) for run in runs] for runs in paired(*groups)])


def end_levels(groups: Sequence[Sequence[Run]], quantity: str, window: float) -> np.ndarray:
    """`levels` at the end of the common length."""
    return levels(groups, quantity, 1, window)


@pooled
def entropy_ratio(baseline: Sequence[Run], other: Sequence[Run], *, window: float) -> Interval:
    """Entropy at the end, `other` over `baseline`: geometric mean over seeds, Student t interval of the logarithms.

    A ratio of two positive numbers that scatter by factors is symmetric on that scale only.
    """
    return _ratio(end_levels([baseline, other], "entropy", window))


def _clock(baseline: Run, other: Run, left: float, window: float) -> tuple[float, int]:
    """The fraction of their common steps at which `baseline` has `left` of its first entropy, and those steps."""
    steps = common_steps([baseline, other])
    goal = left * level_at(baseline, "entropy", 0, window, steps)
    return step_at(baseline, "entropy", goal, window, steps) / steps, steps


@pooled
def entropy_ratio_at_left(baseline: Sequence[Run], other: Sequence[Run], *, left: float, window: float) -> Interval:
    """Entropy, `other` over `baseline`, when `baseline` has `left` of the base policy's, as in `entropy_ratio`.

    How long that takes is a matter of the learning rate and the task; the share that is left is not. Each seed has a
    moment of its own.

    Raises:
        NoEffect: a baseline that keeps more than that.
    """
    pairs = []
    for runs in paired(baseline, other):
        fraction, steps = _clock(*runs, left, window)
        pairs.append([level_at(run, "entropy", fraction, window, steps) for run in runs])
    return _ratio(np.array(pairs))


@per_seed
def accuracy_added_at_left(other: Run, baseline: Run, *, left: float, window: float) -> float:
    """Accuracy of `other` less that of `baseline` when `baseline` has `left` of the base policy's entropy."""
    fraction, steps = _clock(baseline, other, left, window)
    ours, theirs = (level_at(run, "accuracy", fraction, window, steps) for run in (other, baseline))
    return ours - theirs


@per_seed
def accuracy_added_at_entropy(other: Run, baseline: Run, *, window: float) -> float:
    """Accuracy of `other` at its end less that of `baseline` when it had the entropy that `other` ends with.

    A method that only delays the same training has 0.

    Raises:
        NoEffect: `baseline` ends with more entropy.
    """
    steps = common_steps([other, baseline])
    then = step_at(baseline, "entropy", end_level(other, "entropy", window, steps), window, steps)
    return end_level(other, "accuracy", window, steps) - level_at(baseline, "accuracy", then / steps, window, steps)


@pooled
def length_ratio(baseline: Sequence[Run], other: Sequence[Run], *, window: float) -> Interval:
    """Length of the sampled responses at the end, `other` over `baseline`, as in `entropy_ratio`."""
    return _ratio(end_levels([baseline, other], "length", window))


@pooled
def early_entropy_ratio(baseline: Sequence[Run], other: Sequence[Run], *, fraction: float, window: float) -> Interval:
    """Entropy at `fraction` of training, `other` over `baseline`, as in `entropy_ratio`."""
    return _ratio(levels([baseline, other], "entropy", fraction, window))


@per_seed
def pass_difference(baseline: Run, other: Run, *, k: int) -> float:
    """pass@k of the last evaluation as a fraction, `other` minus `baseline`.

    Raises `NoEffect` if the runs differ in length, because their last evaluations then compare two stages of training.
    """
    if baseline.config.max_steps != other.config.max_steps:
        raise NoEffect(f"runs of {baseline.config.max_steps} and {other.config.max_steps} steps")
    return pass_at(other, k) - pass_at(baseline, k)


@pooled
def best_difference(baseline: Sequence[Run], *others: Sequence[Run], window: float) -> Interval:
    """Accuracy at the end, the best of the other arms minus `baseline`, with an interval that covers all at once.

    The arm is chosen by its outcome, so the interval is Bonferroni's over all m arms; their paired differences share
    one standard deviation, with m (n - 1) degrees of freedom, which two or three seeds alone would not give.
    """
    ends = end_levels([baseline, *others], "accuracy", window)
    differences = ends[:, 1:] - ends[:, :1]  # [seeds, arms]
    seeds, arms = differences.shape
    half = None
    if seeds > 1:
        spread = np.sqrt(differences.var(axis=0, ddof=1).mean())
        half = scipy.stats.t.ppf(1 - (1 - LEVEL) / (2 * arms), arms * (seeds - 1)) * spread / np.sqrt(seeds)
    return centred(differences.mean(axis=0).max(), half, seeds)


@pooled
def entropy_per_level(*groups: Sequence[Run], window: float) -> Interval:
    """Factor on the entropy at the end from one arm to the next, the arms being levels of one setting in order.

    It is exp of the slope of log entropy over 0, 1, 2, ..., with a mean for each seed taken out.
    """
    return slope(_logs(end_levels(groups, "entropy", window))).map(np.exp)


@pooled
def accuracy_per_level(*groups: Sequence[Run], window: float) -> Interval:
    """Change of accuracy at the end from one arm to the next, as in `entropy_per_level`, as a fraction."""
    return slope(end_levels(groups, "accuracy", window))


def slope(values: np.ndarray) -> Interval:
    """Least-squares slope of `values` [seeds, levels] over 0, 1, 2, ..., with an intercept for each seed.

    The interval is Student's with seeds (levels - 1) - 1 degrees of freedom. What is not linear in the levels counts as
    noise and widens it.

    Raises:
        NoEffect: fewer than two levels.
    """
    seeds, levels = values.shape
    if levels < 2:
        raise NoEffect("a trend needs at least two levels")
    place = np.arange(levels) - (levels - 1) / 2
    apart = values - values.mean(axis=1, keepdims=True)
    weight = seeds * float(place @ place)
    estimate = float((apart @ place).sum() / weight)
    freedom = seeds * (levels - 1) - 1
    if freedom < 1:
        return centred(estimate, None, seeds)
    residual = float(((apart - estimate * place) ** 2).sum())
    half = scipy.stats.t.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(residual / freedom / weight)
    return centred(estimate, half, seeds)


@pooled
def table_average_deviation() -> Interval:
    """Table 2: the largest distance of a printed average from the mean weighted by evaluated responses, as a fraction.

    Exact up to the rounding of the table, so the interval has no width.
    """
    results = read_results()
    return exact((results["average"] - results["weighted"]).abs().max())


@pooled
def table_plain_difference(*, size: int) -> Interval:
    """Table 2: KL-Cov minus Clip-Cov at `size` billion parameters by the plain mean over benchmarks, as a fraction."""
    plain = read_results().set_index(["size", "method"])["plain"]
    return exact(plain[f"{size}B", "KL-Cov"] - plain[f"{size}B", "Clip-Cov"])


@pooled
def table_exceptions() -> Interval:
    """Table 2: on how many benchmarks, over both sizes, Clip-Cov or KL-Cov is not above GRPO."""
    table = read_results().set_index(["size", "method"])
    methods = [(size, method) for size, method in table.index if method in ("Clip-Cov", "KL-Cov")]
    return exact(sum((table.loc[one, BENCHMARKS] <= table.loc[(one[0], "GRPO"), BENCHMARKS]).sum() for one in methods))


def accuracy_differences(arms: Mapping[str, Sequence[Run]], arm: str, baseline: str = PLAIN) -> np.ndarray:
    """Accuracy at the end of `arm` minus the baseline's, as fractions, one per seed that both have."""
    theirs, ours = end_levels([arms[baseline], arms[arm]], "accuracy", window()).T
    return ours - theirs


def selected_per_rollout(run: Run) -> float:
    """Tokens that a rollout has restricted, mean over training; 0 for an arm that restricts none."""
    if "selected/count" not in run.metrics.columns:
        return 0.0
    return float(run.metrics["selected/count"].fillna(0).mean() * run.config.updates_per_rollout)


def describe(arms: Mapping[str, Sequence[Run]]) -> dict[str, str]:
    """Levels behind the ratios and differences, in words, by name.

    For each of the `METHODS` `entropy_<arm>`, `accuracy_<arm>` and `length_<arm>` at its end, `left_<arm>`, its share
    of the base policy's entropy then, `pass_8_<arm>` and `pass_64_<arm>` after training, `selected_<arm>` and, but for
    plain GRPO, `difference_<arm>` to it in accuracy; and for a method `detectable_<arm>`, the smallest difference to
    GRPO with its own clip that this number of seeds sees with a power of `POWER`.
    """
    words = {}
    for arm in METHODS:
        runs = arms[arm]
        for quantity, unit in (("entropy", "nat"), ("accuracy", ""), ("length", "tokens")):
            words[f"{quantity}_{arm}"] = spell_seeds([end_level(run, quantity, window()) for run in runs], unit)
        words[f"left_{arm}"] = spell_seeds([left_after(run, run.config.max_steps, window()) for run in runs], "share")
        for k in (8, 64):
            words[f"pass_{k}_{arm}"] = spell_seeds([pass_at(run, k) for run in runs])
        words[f"selected_{arm}"] = spell_seeds([selected_per_rollout(run) for run in runs], "tokens")
        if arm != PLAIN:
            words[f"difference_{arm}"] = spell_seeds(accuracy_differences(arms, arm), "points")
    for arm, baseline in OWN_CLIP.items():
        differences = accuracy_differences(arms, arm, baseline)
        smallest = spell(minimum_detectable(differences), "points") if differences.size > 1 else "an unknown size"
        words[f"detectable_{arm}"] = smallest
    return words


def _logs(values: np.ndarray) -> np.ndarray:
    if values.min() <= _SURE:
        raise NoEffect(f"a level of {values.min():.3g} at the end, which has no ratio to another")
    return np.log(values)


def _ratio(values: np.ndarray) -> Interval:
    """Geometric mean over seeds of the ratios of the second column to the first."""
    logs = _logs(values)
    return over_seeds(logs[:, 1] - logs[:, 0]).map(np.exp)
