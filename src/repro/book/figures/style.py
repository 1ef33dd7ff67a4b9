"""What all figures share: colours, panels, curves with bands, seeds with intervals, and the words of their captions.

Every figure shows each seed as a thin line or a dot, the mean over seeds, and its interval. Figures are narrow and
drawn on white with their own margins, so that they can be read on a phone and on a dark page alike; colours are
seaborn's `colorblind` palette and never carry a meaning alone.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import wraps
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repro.analysis.intervals import LEVEL, over_seeds
from repro.book.looks import HUES, INK
from repro.claims.curves import common_steps
from repro.runs import Run

Arms = Mapping[str, Sequence[Run]]
"""Runs by the name of their arm."""

# For series that are no methods: seeds, statements, stages. Methods have the looks of `repro.book.looks`.
PALETTE = [on_light for on_light, _ in HUES.values()]
PLAIN = INK
PAPER_COLOUR = "0.25"
MARKERS = "osDv^P*X"

SEED_DOTS = {"linestyle": "", "marker": "o", "markersize": 5, "color": "white", "markeredgecolor": "0.1", "zorder": 3}
SMALL_DOTS = SEED_DOTS | {"markersize": 4, "zorder": 5}
PAPER_DOTS = {"linestyle": "", "marker": "D", "markersize": 8, "color": PAPER_COLOUR, "zorder": 4}
GUIDE = {"color": "0.4", "linestyle": ":", "linewidth": 1}

STYLE = {
    **sns.axes_style("ticks"),
    **sns.plotting_context("notebook"),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "grid.alpha": 0.5,
    "legend.frameon": False,
    "legend.fontsize": "small",
    "figure.facecolor": "white",
}
INTERVAL = f"{100 * LEVEL:g} % Student t interval"


def styled(grid: str) -> Callable[[Callable[..., Figure]], Callable[..., Figure]]:
    """Draws a figure in the book's style, with grid lines across the axis `grid` (x, y or both)."""

    def decorate(function: Callable[..., Figure]) -> Callable[..., Figure]:
        @wraps(function)
        def draw(*arguments: Any, **options: Any) -> Figure:
            with mpl.rc_context(STYLE | {"axes.grid.axis": grid}):
                return function(*arguments, **options)

        return draw

    return decorate


def panels(rows: int, height: float, columns: int = 1, **options: Any) -> tuple[Figure, list[Any]]:
    """A figure 5 in wide with panels one above the other, or a list per row; independent of pyplot's global state."""
    figure = Figure(figsize=(5, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, list(axes[:, 0] if columns == 1 else axes)


def draw_runs(axes: Axes, table: pd.DataFrame, y: str, colour: Any, label: str = "", line: str = "-") -> None:
    """Thin lines for the seeds, fainter where they are many, a thick one for their mean, a band for the interval.

    Args:
        table: long, with columns `seed`, `step` and `y`.
        label: of the mean; by default it says over how many seeds it is.
        line: style of the mean.
    """
    n = table["seed"].nunique()
    for _, one in table.groupby("seed"):
        axes.plot(one["step"], one[y], color=colour, linewidth=0.8, alpha=0.8 * min(1, 4 / n), label="_seeds")
    by_step = table.groupby("step")[y]
    ends = pd.DataFrame([over_seeds(values)[:3] for _, values in by_step], index=list(by_step.groups), dtype=float)
    if ends[1].notna().any():
        axes.fill_between(ends.index, ends[1].fillna(ends[0]), ends[2].fillna(ends[0]), color=colour, alpha=0.2, lw=0)
    label = label or ("one seed" if n == 1 else f"mean of {n} seeds, {100 * LEVEL:g} % interval")
    axes.plot(ends.index, ends[0], color=colour, linestyle=line, linewidth=2.2, zorder=2.5, label=label)


def look(place: int) -> dict[str, Any]:
    """Colour and marker of the series at a place among several."""
    return {"color": PALETTE[place % len(PALETTE)], "marker": MARKERS[place % len(MARKERS)]}


def stacked(panels: Sequence[Axes], xlabel: str) -> None:
    """Panels one above the other with one x axis, which the lowest names."""
    for axes in panels[:-1]:
        axes.tick_params(labelbottom=False)
    panels[-1].set_xlabel(xlabel)


def draw_seeds(
    axes: Axes,
    place: float,
    values: Sequence[float],
    colour: Any,
    *,
    upright: bool = False,
    mean: str = "",
    dots: Mapping[str, Any] | None = SMALL_DOTS,
    width: float = 2.2,
    floor: float = -np.inf,
) -> None:
    """The seeds' values as dots in a row, or upright in a column, with the interval of their mean as a line.

    Args:
        place: of the row or column on the other axis.
        mean: marker of the mean; none where empty.
        dots: look of the seeds; None to leave them out.
        width: of the interval's line.
        floor: where the line is cut off, for a logarithmic axis.
    """
    if not len(values):
        return
    estimate, low, high, _, _ = over_seeds(values)
    along = (lambda one, other: (other, one)) if upright else (lambda one, other: (one, other))
    if low is not None:
        (axes.vlines if upright else axes.hlines)(place, max(low, floor), high, color=colour, linewidth=width)
    if mean:
        axes.plot(*along(estimate, place), color=colour, marker=mean, markersize=8, linestyle="", zorder=4)
    if dots:
        axes.plot(*along(values, np.full(len(values), place)), **dots)


def name_rows(axes: Axes, labels: Iterable[str]) -> None:
    """Name the rows of a panel of dots and run them from top to bottom."""
    labels = list(labels)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)


def legend_below(figure: Figure, axes: Axes, columns: int = 2, **options: Any) -> None:
    """One legend for the whole figure, with each of a panel's labels once."""
    handles, labels = axes.get_legend_handles_labels()
    kept = dict(zip(labels, handles, strict=True))
    figure.legend(kept.values(), kept.keys(), loc="outside lower center", ncols=columns, **options)


def mark_fractions(axes: Axes, fractions: Iterable[float], whole: float, *, rising: bool) -> None:
    """Dotted lines at fractions of training, named away from the curve."""
    for fraction in fractions:
        place = fraction * whole
        axes.axvline(place, **GUIDE)
        axes.annotate(
            part(fraction),
            (place, 0 if rising else 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, 3 if rising else -3),
            textcoords="offset points",
            va="bottom" if rising else "top",
            fontsize="small",
            color="0.35",
        )


# Words of captions.


def part(fraction: float) -> str:
    """A fraction of training as it is written: '1/8'."""
    return str(Fraction(fraction).limit_denominator(100))


def seeds(*counts: int) -> str:
    """'n = 3 seeds', or 'n = 3 to 4 seeds'."""
    low, high = min(counts), max(counts)
    return f"n = {low}{f' to {high}' * (high > low)} seed{'s' * (high > 1)}"


def interval(n: int, words: str) -> str:
    """What an interval over n seeds is, behind `words`, or that there is none."""
    return f"{words}: {INTERVAL} of the mean" if n > 1 else "one seed, hence no interval"


def sampling(runs: Sequence[Run]) -> str:
    """What the lines and the band are: 'Thin lines: n = 3 seeds; thick line: mean; band: ...'."""
    if len(runs) == 1:
        return "One seed, hence no interval."
    return f"Thin lines: {seeds(len(runs))}; thick line: mean; band: pointwise {INTERVAL} of the mean."


def marks(arms: Arms) -> str:
    """What the dots of several arms are."""
    counts = seeds(*map(len, arms.values()))
    return f"Circles: {counts} an arm; large marks: means; lines: their {INTERVAL}s."


def common(arms: Arms) -> int:
    """Optimizer steps that all runs of these arms have."""
    return common_steps([run for runs in arms.values() for run in runs])
