"""Figures of claim 4, the fixes.

Every function takes the runs of all arms by the name of the arm, and uses those that it needs.
"""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

from repro import claims
from repro.analysis.intervals import t_interval
from repro.book.figures import style
from repro.claims.measures import fixes as measures
from repro.claims.measures.fixes import BASELINE, WINDOW
from repro.paper import read_methods, read_results
from repro.runs import Run

# Name, the paper's name, colour, line and marker of each method, so that colour alone carries nothing.
METHODS = {
    "grpo8": ("GRPO", style.PALETTE[7], "-", "o"),
    "clip_higher": ("Clip-higher", style.PALETTE[1], "--", "s"),
    "clip_cov": ("Clip-Cov", style.PALETTE[2], "-.", "^"),
    "kl_cov": ("KL-Cov", style.PALETTE[0], "-", "D"),
    "unclipped": ("unclipped", style.PALETTE[3], ":", "v"),
}
FAMILIES = {
    "Entropy bonus": {
        "grpo8": "0",
        "bonus_1e4": "0.0001",
        "bonus_1e3": "0.001",
        "bonus_5e3": "0.005",
        "bonus_1e2": "0.01",
        "bonus_1e1": "0.1",
    },
    "Reference KL": {"grpo8": "0", "ref_001": "0.001", "ref_01": "0.01", "ref_05": "0.05", "ref_1": "0.1"},
    "KL-Cov's weight": {
        "unclipped": "0",
        "kl_cov_coef_005": "0.05",
        "kl_cov_coef_01": "0.1",
        "kl_cov_coef_05": "0.5",
        "kl_cov": "1",
    },
    "KL-Cov's fraction": {
        "unclipped": "0",
        "kl_cov_fraction_002": "0.002",
        "kl_cov": "0.02",
        "kl_cov_fraction_05": "0.05",
    },
    "Clip-Cov's fraction": {
        "clip_two": "0",
        "clip_cov_fraction_0002": "0.0002",
        "clip_cov": "0.002",
        "clip_cov_fraction_02": "0.02",
    },
}
_QUANTITIES = {
    "entropy": ("Entropy (nat)", 1),
    "accuracy": ("Accuracy (%)", 100),
    "length": ("Response (tokens)", 1),
}
_READ = {"entropy": claims.entropy_curve, "accuracy": claims.accuracy_curve, "length": measures.length_curve}

Arms = Mapping[str, Sequence[Run]]


def curves(arms: Arms) -> Figure:
    """Entropy, accuracy and length during training: ours on the left, the paper's Fig. 11 at 7B on the right."""
    paper = read_methods()
    paper = paper[paper["size"] == "7B"]
    with mpl.rc_context(style.STYLE):
        figure = Figure(figsize=(5, 7), layout="constrained")
        panels = figure.subplots(3, 2, sharex="col")
        for row, (quantity, (title, factor)) in zip(panels, _QUANTITIES.items(), strict=True):
            for arm, (name, colour, line, _) in METHODS.items():
                table = pd.concat([_READ[quantity](run).assign(seed=run.config.seed) for run in arms[arm]])
                _draw_arm(row[0], table.assign(**{quantity: factor * table[quantity]}), quantity, colour, line, name)
                theirs = paper[(paper["method"] == name) & (paper["quantity"] == quantity)].sort_values("step")
                if len(theirs):
                    row[1].plot(theirs["step"], factor * theirs["value"], color=colour, linestyle=line, linewidth=1.5)
            row[0].set_title(title)
            for axes in row:
                axes.set(xlabel="", ylabel="")
                axes.tick_params(labelsize="small")
                if quantity == "entropy":
                    _logarithmic(axes)
        panels[0, 1].set_title("Paper, 7B")
        for axes in panels[2]:
            axes.set_xlabel("Optimizer step")
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def curves_caption(arms: Arms) -> str:
    """Caption of `curves`, with n and what the band is."""
    config = arms[BASELINE][0].config
    return (
        "Entropy (entropy/response_mean in nats, logarithmic), validation accuracy (per cent) and length of sampled "
        f"responses (tokens) during training with {config.updates_per_rollout} updates a rollout. Left: ours, "
        f"{_count(arms[BASELINE])}; line: mean; thin lines: the seeds; {_band(arms[BASELINE])}. Right: the paper's "
        "Fig. 11 at 7B, one run a method, read off the figure (reading error 0.005 nat, 0.15 points, 20 tokens); it "
        "has no unclipped GRPO."
    )


def differences(arms: Arms) -> Figure:
    """Paired differences in accuracy at the end to plain GRPO, what could have been detected, and Table 2's at 7B."""
    printed = read_results().set_index(["size", "method"])["average"]["7B"]
    others = [arm for arm in METHODS if arm != BASELINE]
    with mpl.rc_context(style.STYLE | {"axes.grid.axis": "x"}):
        figure, [axes] = style.panels(1, 3.9)
        for height, arm in enumerate(others):
            points = 100 * measures.accuracy_differences(arms, arm)
            if points.size > 1:
                smallest = measures.minimum_detectable(points)
                axes.barh(height, 2 * smallest, left=-smallest, height=0.66, color="0.85", zorder=0)
                _, low, high, _, _ = t_interval(points, claims.LEVEL)
                axes.hlines(height, low, high, color=METHODS[arm][1], linewidth=3)
            axes.plot(points.mean(), height, marker="|", markersize=16, color=METHODS[arm][1])
            axes.plot(points, np.full(points.size, height), **style.SEED_DOTS)
            name = METHODS[arm][0]
            if name in printed:
                axes.plot(
                    100 * (printed[name] - printed["GRPO"]), height - 0.24, **style.PAPER_DOTS | {"markersize": 6}
                )
        axes.axvline(0, color="0.3", linewidth=1)
        axes.plot([], [], color="0.1", linewidth=3, label="95 % interval")
        axes.plot([], [], label="seeds", **style.SEED_DOTS)
        axes.plot([], [], label="paper, 7B", **style.PAPER_DOTS | {"markersize": 6})
        axes.set_yticks(range(len(others)), [METHODS[arm][0] for arm in others])
        axes.invert_yaxis()
        axes.set(xlabel="Accuracy minus GRPO's (points)")
        grey = Patch(color="0.85", label="too small to detect (80 % power)")
        figure.legend(handles=[*axes.get_legend_handles_labels()[0], grey], loc="outside lower center", ncols=2)
    return figure


def differences_caption(arms: Arms) -> str:
    """Caption of `differences`, with n, the interval and the power."""
    return (
        "Validation accuracy over the last 1/8 of training minus plain GRPO's of the same seed, in points. Circles: "
        f"{_count(arms[BASELINE])}; tick: mean; line: 95 % Student t interval of the mean. Grey: differences too small "
        "to be detected with 80 % power at this n, from the spread of the paired differences. Diamonds: the paper's at "
        "7B (Table 2), where plain GRPO has 38.6 %."
    )


def coverage(arms: Arms) -> Figure:
    """pass@k after training against k, and its paired difference to plain GRPO."""
    powers = pass_powers(arms)
    with mpl.rc_context(style.STYLE):
        figure, [levels, gaps] = style.panels(2, 6.2)
        baseline = _pass_table(arms[BASELINE], powers)
        for place, (arm, (name, colour, line, marker)) in enumerate(METHODS.items()):
            table = _pass_table(arms[arm], powers)
            look = {"color": colour, "linestyle": line, "marker": marker, "markersize": 4}
            levels.plot(powers, 100 * table.mean(), label=name, **look)
            if arm == BASELINE:
                continue
            paired = 100 * (table - baseline).dropna()
            # Side by side, so that no interval hides another.
            at = np.array(powers) * 1.06 ** (place - 2.5)
            ends = np.array([style.band(paired[k]) for k in powers]).T
            mean = paired.mean().to_numpy()
            gaps.errorbar(at, mean, yerr=np.abs(ends - mean), capsize=2, **look)
        gaps.axhline(0, color="0.3", linewidth=1)
        levels.set(title="pass@k (%)", xlabel="", ylabel="")
        gaps.set(title="Minus GRPO's (points)", xlabel="k", ylabel="")
        for axes in (levels, gaps):
            axes.set_xscale("log", base=2)
            axes.set_xticks(powers, [str(k) for k in powers])
        figure.legend(*levels.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def coverage_caption(arms: Arms) -> str:
    """Caption of `coverage`, with n, samples and interval."""
    last, config = arms[BASELINE][0].evaluations.iloc[-1], arms[BASELINE][0].config
    interval = (
        "bars: 95 % Student t intervals of the mean" if len(arms[BASELINE]) > 1 else "one seed, hence no interval"
    )
    return (
        f"pass@k after training (unbiased, from {last['k']:.0f} samples on each of {config.eval_prompts} fixed "
        f"validation problems), mean over {_count(arms[BASELINE])}. Below: differences to plain GRPO of the same seed, "
        f"in points; {interval}."
    )


def levels(arms: Arms) -> Figure:
    """Entropy and accuracy at the end of the common length against the level of each setting."""
    with mpl.rc_context(style.STYLE):
        figure = Figure(figsize=(5, 9.5), layout="constrained")
        panels = figure.subplots(len(FAMILIES), 2)
        for row, (title, family) in zip(panels, FAMILIES.items(), strict=True):
            groups = [arms[arm] for arm in family]
            for axes, quantity, colour in (
                (row[0], "entropy", style.ENTROPY_COLOUR),
                (row[1], "accuracy", style.ACCURACY_COLOUR),
            ):
                values = _QUANTITIES[quantity][1] * measures.end_levels(groups, quantity, WINDOW)  # [seeds, levels]
                place = np.arange(len(groups))
                axes.plot(place, values.T, color=colour, linewidth=0.7, marker="o", markersize=3)
                axes.plot(place, values.mean(axis=0), color=colour, linewidth=2.2)
                axes.set_xticks(place, family.values(), rotation=35, ha="right")
                axes.tick_params(labelsize="x-small")
            _logarithmic(row[0])
            row[0].set_title(title, fontsize="small")
        panels[0, 1].set_title("Accuracy (%)", fontsize="small")
        figure.supylabel("Entropy (nat)", fontsize="small")
    return figure


def levels_caption(arms: Arms) -> str:
    """Caption of `levels`, with n and the length of each family."""
    sizes: dict[str, list[str]] = {}
    for title, family in FAMILIES.items():
        groups = [arms[arm] for arm in family]
        seeds = set.intersection(*({run.config.seed for run in group} for group in groups))
        steps = measures.common_steps([run for group in groups for run in group])
        sizes.setdefault(f"{steps} steps, n = {len(seeds)}", []).append(title)
    parts = [size if len(sizes) == 1 else f"{', '.join(titles)}: {size}" for size, titles in sizes.items()]
    return (
        "Entropy (left, nats, logarithmic) and validation accuracy (right, per cent) over the last 1/8 of the steps "
        f"that all levels of a setting have ({'; '.join(parts)}). Thin lines: seeds that all levels have; thick: mean. "
        "0 is plain GRPO for the bonus and the reference KL, unclipped GRPO for KL-Cov, and GRPO clipped at [0, 2] for "
        "Clip-Cov. Intervals of the trends are in the table of verdicts."
    )


def table_2() -> Figure:
    """Table 2's printed averages, the mean weighted by evaluated responses, and the plain mean over benchmarks."""
    results = read_results()
    with mpl.rc_context(style.STYLE | {"axes.grid.axis": "x"}):
        figure, panels = style.panels(2, 4.8)
        for axes, size in zip(panels, ("7B", "32B"), strict=True):
            rows = results[results["size"] == size].reset_index(drop=True)
            axes.hlines(rows.index, 100 * rows["plain"], 100 * rows["weighted"], color="0.8", linewidth=3, zorder=0)
            _table_dots(axes, rows)
            axes.set_yticks(rows.index, rows["method"])
            axes.invert_yaxis()
            axes.set(title=f"{size}: mean accuracy (%)", xlabel="")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _table_dots(axes: Axes, rows: pd.DataFrame) -> None:
    looks = {
        "average": {"label": "printed", **style.PAPER_DOTS, "markersize": 9},
        "weighted": {"label": "by responses", "marker": "+", "color": style.PALETTE[1], "markersize": 11},
        "plain": {"label": "by benchmarks", "marker": "o", "color": style.PALETTE[0], "markersize": 7},
    }
    for column, look in looks.items():
        axes.plot(100 * rows[column], rows.index, **{"linestyle": "", "zorder": 4} | look)


def table_2_caption() -> str:
    """Caption of `table_2`."""
    return (
        "The paper's Table 2, one run a row (n = 1, no intervals), in per cent. Diamonds: printed average; crosses: "
        "mean of the seven benchmarks weighted by the responses evaluated in each, 8844 in all, as counted in the data "
        "files of a fork of the authors' code; circles: plain mean of the benchmarks."
    )


def pass_powers(arms: Arms) -> list[int]:
    """The k of pass@k that the last evaluations of all methods have."""
    samples = min(int(run.evaluations.iloc[-1]["k"]) for arm in METHODS for run in arms[arm])
    return [2**power for power in range(samples.bit_length())]


def _pass_table(runs: Sequence[Run], powers: Sequence[int]) -> pd.DataFrame:
    """pass@k after training as a fraction: a row per seed, a column per k."""
    rows = {run.config.seed: [measures.pass_at(run, k) for k in powers] for run in runs}
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(powers))


def _draw_arm(axes: Axes, table: pd.DataFrame, quantity: str, colour: tuple, line: str, name: str) -> None:
    """Mean over seeds with its band, and the seeds as thin lines."""
    for _, one in table.groupby("seed"):
        axes.plot(one["step"], one[quantity], color=colour, linewidth=0.5, alpha=0.5)
    grouped = table.groupby("step")[quantity]
    low, high = np.array([style.band(values) for _, values in grouped]).T
    mean = grouped.mean()
    axes.fill_between(mean.index, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(mean.index, mean, color=colour, linestyle=line, linewidth=1.8, label=name)


def _logarithmic(axes: Axes) -> None:
    """A logarithmic axis with ticks at 1, 2 and 5 of each power of ten, written out."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _count(runs: Sequence[Run]) -> str:
    return f"n = {len(runs)} seed{'s' * (len(runs) != 1)}"


def _band(runs: Sequence[Run]) -> str:
    return "band: pointwise 95 % Student t interval" if len(runs) > 1 else "one seed, hence no interval"
