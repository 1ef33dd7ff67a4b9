"""Figures of claim 4, the fixes.

Every function takes the runs of all arms by the name of the arm, and uses those that it needs.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

from repro.analysis.intervals import over_seeds
from repro.book import looks
from repro.book.figures import style
from repro.book.figures.style import Arms
from repro.claims import load_ledger
from repro.claims.curves import curves as seed_curves
from repro.claims.curves import paired
from repro.claims.measures import fixes as measures
from repro.claims.measures.fixes import OWN_CLIP, PLAIN
from repro.paper import read_methods, read_results
from repro.runs import Run

METHODS = {
    arm: looks.look(arm)
    for arm in ("grpo8", "clip_higher", "clip_two", "clip_cov", "unclipped", "kl_cov", "grpo8_slow")
}
# The setting that each family of arms varies, and the sub-claim that has the arms in their order. The first arm goes
# without, whatever its config says of the setting.
FAMILIES = {
    "Entropy bonus": ("entropy_coef", "fixes_regularisers", "bonus_entropy"),
    "Reference KL": ("beta", "fixes_regularisers", "reference_entropy"),
    "KL-Cov's weight": ("kl_cov_coef", "fixes_control", "kl_cov_coefficient"),
    "KL-Cov's fraction": ("entropy_control_fraction", "fixes_control", "kl_cov_fraction"),
    "Clip-Cov's fraction": ("entropy_control_fraction", "fixes_control", "clip_cov_fraction"),
}
_QUANTITIES = {
    "entropy": ("Entropy (nat)", 1),
    "accuracy": ("Accuracy (%)", 100),
    "length": ("Response (tokens)", 1),
}


def family(title: str) -> tuple[str, ...]:
    """Arms of a family, in the order of their setting."""
    _, claim, part = FAMILIES[title]
    return load_ledger().claim(claim).part(part).arms


def _settings(title: str, groups: Sequence[Sequence[Run]]) -> list[str]:
    """The levels of a family's setting, as its runs have them; 1 is KL-Cov's weight where none is given."""
    field = FAMILIES[title][0]
    return ["0", *(f"{runs[0].config.trainer.get(field, 1):.6g}" for runs in groups[1:])]


@style.styled("y")
def curves(arms: Arms) -> Figure:
    """Entropy, accuracy and length during training: ours on the left, the paper's Fig. 11 at 7B on the right."""
    paper = read_methods()
    paper = paper[paper["size"] == "7B"]
    figure, panels = style.panels(3, 7, 2, sharex="col")
    for row, (quantity, (title, factor)) in zip(panels, _QUANTITIES.items(), strict=True):
        for arm, look in METHODS.items():
            table = seed_curves(arms[arm], quantity)
            style.draw_runs(
                row[0],
                table.assign(**{quantity: factor * table[quantity]}),
                quantity,
                look.colour,
                look.title,
                look.line,
            )
            theirs = paper[(paper["method"] == look.title) & (paper["quantity"] == quantity)].sort_values("step")
            if len(theirs):
                row[1].plot(
                    theirs["step"], factor * theirs["value"], color=look.colour, linestyle=look.line, linewidth=1.5
                )
        row[0].set_title(title)
        for axes in row:
            axes.tick_params(labelsize="small")
            if quantity == "entropy":
                _logarithmic(axes)
    panels[0][1].set_title("Paper, 7B")
    for axes in panels[2]:
        axes.set_xlabel("Optimizer step")
    style.legend_below(figure, panels[0][0], 3)
    return figure


def curves_caption(arms: Arms) -> str:
    """Caption of `curves`, with n and what the band is."""
    config, n = arms[PLAIN][0].config, len(arms[PLAIN])
    return (
        "Entropy (entropy/response_mean in nats, logarithmic), validation accuracy (per cent) and length of sampled "
        f"responses (tokens) during training with {config.updates_per_rollout} updates a rollout. Left: ours, "
        f"{style.seeds(n)}; line: mean; thin lines: the seeds; {style.interval(n, 'pointwise band')}. Right: the "
        "paper's Fig. 11 at 7B, one run a method, read off the figure (reading error 0.005 nat, 0.15 points, 20 "
        "tokens); it has no unclipped GRPO."
    )


@style.styled("x")
def differences(arms: Arms) -> Figure:
    """Paired differences in accuracy at the end, what could have been detected, and Table 2's at 7B.

    A method stands twice: against GRPO with its own clip, and against plain GRPO as in the paper.
    """
    printed = read_results().set_index(["size", "method"])["average"]["7B"]
    contrasts = [*OWN_CLIP.items(), *((arm, PLAIN) for arm in METHODS if arm != PLAIN)]
    paper_dots = style.PAPER_DOTS | {"markersize": 6}
    figure, [axes] = style.panels(1, 5.2)
    for height, (arm, baseline) in enumerate(contrasts):
        look = METHODS[arm]
        points = 100 * measures.accuracy_differences(arms, arm, baseline)
        if points.size > 1:
            smallest = measures.minimum_detectable(points)
            axes.barh(height, 2 * smallest, left=-smallest, height=0.66, color="0.85", zorder=0)
        axes.plot(points.mean(), height, marker="|", markersize=16, color=look.colour)
        style.draw_seeds(axes, height, points, look.colour, dots=style.SEED_DOTS, width=3)
        if look.title in printed and baseline == PLAIN:
            axes.plot(100 * (printed[look.title] - printed["GRPO"]), height - 0.24, **paper_dots)
    axes.axvline(0, color="0.3", linewidth=1)
    axes.axhline(len(OWN_CLIP) - 0.5, color="0.7", linewidth=1)
    axes.plot([], [], color="0.1", linewidth=3, label="95 % interval")
    axes.plot([], [], label="seeds", **style.SEED_DOTS)
    axes.plot([], [], label="paper, 7B", **paper_dots)
    style.name_rows(axes, [f"{METHODS[arm].title}\nminus {METHODS[baseline].title}" for arm, baseline in contrasts])
    axes.set(xlabel="Difference in accuracy (points)")
    grey = Patch(color="0.85", label=f"too small to detect ({100 * measures.POWER:g} % power)")
    figure.legend(handles=[*axes.get_legend_handles_labels()[0], grey], loc="outside lower center", ncols=2)
    return figure


def differences_caption(arms: Arms) -> str:
    """Caption of `differences`, with n, the interval and the power."""
    printed = read_results().set_index(["size", "method"])["average"]["7B", "GRPO"]
    return (
        f"Validation accuracy over the last {style.part(measures.window())} of training minus a baseline's of the same "
        "seed, in points. Above the line: each method against GRPO with the method's own clip; below: everything "
        f"against plain GRPO, as in the paper. Circles: {style.seeds(len(arms[PLAIN]))}; tick: mean; line: "
        f"{style.INTERVAL} of the mean. Grey: differences too small to be detected with {100 * measures.POWER:g} % "
        "power at this n, from the spread of the paired differences. Diamonds: the paper's at 7B (Table 2), where "
        f"plain GRPO has {100 * printed:.1f} %."
    )


@style.styled("y")
def coverage(arms: Arms) -> Figure:
    """pass@k after training against k, and its paired difference to plain GRPO."""
    powers = _pass_powers(arms)
    figure, [levels, gaps] = style.panels(2, 6.2)
    baseline = _pass_table(arms[PLAIN], powers)
    for place, (arm, method) in enumerate(METHODS.items()):
        table = _pass_table(arms[arm], powers)
        look = {**method.mark, "linestyle": method.line, "markersize": 4}
        levels.plot(powers, 100 * table.mean(), label=method.title, **look)
        if arm == PLAIN:
            continue
        paired_gaps = 100 * (table - baseline).dropna()
        mean, low, high = np.array([over_seeds(paired_gaps[k])[:3] for k in powers], dtype=float).T
        # Side by side, so that no interval hides another.
        at = np.array(powers) * 1.05 ** (place - 3.5)
        gaps.errorbar(at, mean, yerr=np.nan_to_num([mean - low, high - mean]), capsize=2, **look)
    gaps.axhline(0, color="0.3", linewidth=1)
    levels.set_title("pass@k (%)")
    gaps.set(title="Minus GRPO's (points)", xlabel="k")
    for axes in (levels, gaps):
        axes.set_xscale("log", base=2)
        axes.set_xticks(powers, [str(k) for k in powers])
    style.legend_below(figure, levels, 3)
    return figure


def coverage_caption(arms: Arms) -> str:
    """Caption of `coverage`, with n, samples and interval."""
    last, config, n = arms[PLAIN][0].evaluations.iloc[-1], arms[PLAIN][0].config, len(arms[PLAIN])
    return (
        f"pass@k after training (unbiased, from {last['k']:.0f} samples on each of {config.eval_prompts} fixed "
        f"validation problems), mean over {style.seeds(n)}. Below: differences to plain GRPO of the same seed, in "
        f"points; {style.interval(n, 'bars')}."
    )


@style.styled("y")
def levels(arms: Arms) -> Figure:
    """Entropy and accuracy at the end of the common length against the level of each setting."""
    figure, panels = style.panels(len(FAMILIES), 9.5, 2)
    for row, title in zip(panels, FAMILIES, strict=True):
        groups = [arms[arm] for arm in family(title)]
        colour = looks.look(family(title)[-1]).colour
        for axes, quantity in zip(row, ("entropy", "accuracy"), strict=True):
            ends = measures.end_levels(groups, quantity, measures.window())  # [seeds, levels]
            values, place = _QUANTITIES[quantity][1] * ends, np.arange(len(groups))
            axes.plot(place, values.T, color=colour, linewidth=0.7, marker="o", markersize=3)
            axes.plot(place, values.mean(axis=0), color=colour, linewidth=2.2)
            axes.set_xticks(place, _settings(title, groups), rotation=35, ha="right")
            axes.tick_params(labelsize="x-small")
        _logarithmic(row[0])
        row[0].set_title(title, fontsize="small")
    panels[0][1].set_title("Accuracy (%)", fontsize="small")
    figure.supylabel("Entropy (nat)", fontsize="small")
    return figure


def levels_caption(arms: Arms) -> str:
    """Caption of `levels`, with n and the length of each family."""
    sizes: dict[str, list[str]] = {}
    for title in FAMILIES:
        members = {arm: arms[arm] for arm in family(title)}
        size = f"{style.common(members)} steps, n = {len(paired(*members.values()))}"
        sizes.setdefault(size, []).append(title)
    parts = [size if len(sizes) == 1 else f"{', '.join(titles)}: {size}" for size, titles in sizes.items()]
    return (
        "Entropy (left, nats, logarithmic) and validation accuracy (right, per cent) over the last "
        f"{style.part(measures.window())} of the steps that all levels of a setting have ({'; '.join(parts)}). Thin "
        "lines: seeds that all levels have; thick: mean. 0 is plain GRPO for the bonus and the reference KL, unclipped "
        "GRPO for KL-Cov, and GRPO clipped at [0, 2] for Clip-Cov. Intervals of the trends are in the table of "
        "verdicts."
    )


@style.styled("x")
def table_2() -> Figure:
    """Table 2's printed averages, the mean weighted by evaluated responses, and the plain mean over benchmarks."""
    results = read_results()
    looks = {
        "average": {"label": "printed", **style.PAPER_DOTS, "markersize": 9},
        "weighted": {"label": "by responses", "marker": "+", "color": style.PALETTE[1], "markersize": 11},
        "plain": {"label": "by benchmarks", "marker": "o", "color": style.PALETTE[0], "markersize": 7},
    }
    figure, panels = style.panels(2, 4.8)
    for axes, size in zip(panels, ("7B", "32B"), strict=True):
        rows = results[results["size"] == size].reset_index(drop=True)
        axes.hlines(rows.index, 100 * rows["plain"], 100 * rows["weighted"], color="0.8", linewidth=3, zorder=0)
        for column, look in looks.items():
            axes.plot(100 * rows[column], rows.index, **{"linestyle": "", "zorder": 4} | look)
        style.name_rows(axes, rows["method"])
        axes.set_title(f"{size}: mean accuracy (%)")
    style.legend_below(figure, panels[0], 3)
    return figure


def table_2_caption() -> str:
    """Caption of `table_2`."""
    return (
        "The paper's Table 2, one run a row (n = 1, no intervals), in per cent. Diamonds: printed average; crosses: "
        "mean of the seven benchmarks weighted by the responses evaluated in each, 8844 in all, as counted in the data "
        "files of a fork of the authors' code; circles: plain mean of the benchmarks."
    )


def _pass_powers(arms: Arms) -> list[int]:
    """The k of pass@k that the last evaluations of all methods have."""
    samples = min(int(run.evaluations.iloc[-1]["k"]) for arm in METHODS for run in arms[arm])
    return [2**power for power in range(samples.bit_length())]


def _pass_table(runs: Sequence[Run], powers: Sequence[int]) -> pd.DataFrame:
    """pass@k after training as a fraction: a row per seed, a column per k."""
    rows = {run.config.seed: [measures.pass_at(run, k) for k in powers] for run in runs}
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(powers))


def _logarithmic(axes: Axes) -> None:
    """A logarithmic axis with ticks at 1, 2 and 5 of each power of ten, written out."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
