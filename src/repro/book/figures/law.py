"""Figures and tables of claim 2, the law R = -a exp(H) + b.

Runs without a fit (entropy that changes by less than the ledger's minimum) are drawn without one, and tables say of how
many runs a number is.
"""

from collections.abc import Callable, Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repro import paper
from repro.analysis import law
from repro.analysis.intervals import t_interval
from repro.analysis.law import LawFit, LeftOut, SizeTrend, Trajectory
from repro.book.figures import style
from repro.claims import NoEffect, spell, spell_interval
from repro.claims.measures import law as measures
from repro.runs import Run

MINIMUM = 0.05
"""Nats by which entropy has to fall, as in the ledger."""
CONSUMED, LEAST_POINTS = 0.5, 4
MARGIN = 0.2
WINDOW = 1 / 24
END = 1 / 8
"""Of a run under control, as in the ledger: these runs are short and have few evaluations."""

_MARKERS = "osDv^P*X"
_LEFT_OUT = {"linestyle": "", "marker": "D", "markersize": 7, "color": style.PAPER_COLOUR, "capsize": 3, "zorder": 4}
_PAPER_NAMES = {
    "fig1": "Fig. 1 (left)",
    "32B": "Fig. 11, GRPO at 32B",
    "7B": "Fig. 11, GRPO at 7B",
}

_COMPARED = (
    ("grpo", "rloo", "reinforce_pp", "prime"),
    ("size_xs", "grpo", "size_sm", "size_m"),
    ("grpo", "easy", "hard"),
    ("clip_higher", "clip_cov", "kl_cov", "kl_target_10", "kl_target_20", "kl_target_30"),
)

Groups = Mapping[str, Sequence[Run]]
Cut = Callable[[Trajectory], float]


def compared(groups: Groups) -> list[Groups]:
    """The groups that are compared with each other: algorithms, sizes, training data, controlled entropy."""
    return [{arm: groups[arm] for arm in arms} for arms in _COMPARED]


def _fits(runs: Sequence[Run], steps: int | None = None) -> list[tuple[Run, LawFit]]:
    """Runs with their fits, without those that have none."""
    found = []
    for run in runs:
        try:
            found.append((run, measures.fit_run(run, MINIMUM, steps)))
        except NoEffect:
            continue
    return found


def _common(groups: Groups) -> int:
    return measures.common_steps([run for runs in groups.values() for run in runs])


def _mean(values: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Mean over seeds with its interval's ends; None for what the number of values does not give."""
    if len(values) < 2:
        return (float(values[0]) if len(values) else None, None, None)
    return t_interval(values, measures.LEVEL)[:3]


def _seeds(n: int) -> str:
    return f"n = {n} {'seed' if n == 1 else 'seeds'}"


def _draw_law(axes: Axes, fit: LawFit, colour: object, **line: object) -> None:
    entropy = np.linspace(0, fit.entropy.max(), 100)
    axes.plot(entropy, 100 * fit.predict(entropy), color=colour, **{"linewidth": 1.2, "zorder": 3} | line)


# The fit.


def fit(runs: Sequence[Run]) -> Figure:
    """Accuracy against entropy with the law of each seed, and what the law leaves along training."""
    with mpl.rc_context(style.STYLE):
        figure, (upper, lower) = style.panels(2, 6.4)
        for place, run in enumerate(runs):
            points = measures.trajectory(run)
            look = {"color": style.PALETTE[place % len(style.PALETTE)], "marker": _MARKERS[place % len(_MARKERS)]}
            upper.plot(
                points.entropy,
                100 * points.reward,
                linestyle="",
                markersize=3.5,
                alpha=0.6,
                label=f"seed {run.config.seed}",
                **look,
            )
            for _, found in _fits([run]):
                _draw_law(upper, found, look["color"])
                lower.plot(points.step, 100 * found.residuals, linewidth=0.8, markersize=3.5, **look)
        lower.axhline(0, color="0.4", linewidth=1)
        upper.set(title="Validation accuracy (%)", xlabel="Entropy (nat per token)")
        lower.set(title="Accuracy minus the law (points)", xlabel="Optimizer step")
        upper.legend()
    return figure


def fit_caption(runs: Sequence[Run]) -> str:
    """Caption of `fit`."""
    config = runs[0].config
    return (
        f"Above: validation accuracy (mean@{config.eval_samples}, per cent) against policy entropy "
        f"(entropy/response_mean, nat) at the evaluations of {config.max_steps} optimizer steps of plain GRPO, "
        f"{_seeds(len(runs))}; "
        "lines: the law fitted to each seed by least squares, drawn down to zero entropy. Below: what the law leaves, "
        "in points of accuracy. Intervals of the coefficients stand in the table."
    )


def fit_table(runs: Sequence[Run], resamples: int = 1999) -> pd.DataFrame:
    """A row per seed with its own intervals (block bootstrap along the run), and one over seeds (Student's t)."""
    rows = []
    fits = _fits(runs)
    for run, found in fits:
        words = {name: spell(getattr(found, name), "") for name in measures.COEFFICIENTS}
        if found.entropy.size >= 8:
            drawn = found.interval(measures.LEVEL, np.random.default_rng(run.config.seed), resamples=resamples)
            words = {name: spell_interval(*getattr(drawn, name)[:3], "") for name in measures.COEFFICIENTS}
        diagnostics = found.diagnostics()
        thirds = ", ".join(f"{100 * third:+.1f}" for third in diagnostics.thirds)
        rows.append(
            {
                "Seed": str(run.config.seed),
                **_coefficient_cells(words),
                "R²": f"{found.r2:.3f}",
                "RMSE (points)": f"{100 * found.rmse:.2f}",
                "Residual by thirds (points)": thirds,
                "Lag-1": f"{diagnostics.lag1:.2f}",
            }
        )
    if fits:
        rows.append(
            {
                "Seed": f"mean of {len(fits)}",
                **_coefficient_means([found for _, found in fits]),
                "R²": f"{np.mean([found.r2 for _, found in fits]):.3f}",
                "RMSE (points)": f"{100 * np.mean([found.rmse for _, found in fits]):.2f}",
                "Residual by thirds (points)": "",
                "Lag-1": "",
            }
        )
    return pd.DataFrame(rows)


def _coefficient_cells(words: Mapping[str, str]) -> dict[str, str]:
    return {"a": words["a"], "b": words["b"], "Ceiling b - a": words["ceiling"]}


def _coefficient_means(fits: Sequence[LawFit]) -> dict[str, str]:
    """Means over seeds with their intervals, as fractions of accuracy."""
    means = {name: _mean([getattr(found, name) for found in fits]) for name in measures.COEFFICIENTS}
    return _coefficient_cells({name: spell_interval(*mean, "") for name, mean in means.items()})


# Early prediction.


def first_part(points: Trajectory) -> float:
    """The paper's cut: 15 % of training."""
    return measures.FIRST_PART * float(points.step[-1])


def half_spent(points: Trajectory) -> float:
    """The harder cut: where half of the entropy's fall is over."""
    return measures.half_way(points, CONSUMED, LEAST_POINTS)


CUTS: Mapping[str, Cut] = {"first 15 % of training": first_part, "until half of the entropy is gone": half_spent}


def predictions(runs: Sequence[Run]) -> pd.DataFrame:
    """Out-of-sample errors: a row per cut, form and seed, with `fitted` and `rest` points, `rmse`, `final_error`.

    A form that a cut leaves too few points for, and a run without a fall of entropy before it, are left out.
    """
    rows = []
    for run in runs:
        for cut, where in CUTS.items():
            for form in law.FORMS:
                try:
                    points = measures.trajectory(run)
                    found = measures.predict(points, where(points), form, MINIMUM)
                except (NoEffect, ValueError):
                    continue
                rows.append(
                    {
                        "cut": cut,
                        "form": form,
                        "seed": run.config.seed,
                        "fitted": found.n_fit,
                        "rest": found.n_rest,
                        "rmse": found.rmse,
                        "final_error": found.final_error,
                    }
                )
    return pd.DataFrame(rows, columns=["cut", "form", "seed", "fitted", "rest", "rmse", "final_error"])


def predictions_table(runs: Sequence[Run]) -> pd.DataFrame:
    """`predictions` in words: means over seeds with their intervals, in points of accuracy."""
    rows = []
    for (cut, form), group in predictions(runs).groupby(["cut", "form"], sort=False):
        rows.append(
            {
                "Fitted on": cut,
                "Form": form,
                "n": len(group),
                "Points fitted": _spread(group["fitted"]),
                "RMSE over the rest": spell_interval(*_mean(group["rmse"].tolist()), "points"),
                "Predicted minus measured at the end": spell_interval(*_mean(group["final_error"].tolist()), "points"),
            }
        )
    return pd.DataFrame(rows)


def _spread(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def early(runs: Sequence[Run]) -> Figure:
    """What the law fitted early predicts, per cut against measured accuracy, and the error of every form."""
    table = predictions(runs)
    with mpl.rc_context(style.STYLE):
        figure, (*upper, lower) = style.panels(len(CUTS) + 1, 9)
        for axes, (cut, where) in zip(upper, CUTS.items(), strict=True):
            for place, run in enumerate(runs):
                points = measures.trajectory(run)
                colour = style.PALETTE[place % len(style.PALETTE)]
                axes.plot(points.step, 100 * points.reward, linestyle="", marker="o", markersize=2.5, color=colour)
                try:
                    until = where(points)
                    found = measures.predict(points, until, "law", MINIMUM)
                except NoEffect:
                    continue
                axes.plot(points.step[points.step > until], 100 * found.predicted, color=colour, linewidth=1.4)
                axes.axvline(until, color=colour, linestyle=":", linewidth=1)
            axes.set(title=f"Fitted: {cut}", xlabel="Optimizer step", ylabel="Accuracy (%)")
        forms = list(law.FORMS)
        for place, cut in enumerate(CUTS):
            shift = 0.15 * (2 * place - 1)
            label = cut
            for height, form in enumerate(forms):
                values = 100 * table.loc[(table["cut"] == cut) & (table["form"] == form), "rmse"].to_numpy()
                colour = style.PALETTE[place]
                if values.size:
                    _, low, high = _mean(values)
                    axes_y = np.full(values.size, height + shift)
                    if low is not None:
                        lower.hlines(height + shift, max(low, values.min() / 2), high, color=colour, linewidth=2)
                    lower.plot(
                        values, axes_y, linestyle="", marker=_MARKERS[place], markersize=4, color=colour, label=label
                    )
                    label = "_"
        lower.set_yticks(range(len(forms)), forms)
        lower.invert_yaxis()
        lower.set(title="Error over the rest, RMSE", xlabel="Points of accuracy")
        if not table.empty:
            lower.set_xscale("log")
            lower.tick_params(which="minor", labelbottom=False)
            figure.legend(loc="outside lower center", title="Fitted", fontsize="small", title_fontsize="small", ncols=2)
    return figure


def early_caption(runs: Sequence[Run]) -> str:
    """Caption of `early`."""
    return (
        "Above: validation accuracy (dots, per cent) and what the law predicts of it from the evaluations up to the "
        f"dotted line; a colour per seed, {_seeds(len(runs))}. The law is told the later entropies, so this is no "
        "forecast in time. Below: root mean square error over the evaluations after the cut, in points of accuracy, "
        "of the law and of rivals that were fitted to the same points (dots: seeds"
        + ("; lines: 95 % Student t interval of the mean, cut at half of the least seed" if len(runs) > 1 else "")
        + "). A form that needs more points than the cut leaves has no dot."
    )


# Coefficients of groups of runs.


def coefficients(groups: Groups) -> Figure:
    """Accuracy against entropy under the first group's law, and a and b of every group beside the first's margin."""
    steps = _common(groups)
    fits = {name: _fits(runs, steps) for name, runs in groups.items()}
    reference = next(iter(groups))
    with mpl.rc_context(style.STYLE):
        figure, (top, *lower) = style.panels(3, 8.2)
        for place, (name, runs) in enumerate(groups.items()):
            colour, label = style.PALETTE[place % len(style.PALETTE)], name
            for run in runs:
                points = measures.trajectory(run, steps)
                top.plot(
                    points.entropy,
                    100 * points.reward,
                    linestyle="",
                    marker=_MARKERS[place % len(_MARKERS)],
                    markersize=3,
                    alpha=0.6,
                    color=colour,
                    label=label,
                )
                label = "_"
        for _, found in fits[reference]:
            _draw_law(top, found, "0.2", linewidth=0.8)
        top.set(title=f"Accuracy (%), and {reference}'s law", xlabel="Entropy (nat per token)")
        top.legend(markerscale=1.6, fontsize="x-small")
        for axes, name in zip(lower, ("a", "b"), strict=True):
            values = {group: [getattr(found, name) for _, found in found_all] for group, found_all in fits.items()}
            _draw_seeds(axes, values)
            if values[reference]:
                base = float(np.mean(values[reference]))
                axes.axhspan((1 - MARGIN) * base, (1 + MARGIN) * base, color="0.9", zorder=0)
            axes.set(title=f"Coefficient {name} (accuracy as a fraction)")
    return figure


def _draw_seeds(axes: Axes, values: Mapping[str, Sequence[float]]) -> None:
    """A column per group: dots for the seeds, a line for the mean's interval."""
    for place, sample in enumerate(values.values()):
        _, low, high = _mean(sample)
        if low is not None:
            axes.vlines(place, low, high, color=style.PALETTE[place % len(style.PALETTE)], linewidth=3)
        axes.plot(np.full(len(sample), place), sample, **style.SEED_DOTS)
    axes.set_xticks(range(len(values)), list(values))
    axes.set_xlim(-0.5, len(values) - 0.5)


def coefficients_caption(groups: Groups) -> str:
    """Caption of `coefficients`."""
    reference = next(iter(groups))
    counts = ", ".join(f"{name} {len(runs)}" for name, runs in groups.items())
    return (
        f"Above: validation accuracy (per cent) against entropy (nat) over the first {_common(groups)} optimizer "
        f"steps, which all runs have, with the law of each seed of {reference} (thin lines). Below: the coefficients "
        "(accuracy as a fraction; dots: seeds; lines: 95 % Student t interval of the mean where there are two seeds "
        f"or more). Grey: within {100 * MARGIN:.0f} % of {reference}'s mean. Seeds: {counts}."
    )


def coefficients_table(groups: Groups) -> pd.DataFrame:
    """Means over seeds of the coefficients of every group, and paired differences to the first one's."""
    steps = _common(groups)
    reference, *_ = groups
    rows = []
    for name, runs in groups.items():
        fits = _fits(runs, steps)
        row = {
            "Arm": name,
            "n": f"{len(fits)} of {len(runs)}",
            **_coefficient_means([found for _, found in fits]),
        }
        for part in ("a", "b"):
            gaps = [] if name == reference else _gaps(groups[reference], runs, part)
            row[f"{part} against {reference}"] = "" if name == reference else spell_interval(*_mean(gaps), "share")
        rows.append(row)
    return pd.DataFrame(rows)


def _gaps(references: Sequence[Run], others: Sequence[Run], part: str) -> list[float]:
    by_seed = {run.config.seed: run for run in references}
    gaps = []
    for run in others:
        try:
            gaps.append(measures.relative_gap(by_seed[run.config.seed], run, part, MINIMUM))
        except (KeyError, NoEffect):
            continue
    return gaps


# Size.


def sizes(groups: Groups) -> Figure:
    """Coefficients against non-embedding parameters, and the largest one's as the others predict it."""
    return _draw_sizes(_size_points(groups), "Non-embedding parameters (millions)", "seeds")


def _size_points(groups: Groups) -> dict[str, list[tuple[float, float]]]:
    """For each coefficient (millions of parameters, value) of every run that has a fit."""
    steps = _common(groups)
    fits = [pair for runs in groups.values() for pair in _fits(runs, steps)]
    return {
        part: [(measures.parameters(run.config.base) / 1e6, getattr(found, part)) for run, found in fits]
        for part in measures.COEFFICIENTS
    }


def _draw_sizes(points: Mapping[str, Sequence[tuple[float, float]]], xlabel: str, dots: str) -> Figure:
    with mpl.rc_context(style.STYLE):
        figure, panels = style.panels(len(points), 8)
        for axes, (part, pairs) in zip(panels, points.items(), strict=True):
            table = pd.DataFrame(pairs, columns=["size", "value"])
            means = table.groupby("size")["value"].mean()
            axes.plot(table["size"], table["value"], label=dots, **style.SEED_DOTS)
            if len(means) >= 4:
                left = law.leave_largest_out(means.index.to_numpy(), means.to_numpy(), measures.LEVEL)
                trend = law.fit_size_trend(means.index[:-1].to_numpy(), means.to_numpy()[:-1])
                _draw_trend(axes, trend, left)
            axes.set_xscale("log")
            axes.set_xticks(means.index.to_numpy(), [f"{size:.2g}" for size in means.index])
            axes.minorticks_off()
            title = "Ceiling b - a" if part == "ceiling" else f"Coefficient {part}"
            axes.set(title=f"{title} (accuracy as a fraction)", xlabel="")
        panels[-1].set_xlabel(xlabel)
        panels[0].legend(fontsize="x-small")
    return figure


def _draw_trend(axes: Axes, trend: SizeTrend, left: LeftOut) -> None:
    size = np.geomspace(trend.size.min(), left.size, 50)
    axes.plot(
        size,
        trend.intercept + trend.slope * np.log(size),
        color=style.PALETTE[0],
        linewidth=1.2,
        label="trend without the largest",
    )
    error = [[left.predicted.estimate - left.predicted.low], [left.predicted.high - left.predicted.estimate]]
    axes.errorbar(left.size, left.predicted.estimate, yerr=error, label="predicted for the largest", **_LEFT_OUT)
    # One or two degrees of freedom give intervals of many times the data's range.
    span = np.ptp([*trend.value, left.actual, left.predicted.estimate])
    values = [*trend.value, left.actual, left.predicted.estimate]
    axes.set_ylim(min(values) - span, max(values) + span)


def sizes_caption(groups: Groups) -> str:
    """Caption of `sizes`."""
    counts = ", ".join(f"{name} {len(runs)}" for name, runs in groups.items())
    return (
        "The law's coefficients and its ceiling (accuracy as a fraction) against the number of non-embedding "
        f"parameters, fitted to the first {_common(groups)} optimizer steps of plain GRPO, which all runs have. "
        f"Circles: seeds ({counts}). Line: log-linear trend of the mean of each size without the largest; diamond: "
        "what it predicts for the largest, with the 95 % Student t interval for a new coefficient there, cut off by "
        "the frame where it is wider."
    )


def sizes_table(groups: Groups) -> pd.DataFrame:
    """A row per size: parameters, n, mean coefficients with intervals over seeds."""
    steps = _common(groups)
    rows = []
    for name, runs in groups.items():
        fits = _fits(runs, steps)
        rows.append(
            {
                "Arm": name,
                "Parameters": f"{measures.parameters(runs[0].config.base):,}",
                "n": f"{len(fits)} of {len(runs)}",
                **_coefficient_means([found for _, found in fits]),
            }
        )
    return pd.DataFrame(rows)


def trend_table(groups: Groups) -> pd.DataFrame:
    """The log-linear trend of every coefficient over the means of the sizes, and what it predicts for the largest."""
    return _trend_rows(_size_points(groups))


def _trend_rows(points: Mapping[str, Sequence[tuple[float, float]]]) -> pd.DataFrame:
    rows = []
    for part, pairs in points.items():
        means = pd.DataFrame(pairs, columns=["size", "value"]).groupby("size")["value"].mean()
        if len(means) < 4:
            continue
        trend = law.fit_size_trend(means.index.to_numpy(), means.to_numpy())
        left = law.leave_largest_out(means.index.to_numpy(), means.to_numpy(), measures.LEVEL)
        rows.append(
            {
                "Coefficient": part,
                "Change per factor e": spell(trend.slope, ""),
                "R² of the trend": f"{trend.r2:.2f}",
                "Largest, predicted by the others": spell_interval(*left.predicted[:3], ""),
                "Largest, its own": spell(left.actual, ""),
            }
        )
    return pd.DataFrame(rows)


# Entropy under control.


def controlled(baseline: Sequence[Run], groups: Groups) -> Figure:
    """Where runs with controlled entropy end, over the evaluations and the law of the baseline."""
    steps = _common({"baseline": baseline, **groups})
    with mpl.rc_context(style.STYLE):
        figure, [axes] = style.panels(1, 5)
        label = "baseline, along training"
        for run in baseline:
            points = measures.trajectory(run, steps)
            axes.plot(
                points.entropy,
                100 * points.reward,
                linestyle="",
                marker=".",
                markersize=4,
                color="0.6",
                label=label,
            )
            label = "_"
        for _, found in _fits(baseline, steps):
            _draw_law(axes, found, "0.2", linewidth=0.8)
        for place, (name, runs) in enumerate({"baseline's end": baseline, **groups}.items()):
            ends = [measures.end(run, steps, END) for run in runs]
            axes.plot(
                [one.entropy for one in ends],
                [100 * one.accuracy for one in ends],
                linestyle="",
                marker=_MARKERS[place % len(_MARKERS)],
                markersize=6,
                color=style.PALETTE[place % len(style.PALETTE)],
                label=name,
                zorder=4,
            )
        axes.set(title="Validation accuracy (%)", xlabel="Entropy (nat per token)")
        figure.legend(loc="outside lower center", ncols=2, fontsize="x-small")
    return figure


def controlled_caption(baseline: Sequence[Run], groups: Groups) -> str:
    """Caption of `controlled`."""
    counts = ", ".join(f"{name} {len(runs)}" for name, runs in groups.items())
    return (
        f"Accuracy (per cent) and entropy (nat) over the first {_common({'baseline': baseline, **groups})} optimizer "
        f"steps that all runs have. Grey: evaluations of the baseline along training, with the law of each of its "
        f"{len(baseline)} seeds (thin lines). Large marks: means of the last 1/8 of those steps, one per seed (seeds: "
        f"{counts}). A mark above the lines has more accuracy than the baseline's law gives for its entropy. "
        "Intervals of the distances stand in the table."
    )


def controlled_table(baseline: Sequence[Run], groups: Groups) -> pd.DataFrame:
    """Final entropy and accuracy of every arm, and its accuracy minus the baseline's law there, paired by seed.

    Each arm is cut to the steps that it shares with the baseline.
    """
    rows = []
    by_seed = {run.config.seed: run for run in baseline}
    for name, runs in {"baseline": baseline, **groups}.items():
        steps = measures.common_steps([*baseline, *runs])
        ends = [measures.end(run, steps, END) for run in runs]
        gaps = []
        for run in runs:
            try:
                pair = by_seed[run.config.seed], run
                gaps.append(measures.control_gap(*pair, window=END, minimum=MINIMUM))
            except (KeyError, NoEffect):
                continue
        rows.append(
            {
                "Arm": name,
                "n": len(runs),
                "Steps": steps,
                "Final entropy": spell_interval(*_mean([one.entropy for one in ends]), "nat"),
                "Final accuracy": spell_interval(*_mean([one.accuracy for one in ends]), "share"),
                "Accuracy minus the law": spell_interval(*_mean(gaps), "points"),
            }
        )
    return pd.DataFrame(rows)


# The paper's own curves.


def _paper_early_step(name: str, points: Trajectory) -> float:
    return measures.FIRST_PART * float(points.step[-1]) if name == "fig1" else float(measures.PAPER_STEPS)


def paper_curves() -> Figure:
    """The paper's own GRPO curves: accuracy against entropy with the law, and what the early law leaves."""
    with mpl.rc_context(style.STYLE):
        figure, (upper, lower) = style.panels(2, 6.8)
        for place, (name, points) in enumerate(_paper_in_order().items()):
            look = {"color": style.PALETTE[place], "marker": _MARKERS[place], "markersize": 3.5}
            upper.plot(points.entropy, 100 * points.reward, linestyle="", label=_PAPER_NAMES[name], **look)
            _draw_law(upper, law.fit_law(points.entropy, points.reward), style.PALETTE[place])
            early, _ = points.split(_paper_early_step(name, points))
            first = law.fit_law(early.entropy, early.reward)
            _draw_law(upper, first, style.PALETTE[place], linestyle="--")
            residuals = points.reward - first.predict(points.entropy)
            lower.plot(points.step / points.step[-1], 100 * residuals, linewidth=0.8, **look)
        lower.axhline(0, color="0.4", linewidth=1)
        upper.set(title="Performance (%)", xlabel="Entropy (nat per token)")
        lower.set(title="Performance minus the early law (points)", xlabel="Fraction of training")
        upper.legend(fontsize="x-small")
    return figure


def _paper_in_order() -> dict[str, Trajectory]:
    found = measures.paper_trajectories()
    return {name: found[name] for name in _PAPER_NAMES}


def paper_curves_caption() -> str:
    """Caption of `paper_curves`."""
    counts = ", ".join(f"{_PAPER_NAMES[name]} {points.step.size}" for name, points in _paper_in_order().items())
    return (
        "The paper's own runs of plain GRPO, read off the pixels (reading error 0.15 to 0.2 points and 0.005 to 0.008 "
        f"nat; evaluations: {counts}; one run or mean each, hence no interval over seeds). Above: performance (per "
        "cent) against entropy (nat); solid: the law fitted to all points; dashed: to the early ones (the first 15 %, "
        "Fig. 1; the first 36 rollouts, Fig. 11). Below: performance minus the early law, in points."
    )


def paper_table() -> pd.DataFrame:
    """Each curve of the paper: whole fit, and each form's RMSE over the rest, for the paper's cut and the harder "
    "one."""
    rows = []
    for name, points in _paper_in_order().items():
        whole = law.fit_law(points.entropy, points.reward)
        for cut, until in (("paper's", _paper_early_step(name, points)), ("half of the entropy", half_spent(points))):
            early, rest = points.split(until)
            row = {
                "Curve": _PAPER_NAMES[name],
                "a": spell(whole.a, ""),
                "b": spell(whole.b, ""),
                "R²": f"{whole.r2:.3f}",
                "Cut": cut,
                "Points": f"{early.step.size} + {rest.step.size}",
            }
            for form in law.FORMS:
                try:
                    row[form] = f"{100 * law.predict_rest(points, until, form).rmse:.1f}"
                except ValueError:
                    row[form] = "too few points"
            rows.append(row)
    return pd.DataFrame(rows)


def paper_sizes() -> Figure:
    """The paper's five fitted models: coefficients against size, and 32B as the smaller ones predict it."""
    return _draw_sizes(_paper_size_points(), "Non-embedding parameters (billions)", "models")


def _paper_size_points() -> dict[str, list[tuple[float, float]]]:
    fits = paper.read_fits()
    return {part: list(zip(fits["size"], fits[part], strict=True)) for part in measures.COEFFICIENTS}


def paper_sizes_caption() -> str:
    """Caption of `paper_sizes`."""
    return (
        "Coefficients of the law that the paper fitted to five Qwen2.5 models, read off its Fig. 1 (right; error 3 % "
        "of a, 1 point of b; performance as a fraction; n = 5 models, one curve each) against non-embedding "
        "parameters. Line: log-linear trend of the four smaller models; diamond: what it predicts for 32B, with the "
        "95 % Student t interval for a new coefficient there."
    )


def paper_sizes_table() -> pd.DataFrame:
    """`trend_table` of the paper's five models; its largest is 32B."""
    return _trend_rows(_paper_size_points())


# Values for the book's prose.


def glued(groups: Groups) -> dict[str, str | int]:
    """What the prose says of the runs beside the findings, in words: steps, seeds, coefficients, errors of rivals."""
    algorithms, sizes, _, controlled = compared(groups)
    grpo = groups["grpo"]
    fits = [found for _, found in _fits(grpo)]
    points = [measures.trajectory(run) for run in grpo]
    spent = [_share_spent(one, first_part(one)) for one in points if one.entropy[0] > one.entropy[-1]]
    ends = {arm: [measures.end(run, run.config.max_steps, END) for run in groups[arm]] for arm in controlled}
    words: dict[str, str | int] = {
        "steps": grpo[0].config.max_steps,
        "seeds": f"{len(grpo)} seed{'s' * (len(grpo) != 1)}",
        "steps_algorithms": _common(algorithms),
        "steps_sizes": _common(sizes),
        "steps_controlled": _common({arm: groups[arm] for arm in ("grpo8", *controlled)}),
        "spent_early": _spell_mean(spent, "share"),
        "fit_a": _spell_mean([found.a for found in fits], ""),
        "fit_b": _spell_mean([found.b for found in fits], ""),
        "fit_ceiling": _spell_mean([found.ceiling for found in fits], "share"),
        "fit_rmse": _spell_mean([found.rmse for found in fits], "points"),
        "reached": _spell_mean([measures.end(run, run.config.max_steps, WINDOW).accuracy for run in grpo], "share"),
    }
    for arm in ("kl_target_10", "kl_target_20", "kl_target_30"):
        words[f"reached_{arm}"] = _spell_mean([one.accuracy for one in ends[arm]], "share")
    table = predictions(grpo)
    for cut, short in zip(CUTS, ("early", "half"), strict=True):
        for form in law.FORMS:
            values = table.loc[(table["cut"] == cut) & (table["form"] == form), "rmse"].tolist()
            words[f"{short}_rmse_{form.replace(' ', '_').lower()}"] = _spell_mean(values, "points")
    return words


def _spell_mean(values: Sequence[float], unit: str) -> str:
    return spell_interval(*_mean(values), unit)


def _share_spent(points: Trajectory, until: float) -> float:
    """Share of the fall of entropy, first to last evaluation, that is over at the last evaluation up to `until`."""
    before = points.entropy[points.step <= until]
    return float((points.entropy[0] - before[-1]) / (points.entropy[0] - points.entropy[-1]))
