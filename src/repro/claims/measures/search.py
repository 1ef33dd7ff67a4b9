"""Claim 4 on the second testbed: its primary comparisons as one family of tests."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import scipy

from repro.analysis.holm import holm
from repro.claims.curves import end_level, paired
from repro.claims.measures.fixes import minimum_detectable
from repro.claims.reading import load_ledger
from repro.claims.words import spell_limit
from repro.runs import Run

PRIMARY = ("search_kl_accuracy", "search_clip_accuracy", "search_kl_entropy", "search_clip_entropy")
"""Sub-claims of `search_fixes` that are tested together."""
METHODS = ("search_kl_cov_wide", "search_clip_cov_wide")
"""The arms of which the page says what share of the gradient their tokens carry."""
RUINED = 0.05
"""A policy whose last accuracy is under this no longer searches; the base policies begin at six times as much."""


def primary_arms() -> set[str]:
    """The arms that the primary comparisons take."""
    claim = load_ledger().claim("search_fixes")
    return {arm for name in PRIMARY for arm in claim.part(name).arms}


def primary_tests(arms: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """The primary comparisons of `search_fixes`, each against no difference, paired by seed.

    Accuracies are compared by their differences, entropies by those of their logarithms: levels at the end of training,
    as the ledger's measures take them.

    Returns:
        A row per sub-claim: `subclaim`, `n`, `p` (two-sided, Student's t), `holm` (adjusted for all of them), and
        `detectable`, the difference that so many seeds see with 80 % power: a fraction of accuracy, or a ratio of
        entropies. The last three are NaN where there are fewer than two seeds.
    """
    rows = []
    for name in PRIMARY:
        part = load_ledger().claim("search_fixes").part(name)
        quantity = "entropy" if part.measure == "entropy_ratio" else "accuracy"
        levels = np.array(
            [
                [end_level(run, quantity, part.arguments["window"]) for run in runs]
                for runs in paired(*(arms[arm] for arm in part.arms))
            ]
        )
        levels = np.log(levels) if quantity == "entropy" else levels
        gaps = levels[:, 1] - levels[:, 0]
        p, smallest = np.nan, np.nan
        if len(gaps) > 1:
            p, smallest = float(scipy.stats.ttest_1samp(gaps, 0).pvalue), minimum_detectable(gaps)
        rows.append((name, len(gaps), p, float(np.exp(smallest)) if quantity == "entropy" else smallest))
    table = pd.DataFrame(rows, columns=["subclaim", "n", "p", "detectable"])
    table.insert(3, "holm", holm(table["p"]) if table["p"].notna().all() else np.nan)
    return table


def describe(arms: Mapping[str, Sequence[Run]]) -> dict[str, str]:
    """What the page says of the runs beside the ledger's findings, in words by name."""
    plain = arms["search_grpo8"]
    return {
        "rollouts": _rollouts(plain[0]),
        "rollouts_long": _rollouts(arms["search_unclipped_long"][0]),
        "seeds": str(len(plain)),
        "bases": str(len({run.config.base for run in plain})),
        **{f"ruined_{arm}": _ruined(arms[arm]) for arm in arms if arm.startswith("select_covariance")},
        **{
            f"gradient_{arm}": spell_limit(float(np.mean([gradient_share(run) for run in arms[arm]])), "share")
            for arm in (*METHODS, "fresh_covariance", "fresh_draw")
            if arms[arm]
        },
    }


def _rollouts(run: Run) -> str:
    return str(run.config.max_steps // run.config.updates_per_rollout)


def gradient_share(run: Run) -> float:
    r"""The share of the policy gradient that the selected tokens carry, over a run's sampled steps.

    A token counts for $\lvert A \rvert (1 - \pi)$. The norm of its gradient with respect to its own logits, which a
    dose of the trainer's is measured in, is that up to a factor of 1 to $\sqrt 2$: of the other actions' probabilities
    no more than the sum is known here.
    """
    weight = run.tokens["advantage"].abs() * (1 - np.exp(run.tokens["log_prob"]))
    return float(weight[run.tokens["selected"].astype(bool)].sum() / weight.sum())


def _ruined(runs: Sequence[Run]) -> str:
    """How many of the runs end without a policy that searches: '1 of 2'."""
    ends = [run.evaluations["accuracy/mean"].iloc[-1] for run in runs]
    return f"{sum(end < RUINED for end in ends)} of {len(ends)}"
