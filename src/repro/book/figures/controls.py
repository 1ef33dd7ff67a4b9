"""Figures of the open questions: arms beside each other at the last step that all of them have reached.

`runs` maps the names of arms to their runs. A small circle is a seed, a large mark the mean, a line its interval.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from repro.book import looks
from repro.book.figures import style
from repro.book.figures.style import PALETTE, PLAIN, Arms
from repro.claims import Finding, load_ledger
from repro.claims.curves import common_rollout, curves, end_level
from repro.claims.measures import controls as measures
from repro.claims.measures.collapse import left_after
from repro.claims.measures.controls import Ending
from repro.runs import Run

MICRO_BATCHES = (4, 8, 16, 32)

# Clip range: the arm without covariance control, and KL-Cov's.
CLIPS = {
    "0.2": ("grpo8", "kl_cov_clip_20"),
    "0.2 and 0.28": ("clip_higher", "kl_cov_clip_28"),
    "ratio in [0, 2]": ("clip_two", "kl_cov_clip_two"),
    "none": ("unclipped", "kl_cov"),
}
MICRO_SCOPES = ("scope_micro_4", "scope_micro_16")
SCOPES = ("kl_cov", *MICRO_SCOPES)
UPDATES = (1, 2, 4, 8)
METHODS = {
    "GRPO": ("grpo_u1", "grpo_u2", None, "grpo8"),
    "Clip-Cov": (None, None, None, "clip_cov"),
    "KL-Cov": (None, "kl_cov_u2", "kl_cov_u4", "kl_cov"),
}
REFUSED = ("KL-Cov", 1)
"""What the trainer refuses: the penalty has no gradient in a first update."""
CLIP_ARMS = [arm for pair in CLIPS.values() for arm in pair]
MAP_ARMS = [arm for arms in METHODS.values() for arm in arms if arm]
RANDOM = "random_symmetric"
UNCONTROLLED = ("grpo8", "clip_higher", "clip_cov", "kl_cov", "unclipped")
# Each controller's name and look, and its arms by target.
_TO_TARGET = replace(looks.METHODS["kl_cov"], marker="o")
CONTROLLERS = {
    ("KL-Cov to a target", _TO_TARGET): ("kl_target_10", "kl_target_20", "kl_target_30"),
    ("Entropy bonus to a target", looks.METHODS["bonus"]): ("bonus_target_10", "bonus_target_20", "bonus_target_30"),
}
FIXES = {
    "kl_cov": "KL-Cov\nminus no clip",
    "kl_cov_plain": "KL-Cov\nminus GRPO",
}
PLANE_ARMS = [*UNCONTROLLED, *(arm for arms in CONTROLLERS.values() for arm in arms)]
ARMS = list(dict.fromkeys([*CLIP_ARMS, *SCOPES, *MAP_ARMS, RANDOM, *PLANE_ARMS]))
"""All arms whose runs the figures take."""
LEVEL_ARMS = list(dict.fromkeys([*CLIP_ARMS, *SCOPES, RANDOM]))
"""Arms with 8 updates per rollout and one base policy, whose levels can stand beside each other."""

_ENDING_COLOURS = {Ending.COLLAPSES: PALETTE[0], Ending.HOLDS: PALETTE[2], Ending.EXPLODES: PALETTE[3]}
_QUANTITIES = (("entropy", "Entropy (nat per token)"), ("accuracy", "Accuracy (%)"))


def _window() -> float:
    """The last part of the stretch that all arms have, over which levels are means: the ledger's."""
    return load_ledger().argument("confound", "window")


def _fraction(run: Run) -> float:
    """The share of tokens that a run's method is to select."""
    return run.config.trainer["entropy_control_fraction"]


def _levels(runs: Arms, arms: Iterable[str], quantity: str) -> dict[str, list[float]]:
    """Levels of each arm's seeds at the step that all arms have reached; accuracies in per cent."""
    members = {arm: runs[arm] for arm in arms}
    steps, scale = style.common(members), 100 if quantity == "accuracy" else 1
    return {
        arm: [scale * end_level(run, quantity, _window(), steps) for run in group] for arm, group in members.items()
    }


def _rows(axes: Axes, title: str, labels: Iterable[str], rows: Mapping[str, Sequence[float]]) -> None:
    """A panel with a row per arm: its seeds, their mean and its interval, in the look of its method."""
    for place, (arm, values) in enumerate(rows.items()):
        style.draw_seeds(axes, place, values, looks.look(arm).colour, mean=looks.look(arm).marker)
    style.name_rows(axes, labels)
    axes.set_title(title)


def _marks(runs: Arms, arms: Iterable[str]) -> str:
    return style.marks({arm: runs[arm] for arm in arms})


def _moment(runs: Arms, arms: Iterable[str]) -> str:
    steps = style.common({arm: runs[arm] for arm in arms})
    last = style.part(_window())
    return f"after {steps} optimizer steps, the last that all arms have (means over the last {last} of them)"


@style.styled("x")
def clip_grid(runs: Arms) -> Figure:
    """Entropy and accuracy at four clip ranges, without covariance control and with KL-Cov."""
    figure, both = style.panels(2, 6.4)
    kl_cov = looks.METHODS["kl_cov"]
    series = ((-0.17, PLAIN, "o", "no covariance control"), (0.17, kl_cov.colour, kl_cov.marker, "KL-Cov"))
    for axes, (quantity, title) in zip(both, _QUANTITIES, strict=True):
        levels = _levels(runs, CLIP_ARMS, quantity)
        for number, (shift, colour, marker, label) in enumerate(series):
            for row, arms in enumerate(CLIPS.values()):
                style.draw_seeds(axes, row + shift, levels[arms[number]], colour, mean=marker)
            axes.plot([], [], color=colour, marker=marker, markersize=8, linewidth=2.2, label=label)
        style.name_rows(axes, CLIPS)
        axes.set(title=title, ylabel="Clip range")
    style.legend_below(figure, both[0])
    return figure


def clip_grid_caption(runs: Arms) -> str:
    """Caption of `clip_grid`, with n and the interval."""
    return (
        "Entropy (entropy/response_mean) and validation accuracy (mean@k) by the range of PPO's clip, without "
        f"covariance control (squares) and with KL-Cov's penalty on {100 * _fraction(runs['kl_cov'][0]):g} % of the "
        f"tokens (diamonds), {_moment(runs, CLIP_ARMS)}. {_marks(runs, CLIP_ARMS)}"
    )


@style.styled("y")
def selected(runs: Arms) -> Figure:
    """Of the tokens that KL-Cov selects: share with a positive advantage, and share of probability under 0.1."""
    shares = (
        ("positive_advantage", "With a positive advantage (%)"),
        ("probability_below_0.1", "With a probability under 0.1 (%)"),
    )
    figure, both = style.panels(2, 5.6)
    for axes, (share, title) in zip(both, shares, strict=True):
        table = pd.concat([measures.selected_curve(run, share).assign(seed=run.config.seed) for run in runs["kl_cov"]])
        style.draw_runs(axes, table.assign(share=100 * table["share"]), "share", looks.METHODS["kl_cov"].colour)
        axes.set(title=title, ylim=(0, 100))
        axes.legend(loc="best")
    style.stacked(both, "Optimizer step")
    return figure


def selected_caption(runs: Arms) -> str:
    """Caption of `selected`, with n and the band."""
    return (
        "The tokens that KL-Cov selects: per cent of them with a positive advantage, and per cent that had a "
        f"probability under 0.1 when they were selected, by rollout. {style.sampling(runs['kl_cov'])}"
    )


@style.styled("x")
def scope(runs: Arms) -> Figure:
    """Fraction selected, entropy and accuracy by the pool in which the top covariances are taken."""
    figure, [share, *others] = style.panels(3, 7.6)
    labels = ["rollout", *(_sequences(size) for size in _micro_sizes(runs))]
    share.axvline(100 * _fraction(runs["kl_cov"][0]), **style.GUIDE)
    fractions = {arm: [100 * float(run.metrics["selected/fraction"].mean()) for run in runs[arm]] for arm in SCOPES}
    _rows(share, "Tokens selected (%)", labels, fractions)
    for axes, (quantity, title) in zip(others, _QUANTITIES, strict=True):
        _rows(axes, title, labels, _levels(runs, SCOPES, quantity))
    return figure


def _micro_sizes(runs: Arms) -> list[int]:
    """Sequences in a micro-batch of each arm that selects within one."""
    configs = (runs[arm][0].config for arm in MICRO_SCOPES)
    return [one.prompts_per_rollout * one.num_generations // one.steps_per_generation for one in configs]


def _sequences(number: int) -> str:
    return f"{number} sequence{'s' * (number != 1)}"


def scope_caption(runs: Arms) -> str:
    """Caption of `scope`, with n and the interval."""
    sizes = " and ".join(map(str, _micro_sizes(runs)))
    return (
        f"KL-Cov with its tokens taken as the top of a rollout, and of micro-batches of {sizes} sequences: "
        "per cent of the tokens selected (mean over training; dotted: the nominal "
        f"{100 * _fraction(runs['kl_cov'][0]):g} %), entropy (entropy/response_mean) and validation accuracy (mean@k), "
        f"the latter two {_moment(runs, SCOPES)}. {_marks(runs, SCOPES)}"
    )


@style.styled("y")
def overlap(runs: Arms) -> Figure:
    """Overlap of the top within micro-batches with the top of the step, by the micro-batch's number of sequences."""
    figure, [axes] = style.panels(1, 3.6)
    for arm in ("kl_cov", "grpo8"):
        look = looks.look(arm)
        table = overlap_table(runs[arm], _fraction(runs["kl_cov"][0]))
        for size, group in table.groupby("sequences")["overlap"]:
            style.draw_seeds(axes, size, group, look.colour, upright=True)
        means = table.groupby("sequences")["overlap"].mean()
        axes.plot(means.index, means, **look.mark, markersize=7, label=look.title)
    axes.set_xscale("log", base=2)
    axes.set_xticks(MICRO_BATCHES, map(str, MICRO_BATCHES))
    axes.set(title="Overlap with the top of the step (Jaccard, %)", xlabel="Sequences in a micro-batch", ylim=(0, 105))
    axes.legend(loc="lower right")
    return figure


def overlap_table(runs: Sequence[Run], fraction: float) -> pd.DataFrame:
    """Mean overlap in per cent over a run's sampled steps: a row per seed and size of micro-batch."""
    rows = [
        (run.config.seed, size, 100 * np.mean(measures.overlaps(run.tokens, sequences=size, fraction=fraction)))
        for run in runs
        for size in MICRO_BATCHES
    ]
    return pd.DataFrame(rows, columns=["seed", "sequences", "overlap"])


def overlap_caption(runs: Arms) -> str:
    """Caption of `overlap`, with n and the interval."""
    run = runs["kl_cov"][0]
    return (
        f"Tokens in the top {100 * _fraction(run):g} % of the covariance both within micro-batches and within their "
        "whole optimizer step, as a share of those in either (Jaccard), computed afterwards from the recorded tokens "
        f"of {run.tokens['step'].nunique()} steps a run. {_marks(runs, ['kl_cov', 'grpo8'])}"
    )


def ending_table(runs: Arms) -> pd.DataFrame:
    """How each run of the failure map ends: method, updates per rollout, seed, ending, entropy left and accuracy."""
    rollouts, window = _map_rollouts(runs), _window()
    rows = []
    for method, arms in METHODS.items():
        for run in (run for arm in arms if arm for run in runs[arm]):
            steps = measures.after_rollouts(run, rollouts)
            rows.append(
                {
                    "method": method,
                    "updates": run.config.updates_per_rollout,
                    "seed": run.config.seed,
                    "ending": measures.ending(run, rollouts, window),
                    "entropy_left": left_after(run, steps, window),
                    "accuracy": end_level(run, "accuracy", window, steps),
                }
            )
    return pd.DataFrame(rows)


def _map_rollouts(runs: Arms) -> int:
    return common_rollout([run for arm in MAP_ARMS for run in runs[arm]])


@style.styled("y")
def failure_map(runs: Arms) -> Figure:
    """How methods end, by updates per rollout: a cell per arm with its runs' endings, entropy left and accuracy."""
    table = ending_table(runs)
    figure, [axes] = style.panels(1, 4.4)
    for row, method in enumerate(METHODS):
        for column, updates in enumerate(UPDATES):
            cell = table[(table["method"] == method) & (table["updates"] == updates)]
            counts = cell["ending"].value_counts()
            refused = (method, updates) == REFUSED
            colour, text = "0.85", "refused:\nno effect" if refused else "not run"
            if len(cell):
                colour = _ENDING_COLOURS[counts.idxmax()]
                words = [f"{one} {counts[one]}/{len(cell)}" for one in Ending if one in counts.index]
                left, accuracy = 100 * cell["entropy_left"].mean(), 100 * cell["accuracy"].mean()
                text = "\n".join([*words, f"{left:.0f} % left", f"{accuracy:.0f} % right"])
            axes.add_patch(Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, color=colour, alpha=0.35, linewidth=0))
            axes.text(column, row, text, ha="center", va="center", fontsize=9)
    axes.set_xticks(range(len(UPDATES)), map(str, UPDATES))
    style.name_rows(axes, METHODS)
    axes.set(xlabel="Updates per rollout", xlim=(-0.5, len(UPDATES) - 0.5))
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    return figure


def failure_map_caption(runs: Arms) -> str:
    """Caption of `failure_map`, with the rules and n."""
    return (
        f"How runs end after {_map_rollouts(runs)} rollouts, the last that all arms have. Collapses: entropy under "
        f"{100 * measures.COLLAPSED:g} % of the base policy's; explodes: entropy above the base policy's, or accuracy "
        f"more than {100 * measures.FALLEN:g} points under its best; holds: neither. Below: mean entropy left, in per "
        "cent of the base policy's, and mean validation accuracy. A cell has the colour of most of its runs "
        f"({style.seeds(*(len(runs[arm]) for arm in MAP_ARMS))} an arm, hence no interval)."
    )


@style.styled("y")
def random_rewards(runs: Arms) -> Figure:
    """Entropy and accuracy under random rewards."""
    figure, both = style.panels(2, 6.2)
    for axes, (quantity, title) in zip(both, _QUANTITIES, strict=True):
        table = curves(runs[RANDOM], quantity)
        table[quantity] *= 100 if quantity == "accuracy" else 1
        style.draw_runs(axes, table, quantity, looks.look("grpo8").colour)
        axes.set_title(title)
    style.stacked(both, "Optimizer step")
    return figure


def random_rewards_caption(runs: Arms) -> str:
    """Caption of `random_rewards`, with n and the band."""
    return (
        "Entropy (entropy/response_mean, by rollout) and validation accuracy (mean@k) while training on rewards that "
        f"are tossed coins, with PPO's symmetric clip. {style.sampling(runs[RANDOM])}"
    )


def _targets(runs: Arms) -> list[float]:
    """The entropies in nats that the controllers are to hold."""
    [arms, *_] = CONTROLLERS.values()
    return [runs[arm][0].config.trainer["entropy_target"] for arm in arms]


@style.styled("both")
def plane(runs: Arms) -> Figure:
    """Arms in the plane of final entropy and final accuracy: the controlled ones by target, the others as they are."""
    entropies, accuracies = (_levels(runs, PLANE_ARMS, quantity) for quantity in ("token_entropy", "accuracy"))
    series = [(looks.name(arm), looks.look(arm), (arm,)) for arm in UNCONTROLLED]
    series += [(label, look, arms) for (label, look), arms in CONTROLLERS.items()]
    figure, [axes] = style.panels(1, 4.8)
    for target in _targets(runs):
        axes.axvline(target, **style.GUIDE)
    for label, look, arms in series:
        for arm in arms:
            _draw_point(axes, entropies[arm], accuracies[arm], look.colour, look.marker)
        axes.plot([], [], **look.mark, markersize=7, linestyle="", label=label)
    axes.set(title="Accuracy (%)", xlabel="Entropy (nat, token mean)")
    style.legend_below(figure, axes)
    return figure


def _draw_point(axes: Axes, x: Sequence[float], y: Sequence[float], colour: Any, marker: str) -> None:
    """The mean of an arm in the plane, with the interval of each coordinate, over its seeds."""
    style.draw_seeds(axes, np.mean(y), x, colour, dots=None, width=1.2)
    style.draw_seeds(axes, np.mean(x), y, colour, upright=True, dots=None, width=1.2)
    axes.plot(x, y, **(style.SEED_DOTS | {"markersize": 3, "markeredgecolor": colour}))
    axes.plot(np.mean(x), np.mean(y), color=colour, marker=marker, markersize=7, zorder=4)


def plane_caption(runs: Arms) -> str:
    """Caption of `plane`, with n and the intervals."""
    return (
        "Entropy (entropy/token_mean, which the controllers see) against validation accuracy (mean@k), "
        f"{_moment(runs, PLANE_ARMS)}. Dotted: the targets of the two controllers. {_marks(runs, PLANE_ARMS)}"
    )


@style.styled("y")
def tracking(runs: Arms) -> Figure:
    """Entropy of both controllers over training, a panel a target."""
    targets = _targets(runs)
    figure, panels = style.panels(len(targets), 7.2)
    for number, (axes, target) in enumerate(zip(panels, targets, strict=True)):
        axes.axhline(target, color="0.2", linewidth=1)
        for (label, look), arms in CONTROLLERS.items():
            style.draw_runs(
                axes, curves(runs[arms[number]], "token_entropy"), "token_entropy", look.colour, label, look.line
            )
        axes.set_title(f"Entropy (nat, token mean), target {target:g}")
        axes.set_ylim(bottom=0)
    style.stacked(panels, "Optimizer step")
    style.legend_below(figure, panels[0])
    return figure


def tracking_caption(runs: Arms) -> str:
    """Caption of `tracking`, with n and the band."""
    return (
        "Entropy (entropy/token_mean, averaged over each rollout) under two controllers with the same target: KL-Cov's "
        "coefficient moved by the error, and TRL's adaptive entropy bonus. Horizontal: the target. "
        f"{style.sampling(runs['kl_target_10'])}"
    )


@style.styled("x")
def pays(findings: Sequence[Finding]) -> Figure:
    """Accuracy that KL-Cov adds to its baselines, with something to explore and with a single strategy.

    Args:
        findings: of the question `exploration`, whose sub-claims are named by mixture and contrast.
    """
    by_name = {finding.subclaim: finding for finding in findings}
    figure, both = style.panels(2, 5.2)
    mixtures = {"explore": "Something to explore", "single": "A single strategy"}
    for axes, (mixture, title) in zip(both, mixtures.items(), strict=True):
        axes.axvline(0, color="0.4", linewidth=1)
        known = [by_name[f"{mixture}_{fix}"] for fix in FIXES]
        rows = {
            fix: [] if one.estimate is None else [100 * value for value in one.values]
            for fix, one in zip(FIXES, known, strict=True)
        }
        _rows(axes, title, FIXES.values(), rows)
    ends = [axes.get_xlim() for axes in both]
    for axes in both:
        axes.set_xlim(min(low for low, _ in ends), max(high for _, high in ends))
    both[1].set_xlabel("Accuracy added (points)")
    return figure


def pays_caption(findings: Sequence[Finding]) -> str:
    """Caption of `pays`, with n and the interval."""
    counts, window = [finding.n for finding in findings], load_ledger().argument("exploration", "window")
    return (
        f"Validation accuracy (mean@k, mean over the last {style.part(window)} of training) of KL-Cov less a "
        "baseline's with the same seed, in percentage points, on a base policy whose best strategy is rare and at "
        f"first poor and on one with a single strategy. Circles: {style.seeds(*counts)}; diamonds: means; "
        f"{style.interval(min(counts), 'lines')}."
    )
