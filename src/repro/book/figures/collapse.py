"""Figures of claim 1, the collapse."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from repro.book.figures import style
from repro.claims import Claim, Finding, load_ledger
from repro.claims.curves import curve, curves, end_level
from repro.paper import READING_ERROR, read_training
from repro.runs import Run

_QUANTITIES = (
    ("accuracy", "Share of the gain (%)", style.PLAIN),
    ("entropy", "Share of the fall of entropy (%)", style.PLAIN),
)
_SHARES = {"entropy_share": ("Entropy", style.PLAIN), "gain_share": ("Gain", style.PLAIN)}
_POINTS = {"linestyle": "", "marker": "D", "markersize": 4.5, "capsize": 2, "zorder": 4}


def _shares(claim: Claim) -> dict[str, float]:
    """The sub-claims that are shares, with the fraction of training that each is taken at."""
    return {part.id: part.arguments["fraction"] for part in claim.subclaims if part.measure in _SHARES}


def _fractions() -> list[float]:
    """The fractions of training at which the paper gives its shares, from the ledger."""
    return sorted(set(_shares(load_ledger().claim("collapse")).values()))


def _marked() -> str:
    return f"Dotted: {' and '.join(map(style.part, _fractions()))} of training."


@style.styled("y")
def collapse(runs: Sequence[Run]) -> Figure:
    """Accuracy and entropy against optimizer steps, one above the other, as in the paper's Fig. 1 (left).

    The dotted lines mark the fractions of training at which the paper gives its shares.
    """
    figure, panels = style.panels(2, 5.6)
    for axes, (quantity, _, colour) in zip(panels, _QUANTITIES, strict=True):
        style.draw_runs(axes, curves(runs, quantity), quantity, colour)
        axes.legend(loc="best")
        style.mark_fractions(axes, _fractions(), runs[0].config.max_steps, rising=quantity == "accuracy")
    panels[0].set_title("Validation accuracy")
    panels[1].set_title("Entropy (nat per token)")
    panels[1].set_ylim(bottom=0)
    panels[1].sharex(panels[0])
    style.stacked(panels, "Optimizer step")
    return figure


def collapse_caption(runs: Sequence[Run]) -> str:
    """Caption of `collapse`, with n and what the band is."""
    config = runs[0].config
    return (
        f"Validation accuracy (mean@{config.eval_samples} over {config.eval_prompts} fixed prompts) and policy entropy "
        f"(entropy/response_mean, averaged over each rollout's {config.updates_per_rollout} updates) during "
        f"{config.max_steps} optimizer steps of plain GRPO. {style.sampling(runs)} {_marked()}"
    )


@style.styled("x")
def shares(claim: Claim, findings: Sequence[Finding]) -> Figure:
    """Shares of the entropy's fall and of the gain at 1/12 and 1/3 of training beside the paper's, as its Fig. 2 shows.

    Args:
        claim: claim 1 as the ledger states it.
        findings: what `repro.claims.measure` found for it. Sub-claims that are no such share are left out.
    """
    measured = {finding.subclaim: finding for finding in findings}
    rows = [part for part in claim.subclaims if part.id in _shares(claim) and part.id in measured]
    figure, [axes] = style.panels(1, 3.8)
    labels = []
    for height, part in enumerate(rows):
        finding, (name, colour) = measured[part.id], _SHARES[part.measure]
        labels.append(f"{name}, {style.part(part.arguments['fraction'])}")
        if finding.estimate is not None:
            axes.barh(height, 100 * finding.estimate, height=0.62, color=colour, alpha=0.75)
        values = [100 * value for value in finding.values if value is not None]
        if finding.low is not None:
            style.draw_seeds(axes, height + 0.12, values, "0.1", dots=style.SEED_DOTS, width=2)
        else:
            axes.plot(values, np.full(len(values), height + 0.12), **style.SEED_DOTS)
        axes.plot(100 * part.printed, height - 0.18, **style.PAPER_DOTS)
    axes.plot([], [], label="paper, mean of 11 models", **style.PAPER_DOTS)
    axes.plot([], [], label="our seeds", **style.SEED_DOTS)
    axes.plot([], [], color="0.1", linewidth=2, label="our mean's 95 % interval")
    style.name_rows(axes, labels)
    axes.set(xlabel="Share over by then (%)", xlim=(0, None))
    style.legend_below(figure, axes)
    return figure


def shares_caption(claim: Claim, findings: Sequence[Finding]) -> str:
    """Caption of `shares`, with n and what the line is."""
    n = findings[0].n
    return (
        "Share of the whole fall of entropy, and of the whole gain in validation accuracy, that is over after "
        f"{' and after '.join(map(style.part, _fractions()))} of training. Bars: our mean over {style.seeds(n)}; "
        f"circles: the seeds; {style.interval(n, 'line')}. Diamonds: the paper's printed means over 11 base models "
        f"({claim.source})."
    )


def _normalised(x: pd.Series, y: pd.Series, last: float, end: float) -> pd.DataFrame:
    """Fraction of training, as `step`, against the share of the change from y[0] to `end` that is over."""
    return pd.DataFrame({"step": x / last, "share": 100 * (y.iloc[0] - y) / (y.iloc[0] - end)})


@style.styled("y")
def against_paper(runs: Sequence[Run]) -> Figure:
    """Share of the gain and of the entropy's fall against the fraction of training, over the paper's Fig. 1 (left).

    Runs whose whole change is zero or of the wrong sign have no shares and are left out.
    """
    paper, window = read_training(), load_ledger().argument("collapse", "window")
    figure, panels = style.panels(2, 5.6)
    for axes, error, (quantity, title, colour) in zip(panels, READING_ERROR["fig1"], _QUANTITIES, strict=True):
        ours = []
        for run in runs:
            points, end = curve(run, quantity), end_level(run, quantity, window)
            if (end - points[quantity].iloc[0]) * (1 if quantity == "accuracy" else -1) > 0:
                scaled = _normalised(points["step"], points[quantity], run.config.max_steps, end)
                ours.append(scaled.assign(seed=run.config.seed))
        if ours:
            style.draw_runs(axes, pd.concat(ours, ignore_index=True), "share", colour)
        read = _normalised(paper["step"], paper[quantity], paper["step"].iloc[-1], paper[quantity].iloc[-1])
        whole = abs(paper[quantity].iloc[-1] - paper[quantity].iloc[0])
        # A share is a difference of two readings over a third; the error of the whole is small beside theirs.
        half = 100 * np.sqrt(2) * error / whole
        look = {"color": style.PAPER_COLOUR, "label": "paper, Fig. 1 (left)", **_POINTS}
        axes.errorbar(read["step"], read["share"], yerr=half, **look)
        axes.set(title=title, xlim=(-0.02, 1.02))
        axes.legend(loc="best")
        style.mark_fractions(axes, _fractions(), 1, rising=True)
    style.stacked(panels, "Fraction of training")
    return figure


def against_paper_caption(runs: Sequence[Run]) -> str:
    """Caption of `against_paper`, with n, the band and the reading error."""
    accuracy, entropy = READING_ERROR["fig1"]
    return (
        "The two curves as shares of their whole change, over the one run of the paper that can be read off its pixels "
        f"(Fig. 1, left; reading error {100 * accuracy:g} points of accuracy and {entropy:g} nat, as bars). The "
        f"paper's other ten models are not in it. {style.sampling(runs)} {_marked()}"
    )
