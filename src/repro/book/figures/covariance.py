"""Figures of claim 3, the change of entropy and the covariance."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from repro import claims
from repro.book.figures import style
from repro.claims.measures import covariance as measures
from repro.paper import read_covariance
from repro.runs import Run

FALL_COLOUR, COVARIANCE_COLOUR = style.PLAIN, style.PALETTE[2]
TOP = 0.02
"""The share of tokens with the largest covariances that is looked at one by one."""
_STATEMENTS = {"lemma_1": ("Lemma 1", "o"), "theorem_1": ("Theorem 1", "s"), "theorem_2": ("Theorem 2", "^")}
_GROUPS = {"0.125": ("1/8", style.PALETTE[3]), "0.5": ("4/8", style.PALETTE[4]), "0.875": ("7/8", style.PALETTE[2])}
_STAGES = {"all": ("0.3", "o"), "first third": (style.PALETTE[0], "^"), "last third": (style.PALETTE[1], "s")}


def _smoothing() -> float:
    """The fraction of training that curves are averaged over: the ledger's, for the paper's Fig. 8."""
    return claims.load_ledger().claim("covariance").part("curves_alike").arguments["smoothing"]


@style.styled("y")
def tabular() -> Figure:
    """Error of the statements against the step, and the two first-order terms on random languages."""
    figure, [errors, terms] = style.panels(2, 6.6)
    for colour, (statement, (name, marker)) in zip(style.PALETTE, _STATEMENTS.items(), strict=False):
        changes = [measures.statement_change(statement, step) for step in measures.STEPS]
        worst = [float(np.abs(change.exact - change.predicted).max()) for change in changes]
        errors.loglog(measures.STEPS, worst, marker=marker, markersize=5, color=colour, label=name)
    errors.loglog(measures.STEPS, 0.03 * measures.STEPS**2, color="0.4", linestyle=":", label="slope 2")
    errors.set(title="Largest error (nat)", xlabel="Step")
    errors.legend()
    table = 1000 * measures.tree_terms()
    terms.plot(table["actions"], table["states"], linestyle="", marker="o", markersize=3, color=FALL_COLOUR)
    reach = float(table["actions"].abs().max())
    terms.plot([-reach, reach], [0, 0], **style.GUIDE)
    terms.set(title="Term of the states (mnat)", xlabel="Lemma 1's term (mnat)")
    return figure


def tabular_caption() -> str:
    """Caption of `tabular`."""
    share = measures.states_share()
    return (
        f"Exact tables of logits, float64. Above: largest error of the predicted entropy change among n = "
        f"{measures.POLICIES} random policies with {measures.ACTIONS} actions, against the step; dotted: a line of "
        "order 2. Below: the two first-order terms of the change of mean entropy under the exact policy gradient, per "
        f"unit learning rate, on n = {measures.TREES} random languages of {measures.TREE_DEPTH} tokens; the paper has "
        "the one across and leaves out the one upwards, which is "
        f"{claims.spell_interval(*share[:3], 'share')} of the sum of their sizes ({style.INTERVAL})."
    )


@style.styled("y")
def lemma(runs: Sequence[Run]) -> Figure:
    """Minus the entropy change of every step against Lemma 1's covariance, with the line of slope 1."""
    figure, [axes] = style.panels(1, 4.2)
    ends = []
    for place, run in enumerate(runs):
        table = 1000 * measures.probe_table(run)[["lemma1", "fall"]]
        look = {"linestyle": "", "markersize": 3, **style.look(place)}
        axes.plot(table["lemma1"], table["fall"], label=f"seed {run.config.seed}", **look)
        ends += [table.min().min(), table.max().max()]
    line = [min(ends), max(ends)]
    axes.plot(line, line, color="0.4", linestyle=":", label="slope 1")
    axes.set(title="Minus the entropy change (mnat)", xlabel="Lemma 1's covariance (mnat)")
    axes.legend()
    return figure


def lemma_caption(runs: Sequence[Run]) -> str:
    """Caption of `lemma`, with n and the slope's interval."""
    slope = claims.spell_seeds([measures.probe_slope(run, predictor="lemma1") for run in runs])
    return (
        f"Minus the entropy change of an optimizer step, over the states of its own responses, against the exact "
        f"covariance of Lemma 1, in thousandths of a nat per token. A point per step, {style.seeds(len(runs))} of "
        f"{len(runs[0].probe)} steps. Slope through the origin: {slope}"
        f"{f', mean and {style.INTERVAL}' * (len(runs) > 1)}."
    )


@style.styled("y")
def rates(groups: Sequence[Sequence[Run]]) -> Figure:
    """Lemma 1's slope against the learning rate, on a logarithmic axis.

    Args:
        groups: the runs of each arm; empty ones are left out.
    """
    figure, [axes] = style.panels(1, 3.6)
    for runs in filter(None, groups):
        slopes = [measures.probe_slope(run, predictor="lemma1") for run in runs]
        mean = "_" if len(slopes) > 1 else ""
        style.draw_seeds(axes, _rate(runs), slopes, "0.1", upright=True, mean=mean, dots=style.SEED_DOTS, width=1.5)
    axes.axhline(1, color="0.4", linestyle=":")
    axes.set(title="Slope against Lemma 1's covariance", xscale="log", xlabel="Learning rate")
    return figure


def _rate(runs: Sequence[Run]) -> float:
    return float(runs[0].probe["learning_rate"].iloc[0])


def rates_caption(groups: Sequence[Sequence[Run]]) -> str:
    """Caption of `rates`, with n and the steps of each arm."""
    parts = [f"{_rate(runs):.0e}: n = {len(runs)}, {len(runs[0].probe)} steps" for runs in filter(None, groups)]
    return (
        "Slope of minus the entropy change against Lemma 1's covariance, by step and through the origin, at "
        f"{len(parts)} learning rates ({'; '.join(parts)}). Circles: seeds; dash and bar: mean and {style.INTERVAL}, "
        "where there are two seeds or more. Dotted: the slope of a first-order law, which a step reaches as it goes to "
        "zero."
    )


def _curve(runs: Sequence[Run], name: str) -> pd.DataFrame:
    """Long table seed, step, `value`: a smoothed column of the probe, without the steps that have none."""
    frames = []
    for run in runs:
        table = measures.probe_table(run)
        value = measures.smoothed(table[name], _smoothing())
        frames.append(pd.DataFrame({"seed": run.config.seed, "step": table["step"], "value": value}).dropna())
    return pd.concat(frames, ignore_index=True)


def _draw_paper(axes: Axes, series: str, colour: Any, label: str) -> None:
    table = read_covariance()
    line = table[table["series"] == series].sort_values("step")
    axes.plot(line["step"], line["value"], color=colour, linewidth=1.4, label=label)


def _finish(axes: Axes, title: str) -> None:
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.set_title(title)
    axes.legend(loc="best")


@style.styled("y")
def curves(runs: Sequence[Run]) -> Figure:
    """Covariance over responses and minus the entropy change against steps: ours, and the paper's Fig. 8 (left)."""
    figure, panels = style.panels(4, 8.4)
    style.draw_runs(panels[0], _curve(runs, "theorem1_response"), "value", COVARIANCE_COLOUR)
    style.draw_runs(panels[1], _curve(runs, "fall"), "value", FALL_COLOUR)
    _draw_paper(panels[2], "Cov", style.PAPER_COLOUR, "paper, Fig. 8 (left)")
    _draw_paper(panels[3], "minus_dH", style.PAPER_COLOUR, "paper, Fig. 8 (left)")
    for place, axes in enumerate(panels):
        what = ("covariance over responses", "minus the entropy change (nat)")[place % 2]
        _finish(axes, f"{'Ours' if place < 2 else 'Paper'}: {what}")
    panels[1].set_xlabel("Optimizer step")
    panels[3].set_xlabel("Training step")
    return figure


def curves_caption(runs: Sequence[Run]) -> str:
    """Caption of `curves`, with n, the band and the smoothing."""
    return (
        "Covariance over the responses of a prompt (Eqs. 8 and 9; nat, since advantages have no unit) and minus the "
        f"entropy change of the step, each a centred mean over {style.part(_smoothing())} of the {len(runs[0].probe)} "
        f"steps. {style.sampling(runs)} The paper's two curves are read off the pixels of its Fig. 8 (errors 0.00015 "
        "and 0.0005); their smoothing, and over how many steps its entropy change is taken, are not stated."
    )


@style.styled("y")
def accuracy_groups(runs: Sequence[Run]) -> Figure:
    """The covariance over responses of prompts with 1/8, 4/8 and 7/8 right: ours, and the paper's Fig. 8 (right)."""
    figure, [ours, paper] = style.panels(2, 6)
    for accuracy, (name, colour) in _GROUPS.items():
        table = _curve(runs, f"theorem1_response_at_{accuracy}")
        if not table.empty:
            style.draw_runs(ours, table, "value", colour, f"{name} right")
        _draw_paper(paper, f"acc{accuracy}", colour, f"{name} right")
    _finish(ours, "Ours: covariance over responses")
    _finish(paper, "Paper: covariance over responses")
    ours.set_xlabel("Optimizer step")
    paper.set_xlabel("Training step")
    return figure


def accuracy_groups_caption(runs: Sequence[Run]) -> str:
    """Caption of `accuracy_groups`, with n, the band and the smoothing."""
    return (
        "Covariance over the responses of a prompt (Eqs. 8 and 9; nat), averaged over the prompts of the batch with 1, "
        f"4 and 7 of 8 responses right; ours is a centred mean over {style.part(_smoothing())} of training, over the "
        f"steps that have such prompts. {style.sampling(runs)} The paper's curves are read off its Fig. 8 (right; "
        "error 0.0001)."
    )


@style.styled("x")
def predictors(runs: Sequence[Run]) -> Figure:
    """Correlation by step of every predictor with minus the entropy change, in all of training and its outer thirds."""
    correlations = measures.predictor_correlations(runs).groupby(["stage", "predictor"])["correlation"]
    figure, [axes] = style.panels(1, 5.6)
    for offset, (stage, (colour, marker)) in zip((-0.25, 0, 0.25), _STAGES.items(), strict=True):
        look = {"linestyle": "", "marker": marker, "markersize": 4, "color": colour}
        for height, predictor in enumerate(measures.PREDICTORS):
            if (stage, predictor) in correlations.groups:
                values = correlations.get_group((stage, predictor))
                style.draw_seeds(axes, height + offset, values, colour, dots=look, width=1.5)
        axes.plot([], [], label=stage, **look)
    axes.axvline(0, color="0.4", linewidth=0.8)
    style.name_rows(axes, measures.PREDICTORS.values())
    axes.tick_params(axis="y", labelsize="small")
    axes.set(xlabel="Correlation by step", xlim=(-1.05, 1.05))
    style.legend_below(figure, axes, 3)
    return figure


def predictors_caption(runs: Sequence[Run]) -> str:
    """Caption of `predictors`, with n and what the lines are."""
    n = len(runs)
    return (
        "Pearson correlation, over optimizer steps and without smoothing, of each covariance with minus the entropy "
        f"change of the step, for all of training and for its first and last third. A mark per seed (n = {n}; "
        f"{style.interval(n, 'lines')}). An interval may reach past 1, where no correlation can."
    )


@style.styled("y")
def top(runs: Sequence[Run]) -> Figure:
    """Mean covariance of the top fractions of tokens at step 1 beside Table 1, and who the `TOP` are."""
    figure, [means, who] = style.panels(2, 7)
    for fraction, printed in measures.TABLE_1.items():
        if fraction < 1:
            ours = [measures.top_mean(run, fraction) for run in runs]
            means.plot(np.full(len(ours), 100 * fraction), ours, **style.SEED_DOTS)
            means.plot(100 * fraction, printed, **(style.PAPER_DOTS | {"markersize": 6, "zorder": 2}))
    means.plot([], [], label="paper, Table 1", **style.PAPER_DOTS)
    means.plot([], [], label="our seeds", **style.SEED_DOTS)
    means.set(title="Mean covariance", xscale="log", yscale="log", xlabel="Top share of tokens (%)", ylim=(0.1, 10))
    means.legend()
    table = pd.concat([measures.top_tokens(run, TOP) for run in runs], ignore_index=True)
    for name, marker, colour, rows in (
        ("advantage below 0", "v", style.PALETTE[3], table["advantage"] < 0),
        ("advantage above 0", "^", style.PALETTE[0], table["advantage"] > 0),
    ):
        mine = table[rows]
        look = {"linestyle": "", "marker": marker, "markersize": 4, "color": colour}
        who.plot(np.exp(mine["log_prob"]), mine["covariance"], label=f"{name} ({len(mine)})", **look)
    bound = float(np.mean([measures.sign_bound(run) for run in runs]))
    who.axhline(bound, color=style.PALETTE[0], linestyle=":", label="no advantage above 0 can pass")
    who.set(title="Covariance of a token", xscale="log", xlabel="Probability of the token")
    who.set_xlim(10 ** np.floor(table["log_prob"].min() / np.log(10)), 1.2)
    who.legend(fontsize="x-small")
    for axis in (means.xaxis, means.yaxis, who.xaxis):
        axis.set_minor_formatter(NullFormatter())
    return figure


def top_caption(runs: Sequence[Run]) -> str:
    """Caption of `top`, with n, the tokens and the bound."""
    words = measures.describe(runs)
    return (
        f"Tokens of the first optimizer step, {style.seeds(len(runs))} with {words['tokens_first']} tokens each. "
        "Above: mean covariance (Eq. 10, nat) of the top shares of tokens, a circle per seed; where a share is less "
        f"than one token it is one. Below: the top {100 * TOP:g} % of all seeds, by probability and sign of the "
        "advantage. Dotted: the largest advantage less the mean one, times the mean of minus log-probabilities, mean "
        f"over seeds ({words['bound_first']}): what the covariance of a token with an advantage above the mean cannot "
        "exceed."
    )


@style.styled("y")
def bandit() -> Figure:
    """What a bonus on entropy and a penalty on covariance cost on a bandit, held constant and annealed."""
    shown = {"bonus": ("entropy bonus", style.PALETTE[0]), "penalty": ("covariance penalty", style.PALETTE[1])}
    figure, [axes] = style.panels(1, 3.8)
    for control, (name, colour) in shown.items():
        for annealed, line, kind in ((False, "-", "constant"), (True, "--", "annealed")):
            path = measures.bandit_regret_path(control, annealed)
            steps = np.unique(np.geomspace(1, len(path) - 1, 200).astype(int))
            axes.plot(steps, path[steps], color=colour, linestyle=line, label=f"{name}, {kind}")
    axes.set(title="Reward short of the best", xscale="log", yscale="log", xlabel="Step")
    axes.legend()
    return figure


def bandit_caption() -> str:
    """Caption of `bandit`."""
    rewards = ", ".join(f"{reward:g}" for reward in measures.BANDIT_REWARDS)
    coefficients = measures.BANDIT_COEFFICIENTS
    return (
        f"Expected reward short of the best on a bandit with rewards {rewards}, from the uniform policy, by exact "
        f"gradient steps of size 1: entropy bonus of {coefficients['bonus']:g}, penalty of {coefficients['penalty']:g} "
        "on Theorem 2's covariance; held constant, or falling to zero over the first third of the steps. Exact, hence "
        "no interval."
    )
