"""Figures of the book: runs in, a Matplotlib figure out; and their captions, generated from the same runs.

Every figure shows each seed as a thin line or a dot, the mean over seeds, and the 95 % Student t interval. Figures are
narrow and drawn on white with their own margins, so that they can be read on a phone and on a dark page alike; colours
are seaborn's `colorblind` palette and never carry a meaning alone.
"""

from collections.abc import Sequence
from fractions import Fraction

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repro import claims
from repro.claims import Claim, Finding
from repro.ops.stats import t_interval
from repro.paper import read_training
from repro.runs import Run

_PALETTE = sns.color_palette("colorblind")
ENTROPY_COLOUR, ACCURACY_COLOUR, PAPER_COLOUR = _PALETTE[0], _PALETTE[1], "0.25"

# Reading error of the digitised panel, from the header of its file.
_READING_ERROR = {"accuracy": 0.002, "entropy": 0.005}

_QUANTITIES = (
    ("accuracy", "Share of the gain (%)", ACCURACY_COLOUR),
    ("entropy", "Share of the fall of entropy (%)", ENTROPY_COLOUR),
)
_SHARES = {"entropy_share": ("Entropy", ENTROPY_COLOUR), "gain_share": ("Gain", ACCURACY_COLOUR)}
_SEED_DOTS = {"linestyle": "", "marker": "o", "markersize": 5, "color": "white", "markeredgecolor": "0.1", "zorder": 3}
_PAPER_DOTS = {"linestyle": "", "marker": "D", "markersize": 8, "color": PAPER_COLOUR, "zorder": 4}
_POINTS = {"linestyle": "", "marker": "D", "markersize": 4.5, "capsize": 2, "zorder": 4}

_STYLE = {
    **sns.axes_style("ticks"),
    **sns.plotting_context("notebook"),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "grid.alpha": 0.5,
    "legend.frameon": False,
    "legend.fontsize": "small",
    "figure.facecolor": "white",
}


def _figure(rows: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure 5 in wide with `rows` panels one above the other; independent of pyplot's global state."""
    figure = Figure(figsize=(5, height), layout="constrained")
    return figure, list(figure.subplots(rows, 1, squeeze=False)[:, 0])


def _curve(runs: Sequence[Run], quantity: str) -> pd.DataFrame:
    """Long table seed, step, `quantity`: entropy by rollout (nats) or accuracy by evaluation (fraction)."""
    read = {"entropy": claims.entropy_curve, "accuracy": claims.accuracy_curve}[quantity]
    return pd.concat([read(run).assign(seed=run.config.seed) for run in runs], ignore_index=True)


def _band(values: pd.Series) -> tuple[float, float]:
    """Ends of the interval over seeds at one step; no width with one seed."""
    return t_interval(values, claims.LEVEL)[1:3] if len(values) > 1 else (values.iloc[0], values.iloc[0])


def _draw_runs(axes: Axes, table: pd.DataFrame, x: str, y: str, colour: tuple[float, float, float]) -> None:
    """Thin lines for the seeds, a thick one for their mean, a band for the interval."""
    seeds = table["seed"].nunique()
    sns.lineplot(
        table, x=x, y=y, units="seed", estimator=None, color=colour, linewidth=0.8, alpha=0.9, ax=axes, label="_seeds"
    )
    sns.lineplot(table, x=x, y=y, color=colour, linewidth=2.2, errorbar=_band, ax=axes, label=_legend(seeds))


def _mark_fractions(axes: Axes, whole: float, *, rising: bool) -> None:
    """Dotted lines at 1/12 and 1/3 of training, where the paper gives its shares, named away from the curve."""
    for fraction in (Fraction(1, 12), Fraction(1, 3)):
        place = float(fraction) * whole
        axes.axvline(place, color="0.4", linestyle=":", linewidth=1)
        axes.annotate(
            str(fraction),
            (place, 0 if rising else 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, 3 if rising else -3),
            textcoords="offset points",
            va="bottom" if rising else "top",
            fontsize="small",
            color="0.35",
        )


def _legend(seeds: int) -> str:
    return "one seed" if seeds == 1 else f"mean of {seeds} seeds, 95 % interval"


def _sampling(runs: Sequence[Run]) -> str:
    """What the lines and the band are, for a caption: 'thin lines: 3 seeds; thick: their mean; band: ...'."""
    if len(runs) == 1:
        return "One seed, hence no interval."
    return f"Thin lines: n = {len(runs)} seeds; thick line: mean; band: pointwise 95 % Student t interval of the mean."


def collapse(runs: Sequence[Run]) -> Figure:
    """Accuracy and entropy against optimizer steps, one above the other, as in the paper's Fig. 1 (left).

    The dotted lines mark 1/12 and 1/3 of training, where the paper gives its shares.
    """
    with mpl.rc_context(_STYLE):
        figure, panels = _figure(2, 5.6)
        _draw_runs(panels[0], _curve(runs, "accuracy"), "step", "accuracy", ACCURACY_COLOUR)
        _draw_runs(panels[1], _curve(runs, "entropy"), "step", "entropy", ENTROPY_COLOUR)
        panels[0].set(title="Validation accuracy", xlabel="", ylabel="")
        panels[1].set(title="Entropy (nat per token)", xlabel="Optimizer step", ylabel="")
        panels[1].set_ylim(bottom=0)
        panels[1].sharex(panels[0])
        panels[0].tick_params(labelbottom=False)
        for axes in panels:
            axes.legend(loc="best")
            _mark_fractions(axes, runs[0].config.steps, rising=axes is panels[0])
    return figure


def collapse_caption(runs: Sequence[Run]) -> str:
    """Caption of `collapse`, with n and what the band is."""
    config = runs[0].config
    return (
        f"Validation accuracy (mean@{config.eval_samples} over {config.eval_prompts} fixed prompts) and policy entropy "
        f"(entropy/response_mean, averaged over each rollout's {config.updates_per_rollout} updates) during "
        f"{config.steps} optimizer steps of plain GRPO. {_sampling(runs)} Dotted: 1/12 and 1/3 of training."
    )


def shares(claim: Claim, findings: Sequence[Finding]) -> Figure:
    """Shares of the entropy's fall and of the gain at 1/12 and 1/3 of training beside the paper's, as its Fig. 2 shows.

    Args:
        claim: claim 1 as the ledger states it.
        findings: what `repro.claims.measure` found for it. Sub-claims that are no such share are left out.
    """
    measured = {finding.subclaim: finding for finding in findings}
    rows = [part for part in claim.subclaims if part.measure in _SHARES and part.id in measured]
    with mpl.rc_context(_STYLE | {"axes.grid.axis": "x"}):
        figure, [axes] = _figure(1, 3.8)
        for height, part in enumerate(rows):
            finding = measured[part.id]
            if finding.estimate is not None:
                axes.barh(height, 100 * finding.estimate, height=0.62, color=_SHARES[part.measure][1], alpha=0.75)
            if finding.low is not None:
                axes.hlines(height + 0.12, 100 * finding.low, 100 * finding.high, color="0.1", linewidth=2)
            dots = [100 * value for value in finding.values if value is not None]
            axes.plot(dots, np.full(len(dots), height + 0.12), **_SEED_DOTS)
            axes.plot(100 * part.printed, height - 0.18, **_PAPER_DOTS)
        axes.plot([], [], label="paper, mean of 11 models", **_PAPER_DOTS)
        axes.plot([], [], label="our seeds", **_SEED_DOTS)
        axes.plot([], [], color="0.1", linewidth=2, label="our mean's 95 % interval")
        labels = [
            f"{_SHARES[part.measure][0]}, {Fraction(part.arguments['fraction']).limit_denominator(100)}"
            for part in rows
        ]
        axes.set_yticks(range(len(rows)), labels)
        axes.invert_yaxis()
        axes.set(xlabel="Share over by then (%)", xlim=(0, None))
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def shares_caption(claim: Claim, findings: Sequence[Finding]) -> str:
    """Caption of `shares`, with n and what the line is."""
    n = findings[0].n
    interval = "line: 95 % Student t interval of the mean" if n > 1 else "one seed, hence no interval"
    return (
        "Share of the whole fall of entropy, and of the whole gain in validation accuracy, that is over after 1/12 and "
        f"after 1/3 of training. Bars: our mean over n = {n} {'seeds' if n > 1 else 'seed'}; circles: the seeds; "
        f"{interval}. Diamonds: the paper's printed means over 11 base models ({claim.source})."
    )


def _normalised(x: pd.Series, y: pd.Series, last: float, end: float) -> pd.DataFrame:
    """Fraction of training against the share of the whole change that is over; the change runs from y[0] to `end`."""
    return pd.DataFrame({"fraction": x / last, "share": 100 * (y.iloc[0] - y) / (y.iloc[0] - end)})


def against_paper(runs: Sequence[Run]) -> Figure:
    """Share of the gain and of the entropy's fall against the fraction of training, over the paper's Fig. 1 (left).

    Runs whose whole change is zero or of the wrong sign have no shares and are left out.
    """
    paper = read_training()
    window = 1 / 24
    with mpl.rc_context(_STYLE):
        figure, panels = _figure(2, 5.6)
        for axes, (quantity, title, colour) in zip(panels, _QUANTITIES, strict=True):
            ours = []
            for run in runs:
                curve = _curve([run], quantity)
                end = claims.level_at(run, quantity, 1, window)
                if (end - curve[quantity].iloc[0]) * (1 if quantity == "accuracy" else -1) > 0:
                    scaled = _normalised(curve["step"], curve[quantity], run.config.steps, end)
                    ours.append(scaled.assign(seed=run.config.seed))
            if ours:
                _draw_runs(axes, pd.concat(ours, ignore_index=True), "fraction", "share", colour)
            points = _normalised(paper["step"], paper[quantity], paper["step"].iloc[-1], paper[quantity].iloc[-1])
            whole = abs(paper[quantity].iloc[-1] - paper[quantity].iloc[0])
            # A share is a difference of two readings over a third; the error of the whole is small beside theirs.
            error = 100 * np.sqrt(2) * _READING_ERROR[quantity] / whole
            axes.errorbar(
                points["fraction"],
                points["share"],
                yerr=error,
                color=PAPER_COLOUR,
                label="paper, Fig. 1 (left)",
                **_POINTS,
            )
            axes.set(title=title, xlabel="", ylabel="", xlim=(-0.02, 1.02))
            axes.legend(loc="best")
            _mark_fractions(axes, 1, rising=True)
        panels[0].tick_params(labelbottom=False)
        panels[1].set_xlabel("Fraction of training")
    return figure


def against_paper_caption(runs: Sequence[Run]) -> str:
    """Caption of `against_paper`, with n, the band and the reading error."""
    return (
        "The two curves as shares of their whole change, over the one run of the paper that can be read off its pixels "
        "(Fig. 1, left; reading error 0.2 points of accuracy and 0.005 nat, as bars). The paper's other ten models are "
        f"not in it. {_sampling(runs)} Dotted: 1/12 and 1/3 of training."
    )
