"""Figures of claim 3, the change of entropy and the covariance."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from repro import claims
from repro.analysis import tabular as exact
from repro.analysis.intervals import t_interval
from repro.book.figures import style
from repro.claims.measures import covariance as measures
from repro.paper import read_covariance
from repro.runs import Run

FALL_COLOUR, COVARIANCE_COLOUR = style.ENTROPY_COLOUR, style.PALETTE[2]
SMOOTHING = 1 / 16
_STATEMENTS = {"lemma_1": ("Lemma 1", "o"), "theorem_1": ("Theorem 1", "s"), "theorem_2": ("Theorem 2", "^")}
_GROUPS = {"0.125": ("1/8", style.PALETTE[3]), "0.5": ("4/8", style.PALETTE[4]), "0.875": ("7/8", style.PALETTE[2])}
_STAGES = {"all": ("0.3", "o"), "first third": (style.PALETTE[0], "^"), "last third": (style.PALETTE[1], "s")}


def tabular() -> Figure:
    """Error of the statements against the step, and the two first-order terms on random languages."""
    with mpl.rc_context(style.STYLE):
        figure, [errors, terms] = style.panels(2, 6.6)
        for colour, (statement, (name, marker)) in zip(style.PALETTE, _STATEMENTS.items(), strict=False):
            worst = [_worst_error(measures.statement_change(statement, step)) for step in measures.STEPS]
            errors.loglog(measures.STEPS, worst, marker=marker, markersize=5, color=colour, label=name)
        guide = 0.03 * measures.STEPS**2
        errors.loglog(measures.STEPS, guide, color="0.4", linestyle=":", label="slope 2")
        errors.set(title="Largest error (nat)", xlabel="Step", ylabel="")
        errors.legend()
        table = 1000 * measures.tree_terms()
        terms.plot(table["actions"], table["states"], linestyle="", marker="o", markersize=3, color=FALL_COLOUR)
        reach = float(table["actions"].abs().max())
        terms.plot([-reach, reach], [0, 0], color="0.4", linestyle=":", linewidth=1)
        terms.set(title="Term of the states (mnat)", xlabel="Lemma 1's term (mnat)", ylabel="")
    return figure


def _worst_error(change: exact.Change) -> float:
    return float(np.abs(change.exact - change.predicted).max())


def tabular_caption() -> str:
    """Caption of `tabular`."""
    share = measures.states_share()
    return (
        f"Exact tables of logits, float64. Above: largest error of the predicted entropy change among n = "
        f"{measures.POLICIES} random policies with {measures.ACTIONS} actions, against the step; dotted: a line of "
        "order 2. Below: the two first-order terms of the change of mean entropy under the exact policy gradient, per "
        f"unit learning rate, on n = {measures.TREES} random languages of {measures.TREE_DEPTH} tokens; the paper has "
        "the one across and leaves out the one upwards, which is "
        f"{claims.spell_interval(*share[:3], 'share')} of the sum of their sizes (95 % Student t interval)."
    )


def lemma(runs: Sequence[Run]) -> Figure:
    """Minus the entropy change of every step against Lemma 1's covariance, with the line of slope 1."""
    with mpl.rc_context(style.STYLE):
        figure, [axes] = style.panels(1, 4.2)
        ends = []
        for colour, marker, run in zip(style.PALETTE, "os^Dv<>P", runs, strict=False):
            table = 1000 * measures.probe_table(run)[["lemma1", "fall"]]
            label = f"seed {run.config.seed}"
            axes.plot(
                table["lemma1"], table["fall"], linestyle="", marker=marker, markersize=3, color=colour, label=label
            )
            ends += [table.min().min(), table.max().max()]
        line = [min(ends), max(ends)]
        axes.plot(line, line, color="0.4", linestyle=":", label="slope 1")
        axes.set(title="Minus the entropy change (mnat)", xlabel="Lemma 1's covariance (mnat)", ylabel="")
        axes.legend()
    return figure


def lemma_caption(runs: Sequence[Run]) -> str:
    """Caption of `lemma`, with n and the slope's interval."""
    slope = _interval([measures.probe_slope(run, predictor="lemma1") for run in runs])
    return (
        f"Minus the entropy change of an optimizer step, over the states of its own responses, against the exact "
        f"covariance of Lemma 1, in thousandths of a nat per token. A point per step, n = {len(runs)} "
        f"{'seeds' if len(runs) > 1 else 'seed'} of {len(runs[0].probe)} steps. Slope through the origin: {slope}."
    )


def rates(groups: Sequence[Sequence[Run]]) -> Figure:
    """Lemma 1's slope against the learning rate, on a logarithmic axis.

    Args:
        groups: the runs of each arm; empty ones are left out.
    """
    with mpl.rc_context(style.STYLE):
        figure, [axes] = style.panels(1, 3.6)
        for runs in filter(None, groups):
            rate = float(runs[0].probe["learning_rate"].iloc[0])
            slopes = [measures.probe_slope(run, predictor="lemma1") for run in runs]
            if len(slopes) > 1:
                mean, low, high, _, _ = t_interval(slopes, claims.LEVEL)
                axes.errorbar(rate, mean, yerr=[[mean - low], [high - mean]], color="0.1", marker="_", markersize=14)
            axes.plot(np.full(len(slopes), rate), slopes, **style.SEED_DOTS)
        axes.axhline(1, color="0.4", linestyle=":")
        axes.set(title="Slope against Lemma 1's covariance", xscale="log", xlabel="Learning rate", ylabel="")
    return figure


def rates_caption(groups: Sequence[Sequence[Run]]) -> str:
    """Caption of `rates`, with n and the steps of each arm."""
    parts = [
        f"{runs[0].probe['learning_rate'].iloc[0]:.0e}: n = {len(runs)}, {len(runs[0].probe)} steps"
        for runs in filter(None, groups)
    ]
    return (
        "Slope of minus the entropy change against Lemma 1's covariance, by step and through the origin, at "
        f"{len(parts)} learning rates ({'; '.join(parts)}). Circles: seeds; dash and bar: mean and 95 % Student t "
        "interval, where there are two seeds or more. Dotted: the slope of a first-order law, which a step reaches as "
        "it goes to zero."
    )


def _curve(runs: Sequence[Run], name: str) -> pd.DataFrame:
    """Long table seed, step, `value`: a smoothed column of the probe, without the steps that have none."""
    frames = []
    for run in runs:
        table = measures.probe_table(run)
        value = measures.smoothed(table[name], SMOOTHING)
        frames.append(pd.DataFrame({"seed": run.config.seed, "step": table["step"], "value": value}).dropna())
    return pd.concat(frames, ignore_index=True)


def _draw_paper(axes: Axes, series: str, colour: str | tuple[float, float, float], label: str) -> None:
    table = read_covariance()
    line = table[table["series"] == series].sort_values("step")
    axes.plot(line["step"], line["value"], color=colour, linewidth=1.4, label=label)


def curves(runs: Sequence[Run]) -> Figure:
    """Covariance over responses and minus the entropy change against steps: ours, and the paper's Fig. 8 (left)."""
    with mpl.rc_context(style.STYLE):
        figure, panels = style.panels(4, 8.4)
        style.draw_runs(panels[0], _curve(runs, "theorem1_response"), "step", "value", COVARIANCE_COLOUR)
        style.draw_runs(panels[1], _curve(runs, "fall"), "step", "value", FALL_COLOUR)
        _draw_paper(panels[2], "Cov", style.PAPER_COLOUR, "paper, Fig. 8 (left)")
        _draw_paper(panels[3], "minus_dH", style.PAPER_COLOUR, "paper, Fig. 8 (left)")
        for axes, whose, what in zip(
            panels,
            ("Ours", "Ours", "Paper", "Paper"),
            ("covariance over responses", "minus the entropy change (nat)") * 2,
            strict=True,
        ):
            axes.axhline(0, color="0.4", linewidth=0.8)
            axes.set(title=f"{whose}: {what}", xlabel="", ylabel="")
            axes.legend(loc="best")
        panels[1].set_xlabel("Optimizer step")
        panels[3].set_xlabel("Training step")
    return figure


def curves_caption(runs: Sequence[Run]) -> str:
    """Caption of `curves`, with n, the band and the smoothing."""
    steps = len(runs[0].probe)
    return (
        "Covariance over the responses of a prompt (Eqs. 8 and 9; nat, since advantages have no unit) and minus the "
        f"entropy change of the step, each a centred mean over 1/16 of the {steps} steps. {style.sampling(runs)} The "
        "paper's two curves are read off the pixels of its Fig. 8 (errors 0.00015 and 0.0005); their smoothing, and "
        "over how many steps its entropy change is taken, are not stated."
    )


def accuracy_groups(runs: Sequence[Run]) -> Figure:
    """The covariance over responses of prompts with 1/8, 4/8 and 7/8 right: ours, and the paper's Fig. 8 (right)."""
    with mpl.rc_context(style.STYLE):
        figure, [ours, paper] = style.panels(2, 6)
        for accuracy, (name, colour) in _GROUPS.items():
            table = _curve(runs, f"theorem1_response_at_{accuracy}")
            if not table.empty:
                style.draw_runs(ours, table, "step", "value", colour)
                ours.lines[-1].set_label(f"{name} right")
            _draw_paper(paper, f"acc{accuracy}", colour, f"{name} right")
        for axes, title in ((ours, "Ours"), (paper, "Paper")):
            axes.axhline(0, color="0.4", linewidth=0.8)
            axes.set(title=f"{title}: covariance over responses", xlabel="", ylabel="")
            axes.legend(loc="best")
        ours.set_xlabel("Optimizer step")
        paper.set_xlabel("Training step")
    return figure


def accuracy_groups_caption(runs: Sequence[Run]) -> str:
    """Caption of `accuracy_groups`, with n, the band and the smoothing."""
    return (
        "Covariance over the responses of a prompt (Eqs. 8 and 9; nat), averaged over the prompts of the batch with 1, "
        "4 and 7 of 8 responses right; ours is a centred mean over 1/16 of training, over the steps that have such "
        f"prompts. {style.sampling(runs)} The paper's curves are read off its Fig. 8 (right; error 0.0001)."
    )


def predictors(runs: Sequence[Run]) -> Figure:
    """Correlation by step of every predictor with minus the entropy change, in all of training and its outer thirds."""
    table = measures.predictor_correlations(runs)
    with mpl.rc_context(style.STYLE | {"axes.grid.axis": "x"}):
        figure, [axes] = style.panels(1, 5.6)
        for offset, (stage, (colour, marker)) in zip((-0.25, 0, 0.25), _STAGES.items(), strict=True):
            for height, predictor in enumerate(measures.PREDICTORS):
                mine = table[(table["stage"] == stage) & (table["predictor"] == predictor)]["correlation"]
                place = height + offset
                if len(mine) > 1:
                    _, low, high, _, _ = t_interval(mine, claims.LEVEL)
                    axes.hlines(place, low, high, color=colour, linewidth=1.5)
                axes.plot(mine, np.full(len(mine), place), linestyle="", marker=marker, markersize=4, color=colour)
            axes.plot([], [], linestyle="", marker=marker, color=colour, label=stage)
        axes.axvline(0, color="0.4", linewidth=0.8)
        axes.set_yticks(range(len(measures.PREDICTORS)), measures.PREDICTORS.values(), fontsize="small")
        axes.invert_yaxis()
        axes.set(xlabel="Correlation by step", xlim=(-1.05, 1.05))
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def predictors_caption(runs: Sequence[Run]) -> str:
    """Caption of `predictors`, with n and what the lines are."""
    interval = "Lines: 95 % Student t interval of the mean." if len(runs) > 1 else "One seed, hence no interval."
    return (
        "Pearson correlation, over optimizer steps and without smoothing, of each covariance with minus the entropy "
        f"change of the step. A mark per seed (n = {len(runs)}), for all of training and for its first and last third. "
        f"{interval} An interval may reach past 1, where no correlation can."
    )


def top(runs: Sequence[Run]) -> Figure:
    """Mean covariance of the top fractions of tokens at step 1 beside Table 1, and who the top 2 % are."""
    with mpl.rc_context(style.STYLE):
        figure, [means, who] = style.panels(2, 7)
        for fraction, printed in ((fraction, mean) for fraction, mean in measures.TABLE_1.items() if fraction < 1):
            ours = [measures.top_mean(run, fraction) for run in runs]
            means.plot(np.full(len(ours), 100 * fraction), ours, **style.SEED_DOTS)
            means.plot(100 * fraction, printed, **(style.PAPER_DOTS | {"markersize": 6, "zorder": 2}))
        means.plot([], [], label="paper, Table 1", **style.PAPER_DOTS)
        means.plot([], [], label="our seeds", **style.SEED_DOTS)
        means.set(title="Mean covariance", xscale="log", yscale="log", xlabel="Top share of tokens (%)", ylabel="")
        means.set_ylim(0.1, 10)
        means.legend()
        table = pd.concat([measures.top_tokens(run, 0.02) for run in runs], ignore_index=True)
        for name, marker, colour, rows in (
            ("advantage below 0", "v", style.PALETTE[3], table["advantage"] < 0),
            ("advantage above 0", "^", style.PALETTE[0], table["advantage"] > 0),
        ):
            mine = table[rows]
            who.plot(
                np.exp(mine["log_prob"]), mine["covariance"], linestyle="", marker=marker, markersize=4, color=colour,
                label=f"{name} ({len(mine)})",
            )  # fmt: skip
        bound = float(np.mean([measures.sign_bound(run) for run in runs]))
        who.axhline(bound, color=style.PALETTE[0], linestyle=":", label="no advantage above 0 can pass")
        who.set(title="Covariance of a token", xscale="log", xlabel="Probability of the token", ylabel="")
        who.set_xlim(10 ** np.floor(table["log_prob"].min() / np.log(10)), 1.2)
        who.legend(fontsize="x-small")
        for axis in (means.xaxis, means.yaxis, who.xaxis):
            axis.set_minor_formatter(NullFormatter())
    return figure


def top_caption(runs: Sequence[Run]) -> str:
    """Caption of `top`, with n, the tokens and the bound."""
    words = measures.describe(runs)
    return (
        f"Tokens of the first optimizer step, n = {len(runs)} {'seeds' if len(runs) > 1 else 'seed'} with "
        f"{words['tokens_first']} tokens each. Above: mean covariance (Eq. 10, nat) of the top shares of tokens, a "
        "circle per seed; where a share is less than one token it is one. Below: the top 2 % of all seeds, by "
        "probability and sign of the advantage. Dotted: the largest advantage less the mean one, times the mean of "
        f"minus log-probabilities, mean over seeds ({words['bound_first']}): what the covariance of a token with an "
        "advantage above the mean cannot exceed."
    )


def bandit() -> Figure:
    """What a bonus on entropy and a penalty on covariance cost on a bandit, held constant and annealed."""
    shown: Mapping[str, str] = {"bonus": "entropy bonus", "penalty": "covariance penalty"}
    with mpl.rc_context(style.STYLE):
        figure, [axes] = style.panels(1, 3.8)
        for colour, (control, name) in zip((style.PALETTE[0], style.PALETTE[1]), shown.items(), strict=True):
            for annealed, line in ((False, "-"), (True, "--")):
                path = measures.bandit_regret_path(control, annealed)
                kind = "annealed" if annealed else "constant"
                steps = np.unique(np.geomspace(1, len(path) - 1, 200).astype(int))
                axes.plot(steps, path[steps], color=colour, linestyle=line, label=f"{name}, {kind}")
        axes.set(title="Reward short of the best", xscale="log", yscale="log", xlabel="Step", ylabel="")
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


def _interval(values: Sequence[float], unit: str = "") -> str:
    if len(values) < 2:
        return claims.spell_interval(values[0], None, None, unit)
    return f"{claims.spell_interval(*t_interval(values, claims.LEVEL)[:3], unit)}, mean and 95 % Student t interval"
