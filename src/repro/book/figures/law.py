"""Figures and tables of claim 2, the law R = -a exp(H) + b.

Runs without a fit (entropy that changes by less than the ledger's minimum) are drawn without one, and tables say of how
many runs a number is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repro import paper
from repro.analysis import law
from repro.analysis.intervals import LEVEL
from repro.analysis.law import LawFit, Trajectory
from repro.book import looks
from repro.book.figures import style
from repro.book.figures.style import Arms
from repro.claims import NoEffect, load_ledger, spell, spell_interval, spell_seeds
from repro.claims.curves import common_steps, end_level
from repro.claims.measures import law as measures
from repro.runs import Run

_LEFT_OUT = {"linestyle": "", "marker": "D", "markersize": 7, "color": style.PAPER_COLOUR, "capsize": 3, "zorder": 4}
_PAPER_NAMES = {"fig1": "Fig. 1 (left)", "32B": "Fig. 11, GRPO at 32B", "7B": "Fig. 11, GRPO at 7B"}
_COMPARED = (
    ("grpo", "rloo", "reinforce_pp", "prime"),
    ("size_xs", "grpo", "size_sm", "size_m"),
    ("grpo", "easy", "hard"),
    ("clip_higher", "clip_cov", "kl_cov", "kl_target_10", "kl_target_20", "kl_target_30"),
)

Cut = Callable[[Trajectory], float]


def _argument(name: str, claim: str = "law") -> Any:
    return load_ledger().argument(claim, name)


def _minimum() -> float:
    """Nats by which entropy has to fall for a fit."""
    return _argument("minimum")


def _margin(coefficient: str) -> float:
    """How far from the reference's a coefficient may be and count as the same, as a share of it."""
    return load_ledger().claim("law").part(f"rloo_{coefficient}").criterion.at_most


def _end_window() -> float:
    """The last part of a run under control: these runs are short and have few evaluations."""
    return _argument("window", "law_control")


def compared(groups: Arms) -> list[Arms]:
    """The groups that are compared with each other: algorithms, sizes, training data, controlled entropy."""
    return [{arm: groups[arm] for arm in arms} for arms in _COMPARED]


def _effect(measure: Callable[..., Any], *arguments: Any) -> Any:
    """What a measure gives, or None where it has nothing to measure: a run without a fit, a cut with too few points."""
    try:
        return measure(*arguments)
    except NoEffect:
        return None


def _fits(runs: Sequence[Run], steps: int | None = None) -> list[tuple[Run, LawFit]]:
    """Runs with their fits, without those that have none."""
    fits = [(run, _effect(measures.fit_run, run, _minimum(), steps)) for run in runs]
    return [(run, found) for run, found in fits if found]


def _draw_law(axes: Axes, fit: LawFit, colour: Any, **line: Any) -> None:
    entropy = np.linspace(0, fit.entropy.max(), 100)
    axes.plot(entropy, 100 * fit.predict(entropy), color=colour, **{"linewidth": 1.2, "zorder": 3} | line)


def _draw_points(axes: Axes, runs: Sequence[Run], steps: int | None, label: str, **look: Any) -> None:
    """Accuracy against entropy at the evaluations of one arm's runs."""
    for place, run in enumerate(runs):
        points = measures.trajectory(run, steps)
        name = label if place == 0 else "_"
        axes.plot(points.entropy, 100 * points.reward, linestyle="", label=name, **look)


# The fit.


@style.styled("y")
def fit(runs: Sequence[Run]) -> Figure:
    """Accuracy against entropy with the law of each seed, and what the law leaves along training."""
    figure, (upper, lower) = style.panels(2, 6.4)
    for place, run in enumerate(runs):
        look = {"markersize": 3.5, **style.look(place)}
        _draw_points(upper, [run], None, f"seed {run.config.seed}", alpha=0.6, **look)
        for _, found in _fits([run]):
            _draw_law(upper, found, look["color"])
            lower.plot(measures.trajectory(run).step, 100 * found.residuals, linewidth=0.8, **look)
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
        f"{style.seeds(len(runs))}; "
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
            drawn = found.interval(LEVEL, np.random.default_rng(run.config.seed), resamples=resamples)
            words = {name: spell_interval(*getattr(drawn, name)[:3], "") for name in measures.COEFFICIENTS}
        thirds, lag1 = found.diagnostics().thirds, found.diagnostics().lag1
        rows.append(
            {
                "Seed": str(run.config.seed),
                **_cells(words),
                "R²": f"{found.r2:.3f}",
                "RMSE (points)": f"{100 * found.rmse:.2f}",
                "Residual by thirds (points)": ", ".join(f"{100 * third:+.1f}" for third in thirds),
                "Lag-1": f"{lag1:.2f}",
            }
        )
    if fits:
        means = {name: np.mean([getattr(found, name) for _, found in fits]) for name in ("r2", "rmse")}
        rows.append(
            {
                "Seed": f"mean of {len(fits)}",
                **_mean_cells(fits),
                "R²": f"{means['r2']:.3f}",
                "RMSE (points)": f"{100 * means['rmse']:.2f}",
                "Residual by thirds (points)": "",
                "Lag-1": "",
            }
        )
    return pd.DataFrame(rows)


def _cells(words: Mapping[str, str]) -> dict[str, str]:
    return {"a": words["a"], "b": words["b"], "Ceiling b - a": words["ceiling"]}


def _mean_cells(fits: Sequence[tuple[Run, LawFit]]) -> dict[str, str]:
    """Means over seeds with their intervals, as fractions of accuracy."""
    return _cells({name: spell_seeds([getattr(one, name) for _, one in fits]) for name in measures.COEFFICIENTS})


# Early prediction.


def first_part(points: Trajectory) -> float:
    """The paper's cut: the first 15 % of training."""
    return _argument("fraction") * float(points.step[-1])


def half_spent(points: Trajectory) -> float:
    """The harder cut: where half of the entropy's fall is over."""
    return measures.half_way(points, _argument("consumed"), _argument("points"))


CUTS: Mapping[str, Cut] = {"first 15 % of training": first_part, "until half of the entropy is gone": half_spent}


def _predicted(points: Trajectory, where: Cut, form: str) -> law.Prediction | None:
    """A form fitted up to a cut and held against the rest; None where there is too little before or behind it."""
    return _effect(lambda: measures.predict(points, where(points), form, _minimum()))


def predictions(runs: Sequence[Run]) -> pd.DataFrame:
    """Out-of-sample errors: a row per cut, form and seed, with `fitted` and `rest` points, `rmse`, `final_error`.

    A form that a cut leaves too few points for, and a run without a fall of entropy before it, are left out.
    """
    rows = []
    for run in runs:
        points = measures.trajectory(run)
        for cut, where in CUTS.items():
            for form in law.FORMS:
                if found := _predicted(points, where, form):
                    errors = (found.n_fit, found.n_rest, found.rmse, found.final_error)
                    rows.append((cut, form, run.config.seed, *errors))
    return pd.DataFrame(rows, columns=["cut", "form", "seed", "fitted", "rest", "rmse", "final_error"])


def predictions_table(runs: Sequence[Run]) -> pd.DataFrame:
    """`predictions` in words: means over seeds with their intervals, in points of accuracy."""
    return pd.DataFrame(
        [
            {
                "Fitted on": cut,
                "Form": form,
                "n": len(group),
                "Points fitted": " to ".join(dict.fromkeys(str(group["fitted"].agg(end)) for end in ("min", "max"))),
                "RMSE over the rest": spell_seeds(group["rmse"], "points"),
                "Predicted minus measured at the end": spell_seeds(group["final_error"], "points"),
            }
            for (cut, form), group in predictions(runs).groupby(["cut", "form"], sort=False)
        ]
    )


@style.styled("y")
def early(runs: Sequence[Run]) -> Figure:
    """What the law fitted early predicts, per cut against measured accuracy, and the error of every form."""
    figure, (*upper, lower) = style.panels(len(CUTS) + 1, 9)
    for axes, (cut, where) in zip(upper, CUTS.items(), strict=True):
        for place, run in enumerate(runs):
            points, colour = measures.trajectory(run), style.look(place)["color"]
            axes.plot(points.step, 100 * points.reward, linestyle="", marker="o", markersize=2.5, color=colour)
            if found := _predicted(points, where, "law"):
                axes.plot(points.step[-found.n_rest :], 100 * found.predicted, color=colour, linewidth=1.4)
                axes.axvline(where(points), color=colour, linestyle=":", linewidth=1)
        axes.set(title=f"Fitted: {cut}", xlabel="Optimizer step", ylabel="Accuracy (%)")
    errors = predictions(runs).groupby(["cut", "form"])["rmse"]
    for place, cut in enumerate(CUTS):
        look = {"linestyle": "", "markersize": 4, **style.look(place)}
        for height, form in enumerate(law.FORMS):
            if (cut, form) in errors.groups:
                values, row = 100 * errors.get_group((cut, form)), height + 0.15 * (2 * place - 1)
                dots, floor = {**look, "label": cut}, values.min() / 2
                style.draw_seeds(lower, row, values, look["color"], dots=dots, width=2, floor=floor)
    style.name_rows(lower, law.FORMS)
    lower.set(title="Error over the rest, RMSE", xlabel="Points of accuracy")
    if errors.ngroups:
        lower.set_xscale("log")
        lower.tick_params(which="minor", labelbottom=False)
        style.legend_below(figure, lower, title="Fitted", fontsize="small", title_fontsize="small")
    return figure


def early_caption(runs: Sequence[Run]) -> str:
    """Caption of `early`."""
    lines = f"; lines: {style.INTERVAL} of the mean, cut at half of the least seed" if len(runs) > 1 else ""
    return (
        "Above: validation accuracy (dots, per cent) and what the law predicts of it from the evaluations up to the "
        f"dotted line; a colour per seed, {style.seeds(len(runs))}. The law is told the later entropies, so this is no "
        "forecast in time. Below: root mean square error over the evaluations after the cut, in points of accuracy, of "
        f"the law and of rivals that were fitted to the same points (dots: seeds{lines}). A form that needs more "
        "points than the cut leaves has no dot."
    )


# Coefficients of groups of runs.


@style.styled("y")
def coefficients(groups: Arms) -> Figure:
    """Accuracy against entropy under the first group's law, and a and b of every group beside the first's margin."""
    steps, reference = style.common(groups), next(iter(groups))
    fits = {name: _fits(runs, steps) for name, runs in groups.items()}
    figure, (top, *lower) = style.panels(3, 8.2)
    for name, runs in groups.items():
        _draw_points(top, runs, steps, looks.name(name), markersize=3, alpha=0.6, **looks.look(name).mark)
    for _, found in fits[reference]:
        _draw_law(top, found, "0.2", linewidth=0.8)
    top.set(title=f"Accuracy (%), and {looks.name(reference)}'s law", xlabel="Entropy (nat per token)")
    top.legend(markerscale=1.6, fontsize="x-small")
    for axes, name in zip(lower, ("a", "b"), strict=True):
        values = {group: [getattr(found, name) for _, found in members] for group, members in fits.items()}
        for place, (group, sample) in enumerate(values.items()):
            colour = looks.look(group).colour
            style.draw_seeds(axes, place, sample, colour, upright=True, dots=style.SEED_DOTS, width=3)
        axes.set_xticks(range(len(values)), [looks.name(group).replace(", ", ",\n") for group in values])
        axes.set_xlim(-0.5, len(values) - 0.5)
        if values[reference]:
            base = float(np.mean(values[reference]))
            axes.axhspan((1 - _margin(name)) * base, (1 + _margin(name)) * base, color="0.9", zorder=0)
        axes.set_title(f"Coefficient {name} (accuracy as a fraction)")
    return figure


def _counts(groups: Arms) -> str:
    return "; ".join(f"{looks.name(name)} {len(runs)}" for name, runs in groups.items())


def coefficients_caption(groups: Arms) -> str:
    """Caption of `coefficients`."""
    reference = looks.name(next(iter(groups)))
    return (
        f"Above: validation accuracy (per cent) against entropy (nat) over the first {style.common(groups)} optimizer "
        f"steps, which all runs have, with the law of each seed of {reference} (thin lines). Below: the coefficients "
        f"(accuracy as a fraction; dots: seeds; lines: {style.INTERVAL} of the mean where there are two seeds or "
        f"more). Grey: within {100 * _margin('a'):.1f} % of {reference}'s mean a and {100 * _margin('b'):.1f} % of its "
        f"b. Seeds: {_counts(groups)}."
    )


def _coefficient_rows(groups: Arms) -> list[dict[str, Any]]:
    """A row per group: its name, of how many runs, and mean coefficients with intervals over seeds."""
    fits = {name: _fits(runs, style.common(groups)) for name, runs in groups.items()}
    return [
        {"Arm": looks.name(name), "n": f"{len(fits[name])} of {len(groups[name])}", **_mean_cells(fits[name])}
        for name in fits
    ]


def coefficients_table(groups: Arms) -> pd.DataFrame:
    """Means over seeds of the coefficients of every group, and paired differences to the first one's."""
    table = pd.DataFrame(_coefficient_rows(groups))
    reference = next(iter(groups))
    for part in ("a", "b"):
        table[f"{part} against {looks.name(reference)}"] = [
            "" if name == reference else spell_seeds(_gaps(groups[reference], runs, part), "share")
            for name, runs in groups.items()
        ]
    return table


def _effects(references: Sequence[Run], others: Sequence[Run], measure: Callable[[Run, Run], float]) -> list[float]:
    """A measure of every pair of runs with one seed, without the pairs that have nothing to measure."""
    by_seed = {run.config.seed: run for run in references}
    found = [_effect(measure, by_seed[run.config.seed], run) for run in others if run.config.seed in by_seed]
    return [one for one in found if one is not None]


def _gaps(references: Sequence[Run], others: Sequence[Run], part: str) -> list[float]:
    return _effects(references, others, lambda one, other: measures.relative_gap(one, other, part, _minimum()))


# Size.


@style.styled("y")
def sizes(groups: Arms) -> Figure:
    """Coefficients against non-embedding parameters, and the largest one's as the others predict it."""
    return _draw_sizes(_size_points(groups), "Non-embedding parameters (millions)", "seeds")


def _size_points(groups: Arms) -> pd.DataFrame:
    """A row per run that has a fit: `size` in millions of parameters, and its coefficients."""
    fits = [pair for runs in groups.values() for pair in _fits(runs, style.common(groups))]
    return pd.DataFrame(
        [
            {"size": measures.parameters(run.config.base) / 1e6}
            | {part: getattr(found, part) for part in measures.COEFFICIENTS}
            for run, found in fits
        ],
        columns=["size", *measures.COEFFICIENTS],
    )


def _trends(points: pd.DataFrame) -> dict[str, law.LeftOut]:
    """What the others' log-linear trend predicts for the largest, by coefficient; empty with fewer than four sizes."""
    means = points.groupby("size").mean()
    if len(means) < 4:
        return {}
    sizes = means.index.to_numpy()
    return {part: law.leave_largest_out(sizes, means[part].to_numpy(), LEVEL) for part in measures.COEFFICIENTS}


def _draw_sizes(points: pd.DataFrame, xlabel: str, dots: str) -> Figure:
    means, trends = points.groupby("size").mean(), _trends(points)
    figure, panels = style.panels(len(measures.COEFFICIENTS), 8)
    for axes, part in zip(panels, measures.COEFFICIENTS, strict=True):
        axes.plot(points["size"], points[part], label=dots, **style.SEED_DOTS)
        if trends:
            _draw_trend(axes, means[part], trends[part])
        axes.set_xscale("log")
        axes.set_xticks(means.index.to_numpy(), [f"{size:.2g}" for size in means.index])
        axes.minorticks_off()
        title = "Ceiling b - a" if part == "ceiling" else f"Coefficient {part}"
        axes.set_title(f"{title} (accuracy as a fraction)")
    panels[-1].set_xlabel(xlabel)
    panels[0].legend(fontsize="x-small")
    return figure


def _draw_trend(axes: Axes, means: pd.Series, left: law.LeftOut) -> None:
    trend = law.fit_size_trend(means.index[:-1].to_numpy(), means.to_numpy()[:-1])
    size, label = np.geomspace(trend.size.min(), left.size, 50), "trend without the largest"
    axes.plot(size, trend.intercept + trend.slope * np.log(size), color=style.PALETTE[0], linewidth=1.2, label=label)
    estimate, low, high, _, _ = left.predicted
    error = [[estimate - low], [high - estimate]]
    axes.errorbar(left.size, estimate, yerr=error, label="predicted for the largest", **_LEFT_OUT)
    # One or two degrees of freedom give intervals of many times the data's range.
    values = [*means, estimate]
    axes.set_ylim(min(values) - np.ptp(values), max(values) + np.ptp(values))


def sizes_caption(groups: Arms) -> str:
    """Caption of `sizes`."""
    return (
        "The law's coefficients and its ceiling (accuracy as a fraction) against the number of non-embedding "
        f"parameters, fitted to the first {style.common(groups)} optimizer steps of plain GRPO, which all runs have. "
        f"Circles: seeds ({_counts(groups)}). Line: log-linear trend of the mean of each size without the largest; "
        f"diamond: what it predicts for the largest, with the {style.INTERVAL} for a new coefficient there, cut off by "
        "the frame where it is wider."
    )


def sizes_table(groups: Arms) -> pd.DataFrame:
    """A row per size: parameters, n, mean coefficients with intervals over seeds."""
    table = pd.DataFrame(_coefficient_rows(groups))
    sizes = [f"{measures.parameters(runs[0].config.base):,}" for runs in groups.values()]
    table.insert(1, "Parameters", sizes)
    return table


def trend_table(groups: Arms) -> pd.DataFrame:
    """The log-linear trend of every coefficient over the means of the sizes, and what it predicts for the largest."""
    return _trend_rows(_size_points(groups))


def _trend_rows(points: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for part, left in _trends(points).items():
        means = points.groupby("size")[part].mean()
        trend = law.fit_size_trend(means.index.to_numpy(), means.to_numpy())
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


@style.styled("y")
def controlled(baseline: Sequence[Run], groups: Arms) -> Figure:
    """Where runs with controlled entropy end, over the evaluations and the law of the baseline."""
    steps = style.common({"baseline": baseline, **groups})
    figure, [axes] = style.panels(1, 5)
    _draw_points(axes, baseline, steps, "GRPO, along training", marker=".", markersize=4, color="0.6")
    for _, found in _fits(baseline, steps):
        _draw_law(axes, found, "0.2", linewidth=0.8)
    for name, runs in {"grpo8": baseline, **groups}.items():
        entropy, accuracy = np.transpose([measures.end(run, steps, _end_window()) for run in runs])
        look = {"linestyle": "", "markersize": 6, "zorder": 4, **looks.look(name).mark}
        axes.plot(entropy, 100 * accuracy, label=looks.name(name), **look)
    axes.set(title="Validation accuracy (%)", xlabel="Entropy (nat per token)")
    style.legend_below(figure, axes, fontsize="x-small")
    return figure


def controlled_caption(baseline: Sequence[Run], groups: Arms) -> str:
    """Caption of `controlled`."""
    return (
        f"Accuracy (per cent) and entropy (nat) over the first {style.common({'baseline': baseline, **groups})} "
        "optimizer steps that all runs have. Grey: evaluations of plain GRPO along training, with the law of each of "
        f"its {len(baseline)} seeds (thin lines). Large marks: means of the last {style.part(_end_window())} of those "
        f"steps, one per seed (seeds: {_counts(groups)}). A mark above the lines has more accuracy than the baseline's "
        "law gives for its entropy. Intervals of the distances stand in the table."
    )


def controlled_table(baseline: Sequence[Run], groups: Arms) -> pd.DataFrame:
    """Final entropy and accuracy of every arm, and its accuracy minus the baseline's law there, paired by seed.

    Each arm is cut to the steps that it shares with the baseline.
    """
    window, rows = _end_window(), []
    for name, runs in {"grpo8": baseline, **groups}.items():
        steps = common_steps([*baseline, *runs])
        ends = [measures.end(run, steps, window) for run in runs]
        gaps = _effects(
            baseline, runs, lambda one, other: measures.control_gap(one, other, window=window, minimum=_minimum())
        )
        rows.append(
            {
                "Arm": looks.name(name),
                "n": len(runs),
                "Steps": steps,
                "Final entropy": spell_seeds([one.entropy for one in ends], "nat"),
                "Final accuracy": spell_seeds([one.accuracy for one in ends], "share"),
                "Accuracy minus the law": spell_seeds(gaps, "points"),
            }
        )
    return pd.DataFrame(rows)


# The paper's own curves.


def _paper_early_step(name: str, points: Trajectory) -> float:
    return first_part(points) if name == "fig1" else float(measures.PAPER_STEPS)


@style.styled("y")
def paper_curves() -> Figure:
    """The paper's own GRPO curves: accuracy against entropy with the law, and what the early law leaves."""
    figure, (upper, lower) = style.panels(2, 6.8)
    for place, (name, points) in enumerate(_paper_in_order().items()):
        look = {"markersize": 3.5, **style.look(place)}
        upper.plot(points.entropy, 100 * points.reward, linestyle="", label=_PAPER_NAMES[name], **look)
        early, _ = points.split(_paper_early_step(name, points))
        first = law.fit_law(early.entropy, early.reward)
        _draw_law(upper, law.fit_law(points.entropy, points.reward), look["color"])
        _draw_law(upper, first, look["color"], linestyle="--")
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
    """Each curve of the paper: whole fit, and each form's RMSE over the rest, for the paper's cut and ours."""
    rows = []
    for name, points in _paper_in_order().items():
        whole = law.fit_law(points.entropy, points.reward)
        for cut, until in (("paper's", _paper_early_step(name, points)), ("half of the entropy", half_spent(points))):
            early, rest = points.split(until)
            errors = {form: _predicted(points, lambda _, until=until: until, form) for form in law.FORMS}
            rows.append(
                {
                    "Curve": _PAPER_NAMES[name],
                    "a": spell(whole.a, ""),
                    "b": spell(whole.b, ""),
                    "R²": f"{whole.r2:.3f}",
                    "Cut": cut,
                    "Points": f"{early.step.size} + {rest.step.size}",
                    **{form: f"{100 * one.rmse:.1f}" if one else "too few points" for form, one in errors.items()},
                }
            )
    return pd.DataFrame(rows)


@style.styled("y")
def paper_sizes() -> Figure:
    """The paper's five fitted models: coefficients against size, and 32B as the smaller ones predict it."""
    return _draw_sizes(_paper_fits(), "Non-embedding parameters (billions)", "models")


def _paper_fits() -> pd.DataFrame:
    return paper.read_fits()[["size", *measures.COEFFICIENTS]]


def paper_sizes_caption() -> str:
    """Caption of `paper_sizes`."""
    return (
        "Coefficients of the law that the paper fitted to five Qwen2.5 models, read off its Fig. 1 (right; error 3 % "
        "of a, 1 point of b; performance as a fraction; n = 5 models, one curve each) against non-embedding "
        "parameters. Line: log-linear trend of the four smaller models; diamond: what it predicts for 32B, with the "
        f"{style.INTERVAL} for a new coefficient there."
    )


def paper_sizes_table() -> pd.DataFrame:
    """`trend_table` of the paper's five models; its largest is 32B."""
    return _trend_rows(_paper_fits())


# Values for the book's prose.


def glued(groups: Arms) -> dict[str, str | int]:
    """What the prose says of the runs beside the findings, in words: steps, seeds, coefficients, errors of rivals."""
    algorithms, sizes, _, controlled = compared(groups)
    grpo, window = groups["grpo"], _end_window()
    fits = [found for _, found in _fits(grpo)]
    points = [measures.trajectory(run) for run in grpo]
    spent = [_share_spent(one, first_part(one)) for one in points if one.entropy[0] > one.entropy[-1]]
    words: dict[str, str | int] = {
        "steps": grpo[0].config.max_steps,
        "seeds": style.seeds(len(grpo)).removeprefix("n = "),
        "steps_algorithms": style.common(algorithms),
        "steps_sizes": style.common(sizes),
        "steps_controlled": style.common({arm: groups[arm] for arm in ("grpo8", *controlled)}),
        "spent_early": spell_seeds(spent, "share"),
        "fit_a": spell_seeds([found.a for found in fits]),
        "fit_b": spell_seeds([found.b for found in fits]),
        "fit_ceiling": spell_seeds([found.ceiling for found in fits], "share"),
        "fit_rmse": spell_seeds([found.rmse for found in fits], "points"),
        **{f"margin_{name}": f"{100 * _margin(name):.1f} %" for name in ("a", "b")},
        "reached": spell_seeds([end_level(run, "accuracy", _argument("window")) for run in grpo], "share"),
    }
    for arm in ("kl_target_10", "kl_target_20", "kl_target_30"):
        words[f"reached_{arm}"] = spell_seeds([end_level(run, "accuracy", window) for run in groups[arm]], "share")
    table = predictions(grpo)
    for cut, short in zip(CUTS, ("early", "half"), strict=True):
        for form in law.FORMS:
            values = table.loc[(table["cut"] == cut) & (table["form"] == form), "rmse"]
            words[f"{short}_rmse_{form.replace(' ', '_').lower()}"] = spell_seeds(values, "points")
    return words


def _share_spent(points: Trajectory, until: float) -> float:
    """Share of the fall of entropy, first to last evaluation, that is over at the last evaluation up to `until`."""
    before = points.entropy[points.step <= until]
    return float((points.entropy[0] - before[-1]) / (points.entropy[0] - points.entropy[-1]))
