"""What all figures share: colours, panels, lines of runs, and the words of their captions.

Every figure shows each seed as a thin line or a dot, the mean over seeds, and the 95 % Student t interval. Figures are
narrow and drawn on white with their own margins, so that they can be read on a phone and on a dark page alike; colours
are seaborn's `colorblind` palette and never carry a meaning alone.
"""

from collections.abc import Sequence
from fractions import Fraction

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repro import claims
from repro.analysis.intervals import t_interval
from repro.runs import Run

PALETTE = sns.color_palette("colorblind")
ENTROPY_COLOUR, ACCURACY_COLOUR, PAPER_COLOUR = PALETTE[0], PALETTE[1], "0.25"

SEED_DOTS = {"linestyle": "", "marker": "o", "markersize": 5, "color": "white", "markeredgecolor": "0.1", "zorder": 3}
PAPER_DOTS = {"linestyle": "", "marker": "D", "markersize": 8, "color": PAPER_COLOUR, "zorder": 4}

STYLE = {
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


def panels(rows: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure 5 in wide with `rows` panels one above the other; independent of pyplot's global state."""
    figure = Figure(figsize=(5, height), layout="constrained")
    return figure, list(figure.subplots(rows, 1, squeeze=False)[:, 0])


def curves(runs: Sequence[Run], quantity: str) -> pd.DataFrame:
    """Long table seed, step, `quantity`: entropy by rollout (nats) or accuracy by evaluation (fraction)."""
    read = {"entropy": claims.entropy_curve, "accuracy": claims.accuracy_curve}[quantity]
    return pd.concat([read(run).assign(seed=run.config.seed) for run in runs], ignore_index=True)


def band(values: pd.Series) -> tuple[float, float]:
    """Ends of the interval over seeds at one step; no width with one seed."""
    return t_interval(values, claims.LEVEL)[1:3] if len(values) > 1 else (values.iloc[0], values.iloc[0])


def draw_runs(axes: Axes, table: pd.DataFrame, x: str, y: str, colour: tuple[float, float, float]) -> None:
    """Thin lines for the seeds, a thick one for their mean, a band for the interval."""
    seeds = table["seed"].nunique()
    sns.lineplot(
        table, x=x, y=y, units="seed", estimator=None, color=colour, linewidth=0.8, alpha=0.9, ax=axes, label="_seeds"
    )
    sns.lineplot(table, x=x, y=y, color=colour, linewidth=2.2, errorbar=band, ax=axes, label=legend(seeds))


def mark_fractions(axes: Axes, whole: float, *, rising: bool) -> None:
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


def legend(seeds: int) -> str:
    return "one seed" if seeds == 1 else f"mean of {seeds} seeds, 95 % interval"


def sampling(runs: Sequence[Run]) -> str:
    """What the lines and the band are, for a caption: 'thin lines: 3 seeds; thick: their mean; band: ...'."""
    if len(runs) == 1:
        return "One seed, hence no interval."
    return f"Thin lines: n = {len(runs)} seeds; thick line: mean; band: pointwise 95 % Student t interval of the mean."
