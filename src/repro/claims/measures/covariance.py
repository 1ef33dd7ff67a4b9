"""Claim 3: the change of entropy equals a covariance.

Three sources: exact tables of logits (`repro.analysis.tabular`), the probe of every optimizer step (`Run.probe`, see
`repro.trainer.probe`), and the tokens of the first step. Every covariance predicts minus it (times the learning rate,
where it is a theorem's) as the change of entropy, so all measures of the probe compare with minus the change: a
prediction that holds has a positive slope and correlation.

Smoothing is a centred mean over a fraction of the probed steps, at least one of them; at the ends over what there is.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from repro.analysis import tabular
from repro.analysis.intervals import Interval, exact, t_interval
from repro.analysis.tabular import Tree
from repro.claims.curves import column
from repro.claims.errors import ClaimError, NoEffect
from repro.claims.registry import per_seed, pooled
from repro.claims.words import spell_seeds
from repro.runs import Run

STATEMENTS = ("lemma_1", "theorem_1", "theorem_2")
POLICIES, ACTIONS = 100, 8
STEPS = np.geomspace(1e-3, 1e-1, 9)
TREES, TREE_ACTIONS, TREE_DEPTH = 200, 3, 4
BANDIT_REWARDS = np.array([1.0, 0.8, 0.5, 0.0])
BANDIT_COEFFICIENTS = {"bonus": 0.2, "penalty": 2.0}
BANDIT_STEPS = 2000
THIRD = 1 / 3
TABLE_1 = {0.0002: 5.654, 0.002: 3.112, 0.02: 1.385, 0.2: 0.351, 0.5: 0.152, 1: 0.003}
"""The paper's Table 1, Qwen2.5-7B at training step 1: mean covariance in nats of the top fraction of tokens."""


def policies() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random bandits: logits, a direction and advantages, [POLICIES, ACTIONS] each; some policies flat, some peaked."""
    rng = np.random.default_rng(0)
    logits = rng.uniform(0.5, 3, size=(POLICIES, 1)) * rng.normal(size=(POLICIES, ACTIONS))
    delta, rewards = rng.normal(size=(2, POLICIES, ACTIONS))
    mean = (np.exp(tabular.log_policy(logits)) * rewards).sum(axis=1, keepdims=True)
    return logits, delta, rewards - mean


def statement_change(statement: str, step: float) -> tabular.Change:
    """What a statement of the paper predicts for a step on each of `policies`, and what happens; nats, [POLICIES].

    Args:
        statement: ``lemma_1`` (a step along the direction), ``theorem_1`` or ``theorem_2`` (along the advantages).
        step: learning rate.
    """
    logits, delta, advantages = policies()
    if statement == "lemma_1":
        return tabular.lemma_1(logits, step * delta)
    return {"theorem_1": tabular.theorem_1, "theorem_2": tabular.theorem_2}[statement](logits, advantages, step)


@pooled
def identity_error(*, statement: str) -> Interval:
    """Largest deviation of a statement from the exact derivative over `policies`; nats, for proposition_1 logits."""
    if statement == "proposition_1":
        logits, _, rewards = policies()
        predicted = np.stack(
            [
                tabular.proposition_1(Tree.bandit(r), z[None], 1.0).predicted[0]
                for z, r in zip(logits, rewards, strict=True)
            ]
        )

        def expected_reward(moved: np.ndarray) -> np.ndarray:
            return (np.exp(tabular.log_policy(moved)) * rewards).sum(axis=1)

        limit = np.stack(
            [tabular.derivative(lambda t, e=e: expected_reward(logits + t * e)) for e in np.eye(ACTIONS)], axis=1
        )
    else:
        predicted = statement_change(statement, 1.0).predicted
        limit = tabular.derivative(lambda t: statement_change(statement, t).exact)
    return exact(np.abs(predicted - limit).max(), POLICIES)


@pooled
def furthest_error_order() -> Interval:
    """Order in the step of the largest error over `policies`: of Lemma 1, Theorem 1 and 2, the one furthest from 2."""
    orders = [
        tabular.error_order(lambda step, s=statement: statement_change(s, step), STEPS) for statement in STATEMENTS
    ]
    return exact(max(orders, key=lambda order: abs(order - 2)), POLICIES)


def tree_terms() -> pd.DataFrame:
    """The two first-order terms of the change of mean entropy on random languages, per unit learning rate.

    A row per language: `actions`, Lemma 1's term, and `states`, the one of visiting other states, in nats. Responses
    have `TREE_DEPTH` tokens, a reward of 1 at three in ten of their ends, and standard normal logits; the update is the
    exact policy gradient.
    """
    rng = np.random.default_rng(0)
    states = sum(TREE_ACTIONS**level for level in range(TREE_DEPTH))
    children = np.arange(states * TREE_ACTIONS).reshape(states, TREE_ACTIONS) + 1
    children = np.where(children < states, children, -1)
    rows = []
    for _ in range(TREES):
        tree = Tree(children, np.where(children == -1, rng.random(children.shape) < 0.3, 0.0))
        logits = rng.normal(size=children.shape)
        change = tabular.entropy_change(tree, logits, tree.policy_gradient(logits))
        rows.append({"actions": float(change.actions), "states": float(change.states)})
    return pd.DataFrame(rows)


@pooled
def states_share() -> Interval:
    """|states| / (|actions| + |states|), the mean over the random languages of `tree_terms`."""
    size = tree_terms().abs()
    return t_interval(size["states"] / size.sum(axis=1))


def bandit_regret_path(control: str, annealed: bool) -> np.ndarray:
    """Best reward less the expected one along an ascent from the uniform policy, [BANDIT_STEPS + 1].

    Args:
        control: ``bonus`` or ``penalty``, with its coefficient of `BANDIT_COEFFICIENTS`.
        annealed: whether the coefficient falls to zero, linearly over the first third.
    """
    schedule = np.full(BANDIT_STEPS, BANDIT_COEFFICIENTS[control])
    if annealed:
        schedule = schedule * np.maximum(0, 1 - np.arange(BANDIT_STEPS) / (BANDIT_STEPS * THIRD))
    path = tabular.ascend(
        np.zeros(len(BANDIT_REWARDS)), BANDIT_REWARDS, step=1.0, steps=BANDIT_STEPS, **{control: schedule}
    )
    return BANDIT_REWARDS.max() - np.exp(tabular.log_policy(path)) @ BANDIT_REWARDS


@pooled
def bandit_regret(*, control: str, annealed: int) -> Interval:
    """Best reward less the expected one at the end of `bandit_regret_path`."""
    return exact(bandit_regret_path(control, bool(annealed))[-1], 1)


def probe_table(run: Run) -> pd.DataFrame:
    """A run's probe with `fall`, minus the entropy change of the step in nats.

    Raises:
        ClaimError: a run without a probe.
    """
    if run.probe.empty:
        raise ClaimError(f"{run.name} has no probe; train it with probe_every of at least 1")
    return run.probe.assign(fall=-run.probe["entropy_change"]).reset_index(drop=True)


def smoothed(values: pd.Series, smoothing: float) -> pd.Series:
    """Centred mean over a fraction of the rows, at least one; rows that are NaN are left out of it."""
    return values.rolling(max(1, round(smoothing * len(values))), center=True, min_periods=1).mean()


def _pair(run: Run, predictor: str, smoothing: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A predictor and minus the entropy change, [steps] each."""
    table = probe_table(run)
    x, y = (smoothed(pd.Series(column(run, table, name)), smoothing).to_numpy() for name in (predictor, "fall"))
    return x, y


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        raise NoEffect(f"a correlation needs three steps that differ, got {len(x)}")
    return float(np.corrcoef(x, y)[0, 1])


@per_seed
def probe_slope(run: Run, *, predictor: str) -> float:
    """Slope of minus the entropy change against a covariance, by step, through the origin."""
    x, y = _pair(run, predictor)
    if not (x**2).sum() > 0:
        raise NoEffect(f"{predictor} is zero at every step")
    return float((x * y).sum() / (x**2).sum())


@per_seed
def probe_explained(run: Run, *, predictor: str) -> float:
    """1 - sum (fall - covariance)^2 / sum (fall - mean fall)^2 over the steps; nothing is fitted, so it may be < 0."""
    x, y = _pair(run, predictor)
    whole = ((y - y.mean()) ** 2).sum()
    if not whole > 0:
        raise NoEffect("the entropy changes by the same in every step")
    return float(1 - ((y - x) ** 2).sum() / whole)


@per_seed
def slope_deviation_growth(small: Run, large: Run, *, predictor: str) -> float:
    """|slope - 1| at the larger learning rate less that at the smaller one, slopes of `probe_slope`."""
    return abs(probe_slope(large, predictor=predictor) - 1) - abs(probe_slope(small, predictor=predictor) - 1)


@per_seed
def probe_correlation(run: Run, *, predictor: str, smoothing: float, start: float = 0.0, stop: float = 1.0) -> float:
    """Pearson correlation of a covariance with minus the entropy change over a part of training.

    Args:
        run: with a probe.
        predictor: a column of the probe.
        smoothing: fraction of training that both are averaged over; 0 for none.
        start, stop: the part, as fractions; both are smoothed before it is cut out.
    """
    x, y = _pair(run, predictor, smoothing)
    part = slice(round(start * len(x)), round(stop * len(x)))
    return _correlation(x[part], y[part])


@per_seed
def correlation_fall(run: Run, *, predictor: str, smoothing: float) -> float:
    """`probe_correlation` over the first third of training less that over the last third."""
    early = probe_correlation(run, predictor=predictor, smoothing=smoothing, stop=THIRD)
    return early - probe_correlation(run, predictor=predictor, smoothing=smoothing, start=1 - THIRD)


@per_seed
def correlation_gain(run: Run, *, predictor: str, other: str) -> float:
    """`probe_correlation` by step of one covariance less that of another."""
    return probe_correlation(run, predictor=predictor, smoothing=0.0) - probe_correlation(
        run, predictor=other, smoothing=0.0
    )


@per_seed
def ratio_drift(run: Run, *, predictor: str, minimum: float) -> float:
    """Fall of entropy over sum of covariances in the last third of training, as a multiple of that in the first.

    Raises `NoEffect` if entropy falls by less than `minimum` nats in the first third, or covariances sum to nothing
    positive in either.
    """
    x, y = _pair(run, predictor)
    third = round(THIRD * len(x))
    first, last = (slice(0, third), slice(len(x) - third, None))
    if y[first].sum() < minimum:
        raise NoEffect(f"entropy falls by {y[first].sum():.3g} nat in the first third, less than {minimum:g}")
    if not (x[first].sum() > 0 and x[last].sum() > 0):
        raise NoEffect(f"{predictor} sums to {x[first].sum():.3g} in the first third, {x[last].sum():.3g} in the last")
    return float((y[last].sum() / x[last].sum()) / (y[first].sum() / x[first].sum()))


def _present(run: Run, predictor: str) -> pd.Series:
    """A column of the probe without the steps that have no such number."""
    values = probe_table(run)[predictor].dropna()
    if values.empty:
        raise NoEffect(f"no step has a {predictor}")
    return values


@per_seed
def positive_share(run: Run, *, predictor: str, smoothing: float) -> float:
    """Share of the steps at which a smoothed covariance is positive; steps without any are not counted."""
    _present(run, predictor)
    return float((smoothed(probe_table(run)[predictor], smoothing).dropna() > 0).mean())


@per_seed
def probe_mean(run: Run, *, predictor: str) -> float:
    """Mean over the steps that have the number."""
    return float(_present(run, predictor).mean())


@per_seed
def probe_difference(run: Run, *, predictor: str, other: str) -> float:
    """`probe_mean` of one column less that of another."""
    return probe_mean(run, predictor=predictor) - probe_mean(run, predictor=other)


def first_tokens(run: Run) -> pd.DataFrame:
    """The tokens of the first optimizer step, largest covariance first."""
    tokens = run.tokens[run.tokens["step"] == 1]
    if tokens.empty:
        raise ClaimError(f"{run.name} has no tokens of step 1; redo the run")
    return tokens.sort_values("covariance", ascending=False, kind="stable").reset_index(drop=True)


def top_mean(run: Run, fraction: float) -> float:
    """Mean covariance of the given fraction of tokens with the largest, at the first step, as in Table 1; nats."""
    name = "covariance/mean" if fraction == 1 else f"covariance/top_{fraction:g}"
    return float(column(run, run.metrics.head(1), name)[0])


@per_seed
def top_ratio(run: Run, *, fraction: float, whole: float) -> float:
    """`top_mean` of a small fraction of tokens over that of a large one."""
    if not top_mean(run, whole) > 0:
        raise NoEffect(f"the top {whole:g} of tokens has a mean covariance of {top_mean(run, whole):.3g}")
    return top_mean(run, fraction) / top_mean(run, whole)


def top_tokens(run: Run, fraction: float) -> pd.DataFrame:
    """The fraction of the first step's tokens with the largest covariance, at least one."""
    tokens = first_tokens(run)
    return tokens.head(max(1, int(fraction * len(tokens) + 5e-7)))


@per_seed
def top_negative_share(run: Run, *, fraction: float) -> float:
    """Share of negative advantages among `top_tokens`."""
    return float((top_tokens(run, fraction)["advantage"] < 0).mean())


def sign_bound(run: Run) -> float:
    """The covariance that no token of an advantage above the mean can exceed at the first step.

    It is (max A - mean A) times the mean of minus log-probabilities: a log-probability is at most zero, and so its
    excess over the mean at most that.
    """
    tokens = first_tokens(run)
    return float((tokens["advantage"].max() - tokens["advantage"].mean()) * -tokens["log_prob"].mean())


PREDICTORS = {
    "lemma1": "Lemma 1, exact",
    "theorem1_state": "Theorem 1, state",
    "theorem2_state": "Theorem 2, state",
    "theorem1_token": "Theorem 1, tokens",
    "theorem2_token": "Theorem 2, tokens (Eq. 10)",
    "theorem1_response": "Theorem 1, responses (Eq. 9)",
    "theorem2_response": "Theorem 2, responses",
    "centred_state": "p (log p + H), state mean",
    "centred_token": "p (log p + H), batch mean",
}
"""The predictors of an entropy change in the probe, as figures and tables name them."""

STAGES = {"all": (0.0, 1.0), "first third": (0.0, THIRD), "last third": (1 - THIRD, 1.0)}


def predictor_correlations(runs: Sequence[Run]) -> pd.DataFrame:
    """Correlation by step with minus the entropy change: columns `predictor`, `stage`, `seed`, `correlation`.

    A correlation that does not exist, since one of the two does not change, has no row.
    """
    rows = []
    for run, predictor, (stage, (start, stop)) in itertools.product(runs, PREDICTORS, STAGES.items()):
        try:
            value = probe_correlation(run, predictor=predictor, smoothing=0.0, start=start, stop=stop)
        except NoEffect:
            continue
        rows.append({"predictor": predictor, "stage": stage, "seed": run.config.seed, "correlation": value})
    return pd.DataFrame(rows, columns=["predictor", "stage", "seed", "correlation"])


def predictor_table(runs: Sequence[Run]) -> pd.DataFrame:
    """A row per predictor to show: slope and R2 by step over all of training, and R2 in its first and last third.

    R2 is the squared correlation by step, so that it asks for no slope; intervals are over seeds.
    """
    correlations = predictor_correlations(runs)
    rows = []
    for predictor, name in PREDICTORS.items():
        row = {"Covariance": name, "Slope": spell_seeds([probe_slope(run, predictor=predictor) for run in runs])}
        for stage in STAGES:
            mine = correlations[(correlations["predictor"] == predictor) & (correlations["stage"] == stage)]
            row[f"R2, {stage}"] = spell_seeds(mine["correlation"].to_numpy() ** 2)
        rows.append(row)
    return pd.DataFrame(rows)


def first_step_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Table 1 beside ours, to show: a row per fraction of tokens, mean covariance in nats."""
    return pd.DataFrame(
        [
            {
                "Tokens": "all" if fraction == 1 else f"top {100 * fraction:g} %",
                "Paper (nat)": f"{printed:.3f}",
                "Ours (nat, 95 % interval)": spell_seeds([top_mean(run, fraction) for run in runs]),
            }
            for fraction, printed in TABLE_1.items()
        ]
    )


def describe(runs: Sequence[Run]) -> dict[str, str]:
    """Numbers behind the figures in words, by name, with intervals over seeds.

    Of step 1: `tokens_first`, the number of tokens; `mean_first`, their mean covariance; `surprise_first`, their mean
    of minus log-probabilities; `bound_first`, their `sign_bound`; `positive_top`, the largest covariance of a token
    with an advantage above the mean; `probability_top`, the mean probability of the top 0.2 %. And `entropy_fall`,
    what entropy falls by over all probed steps.
    """
    tables = [first_tokens(run) for run in runs]
    above = [table[table["advantage"] > table["advantage"].mean()] for table in tables]
    return {
        "mean_first": spell_seeds([top_mean(run, 1) for run in runs], "nat"),
        "tokens_first": spell_seeds([float(len(table)) for table in tables]),
        "surprise_first": spell_seeds([-table["log_prob"].mean() for table in tables], "nat"),
        "bound_first": spell_seeds([sign_bound(run) for run in runs]),
        "probability_top": spell_seeds([float(np.exp(top_tokens(run, 0.002)["log_prob"]).mean()) for run in runs]),
        "positive_top": spell_seeds([float(table["covariance"].max()) for table in above if len(table)]),
        "entropy_fall": spell_seeds([probe_table(run)["fall"].sum() for run in runs], "nat"),
    }
