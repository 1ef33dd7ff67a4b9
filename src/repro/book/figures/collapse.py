"""Figures of claim 1, the collapse."""

from collections.abc import Sequence
from fractions import Fraction

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from repro import claims
from repro.book.figures import style
from repro.claims import Claim, Finding
from repro.paper import read_training
from repro.runs import Run

# Reading error of the digitised panel, from the header of its file.
_READING_ERROR = {"accuracy": 0.002, "entropy": 0.005}

_QUANTITIES = (
    ("accuracy", "Share of the gain (%)", style.ACCURACY_COLOUR),
    ("entropy", "Share of the fall of entropy (%)", style.ENTROPY_COLOUR),
)
_SHARES = {"entropy_share": ("Entropy", style.ENTROPY_COLOUR), "gain_share": ("Gain", style.ACCURACY_COLOUR)}
_POINTS = {"linestyle": "", "marker": "D", "markersize": 4.5, "capsize": 2, "zorder": 4}


def collapse(runs: Sequence[Run]) -> Figure:
    """Accuracy and entropy against optimizer steps, one above the other, as in the paper's Fig. 1 (left).

    The dotted lines mark 1/12 and 1/3 of training, where the paper gives its shares.
    """
    with mpl.rc_context(style.STYLE):
        figure, panels = style.panels(2, 5.6)
        style.draw_runs(panels[0], style.curves(runs, "accuracy"), "step", "accuracy", style.ACCURACY_COLOUR)
        style.draw_runs(panels[1], style.curves(runs, "entropy"), "step", "entropy", style.ENTROPY_COLOUR)
        panels[0].set(title="Validation accuracy", xlabel="", ylabel="")
        panels[1].set(title="Entropy (nat per token)", xlabel="Optimizer step", ylabel="")
        panels[1].set_ylim(bottom=0)
        panels[1].sharex(panels[0])
        panels[0].tick_params(labelbottom=False)
        for axes in panels:
            axes.legend(loc="best")
            style.mark_fractions(axes, runs[0].config.max_steps, rising=axes is panels[0])
    return figure


def collapse_caption(runs: Sequence[Run]) -> str:
    """Caption of `collapse`, with n and what the band is."""
    config = runs[0].config
    return (
        f"Validation accuracy (mean@{config.eval_samples} over {config.eval_prompts} fixed prompts) and policy entropy "
        f"(entropy/response_mean, averaged over each rollout's {config.updates_per_rollout} updates) during "
        f"{config.max_steps} optimizer steps of plain GRPO. {style.sampling(runs)} Dotted: 1/12 and 1/3 of training."
    )


def shares(claim: Claim, findings: Sequence[Finding]) -> Figure:
    """Shares of the entropy's fall and of the gain at 1/12 and 1/3 of training beside the paper's, as its Fig. 2 shows.

    Args:
        claim: claim 1 as the ledger states it.
        findings: what `repro.claims.measure` found for it. Sub-claims that are no such share are left out.
    """
    measured = {finding.subclaim: finding for finding in findings}
    rows = [part for part in claim.subclaims if part.measure in _SHARES and part.id in measured]
    with mpl.rc_context(style.STYLE | {"axes.grid.axis": "x"}):
        figure, [axes] = style.panels(1, 3.8)
        for height, part in enumerate(rows):
            finding = measured[part.id]
            if finding.estimate is not None:
                axes.barh(height, 100 * finding.estimate, height=0.62, color=_SHARES[part.measure][1], alpha=0.75)
            if finding.low is not None:
                axes.hlines(height + 0.12, 100 * finding.low, 100 * finding.high, color="0.1", linewidth=2)
            dots = [100 * value for value in finding.values if value is not None]
            axes.plot(dots, np.full(len(dots), height + 0.12), **style.SEED_DOTS)
            axes.plot(100 * part.printed, height - 0.18, **style.PAPER_DOTS)
        axes.plot([], [], label="paper, mean of 11 models", **style.PAPER_DOTS)
        axes.plot([], [], label="our seeds", **style.SEED_DOTS)
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
    with mpl.rc_context(style.STYLE):
        figure, panels = style.panels(2, 5.6)
        for axes, (quantity, title, colour) in zip(panels, _QUANTITIES, strict=True):
            ours = []
            for run in runs:
                curve = style.curves([run], quantity)
                end = claims.level_at(run, quantity, 1, window)
                if (end - curve[quantity].iloc[0]) * (1 if quantity == "accuracy" else -1) > 0:
                    scaled = _normalised(curve["step"], curve[quantity], run.config.max_steps, end)
                    ours.append(scaled.assign(seed=run.config.seed))
            if ours:
                style.draw_runs(axes, pd.concat(ours, ignore_index=True), "fraction", "share", colour)
            points = _normalised(paper["step"], paper[quantity], paper["step"].iloc[-1], paper[quantity].iloc[-1])
            whole = abs(paper[quantity].iloc[-1] - paper[quantity].iloc[0])
            # A share is a difference of two readings over a third; the error of the whole is small beside theirs.
            error = 100 * np.sqrt(2) * _READING_ERROR[quantity] / whole
            axes.errorbar(
                points["fraction"],
                points["share"],
                yerr=error,
                color=style.PAPER_COLOUR,
                label="paper, Fig. 1 (left)",
                **_POINTS,
            )
            axes.set(title=title, xlabel="", ylabel="", xlim=(-0.02, 1.02))
            axes.legend(loc="best")
            style.mark_fractions(axes, 1, rising=True)
        panels[0].tick_params(labelbottom=False)
        panels[1].set_xlabel("Fraction of training")
    return figure


def against_paper_caption(runs: Sequence[Run]) -> str:
    """Caption of `against_paper`, with n, the band and the reading error."""
    return (
        "The two curves as shares of their whole change, over the one run of the paper that can be read off its pixels "
        "(Fig. 1, left; reading error 0.2 points of accuracy and 0.005 nat, as bars). The paper's other ten models are "
        f"not in it. {style.sampling(runs)} Dotted: 1/12 and 1/3 of training."
    )
