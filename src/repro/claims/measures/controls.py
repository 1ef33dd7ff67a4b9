"""Open questions: controls, scopes and targets that the paper leaves out.

Arms of these questions have runs of different lengths. They are compared at the last optimizer step that all of them
have reached (`common_steps`), or the last rollout where they differ in their updates per rollout (`common_rollout`).
Levels there are means over the last `window` (a fraction) of that stretch.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

import numpy as np
import pandas as pd

from repro.claims.curves import column, common_rollout, common_steps, curve, end_level, level_at
from repro.claims.errors import NoEffect
from repro.claims.measures.collapse import left_after
from repro.claims.reading import load_ledger
from repro.claims.registry import per_seed
from repro.claims.words import spell_seeds
from repro.runs import Run

COLLAPSED, EXPLODED, FALLEN = 0.1, 1.0, 0.05
"""Where `ending` draws its lines: entropy as a share of the base policy's, twice, and accuracy under its best."""


class Ending(StrEnum):
    """How a run ends, by the rules of `ending`."""

    COLLAPSES = "collapses"
    HOLDS = "holds"
    EXPLODES = "explodes"


def _added(run: Run, other: Run, quantity: str, window: float) -> float:
    steps = common_steps([run, other])
    return end_level(run, quantity, window, steps) - end_level(other, quantity, window, steps)


@per_seed
def entropy_added(run: Run, other: Run, *, window: float) -> float:
    """Entropy of `run` less that of `other`, in nats, at the last step that both have reached."""
    return _added(run, other, "entropy", window)


@per_seed
def accuracy_added(run: Run, other: Run, *, window: float) -> float:
    """Accuracy of `run` less that of `other`, as a fraction, at the last step that both have reached."""
    return _added(run, other, "accuracy", window)


@per_seed
def share_of_gap(part: Run, whole: Run, base: Run, *, window: float, minimum: float) -> float:
    """Share of the entropy that `whole` has more than `base` which `part` has more too, at their last common step.

    Raises `NoEffect` if `whole` has less than `minimum` nats more than `base`.
    """
    runs = (part, whole, base)
    part_level, whole_level, base_level = (end_level(run, "entropy", window, common_steps(runs)) for run in runs)
    if whole_level - base_level < minimum:
        raise NoEffect(f"the entropies differ by {whole_level - base_level:.3f} nat, less than {minimum:g}")
    return (part_level - base_level) / (whole_level - base_level)


@per_seed
def accuracy_gained(run: Run, *, window: float) -> float:
    """Accuracy at the end of training less that of the base policy, as a fraction."""
    return end_level(run, "accuracy", window) - level_at(run, "accuracy", 0, window)


def selected_curve(run: Run, share: str) -> pd.DataFrame:
    """`share` of the tokens that a method selected, by rollout: `step` (updates made, averaged) and `share`.

    Args:
        run: of an arm that selects tokens.
        share: the end of a column `selected/<share>`, such as 'positive_advantage'. Steps count by their tokens.
    """
    tokens = column(run, run.metrics, "selected/count")
    share_of_step = column(run, run.metrics, f"selected/{share}", gaps=True)
    # A step that selected nothing has a share of 0 tokens of 0, which is no number.
    made, tokens, share_of_step = (
        values[tokens > 0] for values in (run.metrics["step"].to_numpy() - 1.0, tokens, share_of_step)
    )
    if not tokens.size:
        raise NoEffect("no token was selected")
    steps = pd.DataFrame({"step": made, "share": tokens * share_of_step, "count": tokens})
    table = steps.groupby(made // run.config.updates_per_rollout).agg({"step": "mean", "share": "sum", "count": "sum"})
    return table.assign(share=table["share"] / table["count"]).reset_index(drop=True)


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
    return float(column(run, run.metrics, "selected/fraction").mean() / nominal)


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


def after_rollouts(run: Run, rollouts: int) -> int:
    """Optimizer steps that a run has made after so many rollouts."""
    return rollouts * run.config.updates_per_rollout


def _left(run: Run, rollouts: int, window: float) -> float:
    return left_after(run, after_rollouts(run, rollouts), window)


@per_seed
def entropy_left_by_rollout(run: Run, *beside: Run, window: float) -> float:
    """Share of its entropy that `run` has left at the last rollout that it and the runs `beside` it have."""
    return _left(run, common_rollout([run, *beside]), window)


@per_seed
def most_entropy_left(*runs: Run, window: float) -> float:
    """The largest share of entropy that one of a seed's runs has left at the last rollout that all of them have."""
    return max(_left(run, common_rollout(runs), window) for run in runs)


def ending(run: Run, rollouts: int, window: float) -> Ending:
    """How a run ends after so many rollouts.

    It collapses if its entropy is under `COLLAPSED` of the base policy's. Otherwise it explodes if its entropy is over
    `EXPLODED` of the base policy's, or its accuracy more than `FALLEN` under its best so far. Otherwise it holds.
    """
    steps = after_rollouts(run, rollouts)
    left = left_after(run, steps, window)
    if left < COLLAPSED:
        return Ending.COLLAPSES
    best = curve(run, "accuracy", steps)["accuracy"].max()
    if left > EXPLODED or best - end_level(run, "accuracy", window, steps) > FALLEN:
        return Ending.EXPLODES
    return Ending.HOLDS


def _entropies_by_rollout(runs: Sequence[Run], window: float) -> list[float]:
    rollouts = common_rollout(runs)
    return [end_level(run, "entropy", window, after_rollouts(run, rollouts)) for run in runs]


@per_seed
def entropy_added_by_rollout(run: Run, other: Run, *, window: float) -> float:
    """Entropy of `run` less that of `other`, in nats, at the last rollout that both have."""
    ours, theirs = _entropies_by_rollout([run, other], window)
    return ours - theirs


@per_seed
def effect_growth(many: Run, many_base: Run, few: Run, few_base: Run, *, window: float) -> float:
    """Entropy that a method adds to its base with many updates per rollout, less what it adds with few, in nats.

    All four are read at the last rollout that they have in common.
    """
    levels = _entropies_by_rollout([many, many_base, few, few_base], window)
    return (levels[0] - levels[1]) - (levels[2] - levels[3])


@per_seed
def tracking_error(run: Run, *, since: float) -> float:
    """Mean distance in nats of a controlled run's entropy from its target, from the fraction `since` of training on."""
    points = curve(run, "token_entropy")
    late = points["token_entropy"][points["step"] >= since * run.config.max_steps]
    return float((late - run.config.trainer["entropy_target"]).abs().mean())


def describe(runs: Mapping[str, Sequence[Run]]) -> dict[str, str]:
    """Levels of arms at the last step that all of them have, in words: `<arm>_entropy` in nats and `<arm>_accuracy`."""
    steps, window = (
        common_steps([run for group in runs.values() for run in group]),
        load_ledger().argument("confound", "window"),
    )
    return {
        f"{arm}_{quantity}": spell_seeds([end_level(run, quantity, window, steps) for run in group], unit)
        for arm, group in runs.items()
        for quantity, unit in (("entropy", "nat"), ("accuracy", "share"))
    }
