"""Open questions: controls, scopes and targets that the paper leaves out.

Arms of these questions have runs of different lengths. They are compared at the last optimizer step that all of them
have reached (`common_steps`), or the last rollout where they differ in their updates per rollout (`common_rollout`).
Levels there are means over the last `window` (a fraction) of that stretch.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

import numpy as np
import pandas as pd

from repro.analysis.intervals import stretch_mean, t_interval
from repro.claims.curves import accuracy_curve, by_rollout, common_steps, entropy_curve, level_at_step
from repro.claims.errors import ClaimError, NoEffect
from repro.claims.measures import per_seed
from repro.claims.words import spell_interval
from repro.runs import Run

TOKEN_ENTROPY = "entropy/token_mean"


class Ending(StrEnum):
    """How a run ends, by the rules of `ending`."""

    COLLAPSES = "collapses"
    HOLDS = "holds"
    EXPLODES = "explodes"


def common_rollout(runs: Sequence[Run]) -> int:
    """The number of whole rollouts that all runs have been trained on."""
    return min(run.config.max_steps // run.config.updates_per_rollout for run in runs)


def level_before(run: Run, quantity: str, step: int, window: float) -> float:
    """Mean of `quantity` ('entropy' in nats or 'accuracy') over the last `window` of the first `step` steps.

    What was measured after them has no part in it.
    """
    return _mean_before({"entropy": entropy_curve, "accuracy": accuracy_curve}[quantity](run), quantity, step, window)


def _mean_before(curve: pd.DataFrame, quantity: str, step: int, window: float) -> float:
    curve = curve[curve["step"] <= step]
    return stretch_mean(curve["step"], curve[quantity], step * (1 - window), step)


@per_seed
def entropy_added(run: Run, other: Run, *, window: float) -> float:
    """Entropy of `run` less that of `other`, in nats, at the last step that both have reached."""
    step = common_steps([run, other])
    return level_before(run, "entropy", step, window) - level_before(other, "entropy", step, window)


@per_seed
def accuracy_added(run: Run, other: Run, *, window: float) -> float:
    """Accuracy of `run` less that of `other`, as a fraction, at the last step that both have reached."""
    step = common_steps([run, other])
    return level_before(run, "accuracy", step, window) - level_before(other, "accuracy", step, window)


@per_seed
def share_of_gap(part: Run, whole: Run, base: Run, *, window: float, minimum: float) -> float:
    """Share of the entropy that `whole` has more than `base` which `part` has more too, at their last common step.

    Raises `NoEffect` if `whole` has less than `minimum` nats more than `base`.
    """
    step = common_steps([part, whole, base])
    part_level, whole_level, base_level = (level_before(run, "entropy", step, window) for run in (part, whole, base))
    if whole_level - base_level < minimum:
        raise NoEffect(f"the entropies differ by {whole_level - base_level:.3f} nat, less than {minimum:g}")
    return (part_level - base_level) / (whole_level - base_level)


@per_seed
def accuracy_gained(run: Run, *, window: float) -> float:
    """Accuracy at the end of training less that of the base policy, as a fraction."""
    return level_before(run, "accuracy", run.config.max_steps, window) - level_at_step(run, "accuracy", 0, 0)


def selected_curve(run: Run, share: str) -> pd.DataFrame:
    """`share` of the tokens that a method selected, by rollout: `step` (updates made, averaged) and `share`.

    Args:
        run: of an arm that selects tokens.
        share: the end of a column `selected/<share>`, such as 'positive_advantage'. Steps count by their tokens.
    """
    for column in ("selected/count", f"selected/{share}"):
        if column not in run.metrics.columns:
            raise ClaimError(f"{run.name}: no column {column!r}; only arms that select tokens have it")
    # A step that selected nothing has a share of 0 tokens of 0, which is no number.
    metrics = run.metrics[run.metrics["selected/count"] > 0]
    if metrics.empty:
        raise NoEffect("no token was selected")
    count = metrics["selected/count"]
    rollout = (metrics["step"] - 1) // run.config.updates_per_rollout
    total = (count * metrics[f"selected/{share}"]).groupby(rollout).sum()
    return pd.DataFrame(
        {
            "step": (metrics["step"] - 1.0).groupby(rollout).mean(),
            "share": total / count.groupby(rollout).sum(),
            "count": count.groupby(rollout).sum(),
        }
    ).reset_index(drop=True)


def _selected_share(run: Run, share: str) -> float:
    curve = selected_curve(run, share)
    return float(np.average(curve["share"], weights=curve["count"]))


@per_seed
def selected_positive(run: Run) -> float:
    """Share of all tokens selected during a run that have a positive advantage."""
    return _selected_share(run, "positive_advantage")


@per_seed
def selected_rare(run: Run) -> float:
    """Share of all tokens selected during a run that had a probability under 0.1 when selected."""
    return _selected_share(run, "probability_below_0.1")


@per_seed
def selected_of_nominal(run: Run) -> float:
    """Mean fraction of the tokens that a run selected, over the fraction that its config asks for."""
    nominal = run.config.trainer["entropy_control_fraction"]
    return float(by_rollout(run, "selected/fraction").mean() / nominal)


def overlaps(tokens: pd.DataFrame, *, sequences: int, fraction: float) -> list[float]:
    """Jaccard overlap of the top covariances within micro-batches with that of their whole optimizer step.

    Covariances are centred within what they are ranked in, as each scope does, and at least one token is selected in
    each. Sequences are cut into micro-batches in the order in which they were trained on.

    Args:
        tokens: a run's sampled tokens; each of its steps gives one overlap.
        sequences: of a micro-batch.
        fraction: of the tokens that is selected.
    """
    import torch

    from repro.ops import select_top, token_covariance

    def top(log_probs: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return select_top(token_covariance(log_probs, advantages, mask), mask, fraction)

    found = []
    for _, step in tokens.groupby("step", sort=True):
        place = step["sequence"].to_numpy(), step["position"].to_numpy()
        padded = np.zeros((3, place[0].max() + 1, place[1].max() + 1))
        for layer, values in enumerate((step["log_prob"], step["advantage"], 1.0)):
            padded[(layer, *place)] = values
        whole = torch.from_numpy(padded)
        within = torch.cat([top(*part[:2], part[2] != 0) for part in whole.split(sequences, dim=1)])
        across = top(*whole[:2], whole[2] != 0)
        found.append(float((within & across).sum() / (within | across).sum()))
    return found


@per_seed
def scope_overlap(*runs: Run, sequences: int, fraction: float) -> float:
    """Mean of `overlaps` over the sampled optimizer steps of one seed's runs, runs weighing the same."""
    for run in runs:
        if run.tokens.empty:
            raise NoEffect(f"{run.name} has no sampled tokens")
    return float(np.mean([np.mean(overlaps(run.tokens, sequences=sequences, fraction=fraction)) for run in runs]))


def _entropy_after(run: Run, rollouts: int, window: float) -> float:
    return level_before(run, "entropy", rollouts * run.config.updates_per_rollout, window)


def left_after(run: Run, rollouts: int, window: float) -> float:
    """Entropy after so many rollouts as a share of the base policy's.

    Raises `NoEffect` if the base policy has no entropy.
    """
    start = level_at_step(run, "entropy", 0, 0)
    if start <= 0:
        raise NoEffect(f"the base policy's entropy is {start:.3f} nat")
    return _entropy_after(run, rollouts, window) / start


@per_seed
def entropy_left_by_rollout(run: Run, *beside: Run, window: float) -> float:
    """Share of its entropy that `run` has left at the last rollout that it and the runs `beside` it have."""
    return left_after(run, common_rollout([run, *beside]), window)


@per_seed
def most_entropy_left(*runs: Run, window: float) -> float:
    """The largest share of entropy that one of a seed's runs has left at the last rollout that all of them have."""
    rollouts = common_rollout(runs)
    return max(left_after(run, rollouts, window) for run in runs)


def ending(
    run: Run, rollouts: int, *, window: float, floor: float = 0.1, ceiling: float = 1, drop: float = 0.05
) -> Ending:
    """How a run ends after so many rollouts.

    It collapses if its entropy is under `floor` of the base policy's. Otherwise it explodes if its entropy is over
    `ceiling` of the base policy's, or its accuracy more than `drop` under its best so far. Otherwise it holds.
    """
    step = rollouts * run.config.updates_per_rollout
    left = left_after(run, rollouts, window)
    if left < floor:
        return Ending.COLLAPSES
    curve = accuracy_curve(run)
    best = curve["accuracy"][curve["step"] <= step].max()
    if left > ceiling or best - level_before(run, "accuracy", step, window) > drop:
        return Ending.EXPLODES
    return Ending.HOLDS


@per_seed
def entropy_added_by_rollout(run: Run, other: Run, *, window: float) -> float:
    """Entropy of `run` less that of `other`, in nats, at the last rollout that both have."""
    rollouts = common_rollout([run, other])
    return _entropy_after(run, rollouts, window) - _entropy_after(other, rollouts, window)


@per_seed
def effect_growth(many: Run, many_base: Run, few: Run, few_base: Run, *, window: float) -> float:
    """Entropy that a method adds to its base with many updates per rollout, less what it adds with few, in nats.

    All four are read at the last rollout that they have in common.
    """
    rollouts = common_rollout([many, many_base, few, few_base])
    levels = [_entropy_after(run, rollouts, window) for run in (many, many_base, few, few_base)]
    return (levels[0] - levels[1]) - (levels[2] - levels[3])


def tracking_curve(run: Run) -> pd.DataFrame:
    """Entropy as a controller sees it, by rollout: `step` (updates made, averaged) and `entropy` (token mean, nats)."""
    steps = (run.metrics["step"] - 1.0).groupby((run.metrics["step"] - 1) // run.config.updates_per_rollout).mean()
    return pd.DataFrame({"step": steps, "entropy": by_rollout(run, TOKEN_ENTROPY)}).reset_index(drop=True)


def token_entropy_before(run: Run, step: int, window: float) -> float:
    """Mean of the token-mean entropy in nats over the last `window` of the first `step` steps."""
    return _mean_before(tracking_curve(run), "entropy", step, window)


@per_seed
def tracking_error(run: Run, *, since: float) -> float:
    """Mean distance in nats of a controlled run's entropy from its target, from the fraction `since` of training on."""
    curve = tracking_curve(run)
    late = curve["entropy"][curve["step"] >= since * run.config.max_steps]
    return float((late - run.config.trainer["entropy_target"]).abs().mean())


def describe(runs: Mapping[str, Sequence[Run]], *, window: float = 1 / 8) -> dict[str, str]:
    """Levels of arms at the last step that all of them have, in words: `<arm>_entropy` in nats and `<arm>_accuracy`."""
    step = common_steps([run for group in runs.values() for run in group])
    words = {}
    for arm, group in runs.items():
        for quantity, unit in (("entropy", "nat"), ("accuracy", "share")):
            values = [level_before(run, quantity, step, window) for run in group]
            interval = t_interval(values)[:3] if len(values) > 1 else (values[0], None, None)
            words[f"{arm}_{quantity}"] = spell_interval(*interval, unit)
    return words
