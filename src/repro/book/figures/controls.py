"""Figures of the open questions: arms beside each other at the last step that all of them have reached.

`runs` maps the names of arms to their runs. A small circle is a seed, a large mark the mean, a line its interval.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from repro import claims
from repro.analysis.intervals import t_interval
from repro.book.figures.style import (
    ACCURACY_COLOUR,
    ENTROPY_COLOUR,
    PALETTE,
    SEED_DOTS,
    STYLE,
    band,
    curves,
    draw_runs,
    panels,
    sampling,
)
from repro.claims import Finding
from repro.claims.measures.controls import (
    Ending,
    common_rollout,
    common_steps,
    ending,
    left_after,
    level_before,
    overlaps,
    selected_curve,
    token_entropy_before,
    tracking_curve,
)
from repro.runs import Run

Runs = Mapping[str, Sequence[Run]]

WINDOW = 1 / 8
"""Levels are means over this last part of the stretch that all arms have, as in the ledger."""
FRACTION = 0.02
MICRO_BATCHES = (4, 8, 16, 32)
TARGETS = (0.1, 0.2, 0.3)

# Clip range: the arm without covariance control, and KL-Cov's.
CLIPS = {
    "0.2": ("grpo8", "kl_cov_clip_20"),
    "0.2 and 0.28": ("clip_higher", "kl_cov_clip_28"),
    "ratio in [0, 2]": ("clip_two", "kl_cov_clip_two"),
    "none": ("unclipped", "kl_cov"),
}
RULES = {
    "kl_cov": "top covariance\n(KL-Cov)",
    "tokens_negative": "the same,\nfailing only",
    "tokens_rare": "rarest of\nfailing",
    "tokens_positive": "top covariance,\nsuccessful",
    "tokens_random": "random",
    "unclipped": "no penalty",
}
SCOPES = ("kl_cov", "scope_step", "scope_micro_4", "scope_micro_16")
UPDATES = (1, 2, 4, 8)
METHODS = {
    "GRPO": ("grpo_u1", "grpo_u2", "grpo_u4", "grpo8"),
    "Clip-Cov": ("clip_cov_u1", "clip_cov_u2", "clip_cov_u4", "clip_cov"),
    "KL-Cov": (None, "kl_cov_u2", "kl_cov_u4", "kl_cov"),
}
CLIP_ARMS = [arm for pair in CLIPS.values() for arm in pair]
MAP_ARMS = [arm for arms in METHODS.values() for arm in arms if arm]
RANDOM = {
    "random_symmetric": "clip 0.2",
    "random_high": "clip 0.2 and 0.28",
    "random_unclipped": "no clip",
}
UNCONTROLLED = {
    "grpo8": ("GRPO", "s"),
    "clip_higher": ("clip-higher", "^"),
    "clip_cov": ("Clip-Cov", "v"),
    "kl_cov": ("KL-Cov", "D"),
    "unclipped": ("no clip", "X"),
}
CONTROLLERS = {"kl_target": ("KL-Cov to a target", "o"), "bonus_target": ("bonus to a target", "P")}
FIXES = {"clip_higher": "clip-higher", "clip_cov": "Clip-Cov", "kl_cov": "KL-Cov"}
TARGET_ARMS = {prefix: [f"{prefix}_{round(100 * target)}" for target in TARGETS] for prefix in CONTROLLERS}
PLANE_ARMS = [*UNCONTROLLED, *(arm for arms in TARGET_ARMS.values() for arm in arms)]
ARMS = list(dict.fromkeys([*CLIP_ARMS, *RULES, *SCOPES, *MAP_ARMS, *RANDOM, *PLANE_ARMS]))
"""All arms whose runs the figures take."""
LEVEL_ARMS = list(dict.fromkeys([*CLIP_ARMS, *RULES, *SCOPES, *RANDOM]))
"""Arms with 8 updates per rollout and one base policy, whose levels can stand beside each other."""

_ENDING_COLOURS = {Ending.COLLAPSES: PALETTE[0], Ending.HOLDS: PALETTE[2], Ending.EXPLODES: PALETTE[3]}
_QUANTITIES = (("entropy", "Entropy (nat per token)", ENTROPY_COLOUR), ("accuracy", "Accuracy (%)", ACCURACY_COLOUR))


class _Row(NamedTuple):
    """A row of a panel of dots: its place from the top, its values by seed, and how its mean is drawn."""

    place: float
    values: Sequence[float]
    colour: Any
    marker: str = "D"


def _levels(runs: Runs, arms: Iterable[str], quantity: str) -> dict[str, list[float]]:
    """Levels of each arm's seeds at the step that all arms have reached; accuracies in per cent."""
    arms = list(arms)
    step = common_steps([run for arm in arms for run in runs[arm]])
    scale = 100 if quantity == "accuracy" else 1
    return {arm: [scale * level_before(run, quantity, step, WINDOW) for run in runs[arm]] for arm in arms}


def _dots(axes: Axes, rows: Sequence[_Row]) -> None:
    """Means with their intervals over the seeds' circles, one row below the other."""
    for place, values, colour, marker in rows:
        if len(values) > 1:
            _, low, high, _, _ = t_interval(values, claims.LEVEL)
            axes.hlines(place, low, high, color=colour, linewidth=2.2)
        axes.plot(np.mean(values), place, color=colour, marker=marker, markersize=8, linestyle="", zorder=4)
        axes.plot(values, np.full(len(values), place), **(SEED_DOTS | {"zorder": 5, "markersize": 4}))
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")


def _named(axes: Axes, labels: Sequence[str]) -> None:
    """Name the rows of a panel of dots and run them from top to bottom."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)


def _seeds(runs: Runs, arms: Iterable[str]) -> str:
    """'n = 3 seeds' or 'n = 3 to 4 seeds'."""
    counts = sorted({len(runs[arm]) for arm in arms})
    return f"n = {' to '.join(dict.fromkeys(map(str, (counts[0], counts[-1]))))} seed{'s' * (counts[-1] > 1)} an arm"


def _marks(runs: Runs, arms: Iterable[str]) -> str:
    return f"Circles: {_seeds(runs, arms)}; large marks: means; lines: their 95 % Student t intervals."


def _moment(runs: Runs, arms: Iterable[str]) -> str:
    step = common_steps([run for arm in arms for run in runs[arm]])
    return f"after {step} optimizer steps, the last that all arms have (means over the last eighth of them)"


def _legend_below(figure: Figure, axes: Axes, columns: int = 2) -> None:
    handles, labels = axes.get_legend_handles_labels()
    kept = {label: handle for label, handle in zip(labels, handles, strict=True) if not label.startswith("_")}
    figure.legend(kept.values(), kept.keys(), loc="outside lower center", ncols=columns)


def clip_grid(runs: Runs) -> Figure:
    """Entropy and accuracy at four clip ranges, without covariance control and with KL-Cov."""
    with mpl.rc_context(STYLE):
        figure, both = panels(2, 6.4)
        for axes, (quantity, title, _) in zip(both, _QUANTITIES, strict=True):
            levels = _levels(runs, CLIP_ARMS, quantity)
            for series, (shift, colour, marker) in enumerate(((-0.17, "0.35", "s"), (0.17, PALETTE[0], "D"))):
                rows = [
                    _Row(row + shift, levels[arms[series]], colour, marker) for row, arms in enumerate(CLIPS.values())
                ]
                _dots(axes, rows)
            _named(axes, list(CLIPS))
            axes.set(title=title, ylabel="Clip range")
        for label, colour, marker in (("no covariance control", "0.35", "s"), ("KL-Cov", PALETTE[0], "D")):
            both[0].plot([], [], color=colour, marker=marker, markersize=8, linewidth=2.2, label=label)
        _legend_below(figure, both[0])
    return figure


def clip_grid_caption(runs: Runs) -> str:
    """Caption of `clip_grid`, with n and the interval."""
    arms = CLIP_ARMS
    return (
        "Entropy (entropy/response_mean) and validation accuracy (mean@k) by the range of PPO's clip, without "
        f"covariance control (squares) and with KL-Cov's penalty on 2 % of the tokens (diamonds), "
        f"{_moment(runs, arms)}. {_marks(runs, arms)}"
    )


def selected(runs: Runs) -> Figure:
    """Of the tokens that KL-Cov selects: share with a positive advantage, and share of probability under 0.1."""
    shares = (
        ("positive_advantage", "With a positive advantage (%)", PALETTE[1]),
        ("probability_below_0.1", "With a probability under 0.1 (%)", PALETTE[0]),
    )
    with mpl.rc_context(STYLE):
        figure, both = panels(2, 5.6)
        for axes, (share, title, colour) in zip(both, shares, strict=True):
            table = pd.concat(
                [selected_curve(run, share).assign(seed=run.config.seed) for run in runs["kl_cov"]], ignore_index=True
            )
            draw_runs(axes, table.assign(share=100 * table["share"]), "step", "share", colour)
            axes.set(title=title, xlabel="", ylabel="", ylim=(0, 100))
            axes.legend(loc="best")
        both[0].tick_params(labelbottom=False)
        both[1].set_xlabel("Optimizer step")
    return figure


def selected_caption(runs: Runs) -> str:
    """Caption of `selected`, with n and the band."""
    return (
        "The tokens that KL-Cov selects: per cent of them with a positive advantage, and per cent that had a "
        f"probability under 0.1 when they were selected, by rollout. {sampling(runs['kl_cov'])}"
    )


def _by_arm(runs: Runs, labels: Mapping[str, str], height: float) -> tuple[Figure, list[Axes]]:
    """Entropy and accuracy by arm, one panel each."""
    figure, axes_of = panels(2, height)
    for axes, (quantity, title, colour) in zip(axes_of, _QUANTITIES, strict=True):
        levels = _levels(runs, labels, quantity)
        _dots(axes, [_Row(row, levels[arm], colour) for row, arm in enumerate(labels)])
        _named(axes, list(labels.values()))
        axes.set(title=title)
    return figure, axes_of


def tokens(runs: Runs) -> Figure:
    """Entropy and accuracy by the rule that chooses the tokens of KL-Cov's penalty."""
    with mpl.rc_context(STYLE):
        return _by_arm(runs, RULES, 7.2)[0]


def tokens_caption(runs: Runs) -> str:
    """Caption of `tokens`, with n and the interval."""
    return (
        "Entropy (entropy/response_mean) and validation accuracy (mean@k) with the same penalty on as many tokens, "
        f"chosen by different rules, and without a penalty, {_moment(runs, RULES)}. {_marks(runs, RULES)}"
    )


def scope(runs: Runs) -> Figure:
    """Fraction selected, entropy and accuracy by the pool in which the top covariances are taken."""
    with mpl.rc_context(STYLE):
        figure, axes_of = panels(3, 7.6)
        fractions = {arm: [100 * float(run.metrics["selected/fraction"].mean()) for run in runs[arm]] for arm in SCOPES}
        axes_of[0].axvline(100 * FRACTION, color="0.4", linestyle=":", linewidth=1)
        _dots(axes_of[0], [_Row(row, fractions[arm], PALETTE[2]) for row, arm in enumerate(SCOPES)])
        axes_of[0].set(title="Tokens selected (%)")
        for axes, (quantity, title, colour) in zip(axes_of[1:], _QUANTITIES, strict=True):
            levels = _levels(runs, SCOPES, quantity)
            _dots(axes, [_Row(row, levels[arm], colour) for row, arm in enumerate(SCOPES)])
            axes.set(title=title)
        for axes in axes_of:
            _named(axes, ["rollout", "optimizer step", *map(_sequences, _micro_sizes(runs))])
    return figure


def _micro_sizes(runs: Runs) -> list[int]:
    """Sequences in a micro-batch of the two arms that select within one."""
    configs = [runs[arm][0].config for arm in SCOPES[2:]]
    return [one.prompts_per_rollout * one.num_generations // one.steps_per_generation for one in configs]


def _sequences(number: int) -> str:
    return f"{number} sequence{'s' * (number != 1)}"


def scope_caption(runs: Runs) -> str:
    """Caption of `scope`, with n and the interval."""
    large, small = _micro_sizes(runs)
    return (
        "KL-Cov with its tokens taken as the top of a rollout, of an optimizer step, and of micro-batches of "
        f"{large} and of {_sequences(small)}: per cent of the tokens selected (mean over training; dotted: the nominal "
        f"2 %), entropy (entropy/response_mean) and validation accuracy (mean@k), the latter two "
        f"{_moment(runs, SCOPES)}. "
        f"{_marks(runs, SCOPES)}"
    )


def overlap(runs: Runs) -> Figure:
    """Overlap of the top within micro-batches with the top of the step, by the micro-batch's number of sequences."""
    with mpl.rc_context(STYLE):
        figure, [axes] = panels(1, 3.6)
        for arm, label, colour, marker in (("kl_cov", "KL-Cov", PALETTE[0], "D"), ("grpo8", "GRPO", "0.35", "s")):
            table = overlap_table(runs[arm])
            means = table.groupby("sequences")["overlap"].mean()
            for size, group in table.groupby("sequences"):
                if len(group) > 1:
                    axes.vlines(size, *band(group["overlap"]), color=colour, linewidth=2.2)
                axes.plot([size] * len(group), group["overlap"], **(SEED_DOTS | {"markersize": 4, "zorder": 5}))
            axes.plot(means.index, means, color=colour, marker=marker, markersize=7, label=label)
        axes.set_xscale("log", base=2)
        axes.set_xticks(MICRO_BATCHES, map(str, MICRO_BATCHES))
        axes.set(
            title="Overlap with the top of the step (Jaccard, %)", xlabel="Sequences in a micro-batch", ylim=(0, 105)
        )
        axes.legend(loc="lower right")
    return figure


def overlap_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Mean overlap in per cent over a run's sampled steps: a row per seed and size of micro-batch."""
    return pd.DataFrame(
        [
            {
                "seed": run.config.seed,
                "sequences": size,
                "overlap": 100 * np.mean(overlaps(run.tokens, sequences=size, fraction=FRACTION)),
            }
            for run in runs
            for size in MICRO_BATCHES
        ]
    )


def overlap_caption(runs: Runs) -> str:
    """Caption of `overlap`, with n and the interval."""
    steps = runs["kl_cov"][0].tokens["step"].nunique()
    return (
        "Tokens in the top 2 % of the covariance both within micro-batches and within their whole optimizer step, as a "
        "share of those in either (Jaccard), computed afterwards from the recorded tokens of "
        f"{steps} steps a run. {_marks(runs, ['kl_cov', 'grpo8'])}"
    )


def ending_table(runs: Runs) -> pd.DataFrame:
    """How each run of the failure map ends: method, updates per rollout, seed, ending, entropy left and accuracy."""
    rollouts = _map_rollouts(runs)
    rows = []
    for method, arms in METHODS.items():
        for updates, arm in zip(UPDATES, arms, strict=True):
            for run in runs[arm] if arm else []:
                step = rollouts * updates
                rows.append(
                    {
                        "method": method,
                        "updates": updates,
                        "seed": run.config.seed,
                        "ending": ending(run, rollouts, window=WINDOW),
                        "entropy_left": left_after(run, rollouts, WINDOW),
                        "accuracy": level_before(run, "accuracy", step, WINDOW),
                    }
                )
    return pd.DataFrame(rows)


def _map_rollouts(runs: Runs) -> int:
    return common_rollout([run for arm in MAP_ARMS for run in runs[arm]])


def failure_map(runs: Runs) -> Figure:
    """How methods end, by updates per rollout: a cell per arm with its runs' endings, entropy left and accuracy."""
    table = ending_table(runs)
    with mpl.rc_context(STYLE):
        figure, [axes] = panels(1, 4.4)
        for row, method in enumerate(METHODS):
            for column, updates in enumerate(UPDATES):
                cell = table[(table["method"] == method) & (table["updates"] == updates)]
                counts = cell["ending"].value_counts()
                colour = _ENDING_COLOURS[counts.idxmax()] if len(cell) else "0.85"
                axes.add_patch(
                    Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, color=colour, alpha=0.35, linewidth=0)
                )
                text = "refused:\nno effect"
                if len(cell):
                    words = [f"{one} {counts[one]}/{len(cell)}" for one in Ending if one in counts.index]
                    left, accuracy = 100 * cell["entropy_left"].mean(), 100 * cell["accuracy"].mean()
                    text = "\n".join([*words, f"{left:.0f} % left", f"{accuracy:.0f} % right"])
                axes.text(column, row, text, ha="center", va="center", fontsize=9)
        axes.set_xticks(range(len(UPDATES)), map(str, UPDATES))
        axes.set_yticks(range(len(METHODS)), METHODS)
        axes.set(xlabel="Updates per rollout", xlim=(-0.5, len(UPDATES) - 0.5), ylim=(len(METHODS) - 0.5, -0.5))
        axes.grid(visible=False)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(length=0)
    return figure


def failure_map_caption(runs: Runs) -> str:
    """Caption of `failure_map`, with the rules and n."""
    rollouts = _map_rollouts(runs)
    return (
        f"How runs end after {rollouts} rollouts, the last that all arms have. Collapses: entropy under 10 % of the "
        "base policy's; explodes: entropy above the base policy's, or accuracy more than 5 points under its best; "
        "holds: neither. Below: mean entropy left, in per cent of the base policy's, and mean validation accuracy. A "
        f"cell has the colour of most of its runs ({_seeds(runs, MAP_ARMS)}, hence no interval)."
    )


def random_rewards(runs: Runs) -> Figure:
    """Entropy and accuracy under random rewards by clip range."""
    with mpl.rc_context(STYLE):
        figure, both = panels(2, 6.2)
        for axes, (quantity, title, _) in zip(both, _QUANTITIES, strict=True):
            for (arm, label), colour, dashes in zip(RANDOM.items(), PALETTE, ("-", "--", ":"), strict=False):
                table = curves(runs[arm], quantity)
                table[quantity] *= 100 if quantity == "accuracy" else 1
                _draw_arm(axes, table, quantity, colour, dashes, label)
            axes.set(title=title, xlabel="", ylabel="")
            axes.legend().remove()
        both[0].tick_params(labelbottom=False)
        both[1].set_xlabel("Optimizer step")
        _legend_below(figure, both[0], 3)
    return figure


def _draw_arm(axes: Axes, table: pd.DataFrame, y: str, colour: Any, dashes: str, label: str) -> None:
    """One arm of several in a panel: thin lines for the seeds, a thick one for their mean, a band for the interval."""
    sns.lineplot(
        table, x="step", y=y, units="seed", estimator=None, color=colour, linewidth=0.7, alpha=0.7, ax=axes,
        label="_seeds",
    )  # fmt: skip
    sns.lineplot(
        table, x="step", y=y, color=colour, linestyle=dashes, linewidth=2.2, errorbar=band, ax=axes, label=label
    )


def random_rewards_caption(runs: Runs) -> str:
    """Caption of `random_rewards`, with n and the band."""
    return (
        "Entropy (entropy/response_mean, by rollout) and validation accuracy (mean@k) while training on rewards that "
        f"are tossed coins, by the range of PPO's clip. {sampling(runs['random_symmetric'])}"
    )


def plane(runs: Runs) -> Figure:
    """Arms in the plane of final entropy and final accuracy: the controlled ones by target, the others as they are."""
    step = common_steps([run for arm in PLANE_ARMS for run in runs[arm]])
    points = {
        arm: (
            [token_entropy_before(run, step, WINDOW) for run in runs[arm]],
            [100 * level_before(run, "accuracy", step, WINDOW) for run in runs[arm]],
        )
        for arm in PLANE_ARMS
    }
    with mpl.rc_context(STYLE):
        figure, [axes] = panels(1, 4.8)
        for target in TARGETS:
            axes.axvline(target, color="0.4", linestyle=":", linewidth=1)
        for arm, (label, marker) in UNCONTROLLED.items():
            _draw_point(axes, points[arm], "0.35", marker)
            axes.plot([], [], color="0.35", marker=marker, markersize=7, linestyle="", label=label)
        for (prefix, (label, marker)), colour in zip(CONTROLLERS.items(), (PALETTE[0], PALETTE[1]), strict=True):
            for arm in TARGET_ARMS[prefix]:
                _draw_point(axes, points[arm], colour, marker)
            axes.plot([], [], color=colour, marker=marker, markersize=7, linestyle="", label=label)
        axes.set(title="Accuracy (%)", xlabel="Entropy (nat, token mean)")
        axes.grid(axis="x")
        _legend_below(figure, axes)
    return figure


def _draw_point(axes: Axes, values: tuple[list[float], list[float]], colour: Any, marker: str) -> None:
    """The mean of an arm in the plane, with the interval of each coordinate, over its seeds."""
    x, y = (np.mean(one) for one in values)
    if len(values[0]) > 1:
        axes.hlines(y, *t_interval(values[0], claims.LEVEL)[1:3], color=colour, linewidth=1.2)
        axes.vlines(x, *t_interval(values[1], claims.LEVEL)[1:3], color=colour, linewidth=1.2)
    axes.plot(*values, **(SEED_DOTS | {"markersize": 3, "markeredgecolor": colour}))
    axes.plot(x, y, color=colour, marker=marker, markersize=7, zorder=4)


def plane_caption(runs: Runs) -> str:
    """Caption of `plane`, with n and the intervals."""
    return (
        "Entropy (entropy/token_mean, which the controllers see) against validation accuracy (mean@k), "
        f"{_moment(runs, PLANE_ARMS)}. Dotted: the targets of the two controllers. {_marks(runs, PLANE_ARMS)}"
    )


def tracking(runs: Runs) -> Figure:
    """Entropy of both controllers over training, a panel a target."""
    with mpl.rc_context(STYLE):
        figure, axes_of = panels(len(TARGETS), 7.2)
        for number, (axes, target) in enumerate(zip(axes_of, TARGETS, strict=True)):
            axes.axhline(target, color="0.2", linewidth=1)
            for (prefix, (label, _)), colour, dashes in zip(CONTROLLERS.items(), PALETTE, ("-", "--"), strict=False):
                group = runs[TARGET_ARMS[prefix][number]]
                table = pd.concat(
                    [tracking_curve(run).assign(seed=run.config.seed) for run in group], ignore_index=True
                )
                _draw_arm(axes, table, "entropy", colour, dashes, label)
            axes.set(title=f"Entropy (nat, token mean), target {target:g}", xlabel="", ylabel="")
            axes.set_ylim(bottom=0)
            axes.legend().remove()
        for axes in axes_of[:-1]:
            axes.tick_params(labelbottom=False)
        axes_of[-1].set_xlabel("Optimizer step")
        _legend_below(figure, axes_of[0])
    return figure


def tracking_caption(runs: Runs) -> str:
    """Caption of `tracking`, with n and the band."""
    return (
        "Entropy (entropy/token_mean, averaged over each rollout) under two controllers with the same target: KL-Cov's "
        "coefficient moved by the error, and TRL's adaptive entropy bonus. Horizontal: the target. "
        f"{sampling(runs['kl_target_10'])}"
    )


def pays(findings: Sequence[Finding]) -> Figure:
    """Accuracy that each fix adds to GRPO, with something to explore and with a single strategy.

    Args:
        findings: of the question `exploration`, whose sub-claims are named by mixture and fix.
    """
    by_name = {finding.subclaim: finding for finding in findings}
    with mpl.rc_context(STYLE):
        figure, both = panels(2, 5.2)
        for axes, (mixture, title) in zip(
            both, (("explore", "Something to explore"), ("single", "A single strategy")), strict=True
        ):
            axes.axvline(0, color="0.4", linewidth=1)
            rows = [(row, by_name[f"{mixture}_{fix}"]) for row, fix in enumerate(FIXES)]
            known = [(row, [100 * value for value in one.values]) for row, one in rows if one.estimate is not None]
            _dots(axes, [_Row(row, values, ACCURACY_COLOUR) for row, values in known])
            _named(axes, list(FIXES.values()))
            axes.set(title=title)
        ends = [axes.get_xlim() for axes in both]
        for axes in both:
            axes.set_xlim(min(low for low, _ in ends), max(high for _, high in ends))
        both[1].set_xlabel("Accuracy added to GRPO (points)")
    return figure


def pays_caption(findings: Sequence[Finding]) -> str:
    """Caption of `pays`, with n and the interval."""
    n = min(finding.n for finding in findings)
    interval = "lines: their 95 % Student t intervals" if n > 1 else "one seed, hence no interval"
    return (
        "Validation accuracy (mean@k, mean over the last eighth of training) of each method less plain GRPO's with the "
        "same seed, in percentage points, on a base policy whose best strategy is rare and at first poor and on one "
        f"with a single strategy. Circles: n = {n} seed{'s' * (n > 1)}; diamonds: means; {interval}."
    )
