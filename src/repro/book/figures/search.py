"""Figures of the second testbed, Countdown.

Every function takes the runs of all arms by the name of the arm, and uses those that it needs.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repro.book import looks
from repro.book.figures import style
from repro.book.figures.style import Arms
from repro.claims import NoEffect, load_ledger, spell
from repro.claims.curves import curves as seed_curves
from repro.claims.curves import end_level, paired
from repro.claims.measures import law as measures
from repro.claims.measures.search import primary_tests
from repro.runs import Run

PLAIN = "search_grpo8"
SHOWN = (
    PLAIN,
    "search_clip_higher",
    "search_unclipped",
    "search_kl_cov_wide",
    "search_clip_two",
    "search_clip_cov_wide",
    "search_grpo8_slow",
)
# The primary contrast, trained for longer.
LONG = ("search_unclipped_long", "search_kl_cov_wide_long")
# The same with hotter rollouts, and what plain GRPO does with them.
HOT = ("search_grpo8_hot", "search_unclipped_hot", "search_kl_cov_wide_hot")
CONTRASTS = (
    ("search_kl_cov_wide", "search_unclipped"),
    ("search_kl_cov", "search_unclipped"),
    ("search_clip_cov_wide", "search_clip_two"),
    ("search_clip_cov", "search_clip_two"),
    ("search_unclipped", PLAIN),
    ("search_clip_two", PLAIN),
    ("search_clip_higher", PLAIN),
    ("search_grpo8_slow", PLAIN),
)
WITHOUT = "search_clip_two"
SELECTORS = (
    "select_covariance",
    "select_rare",
    "select_steer",
    "select_entropy",
    "select_random_positive",
    "select_random",
)
# The same criterion at rising shares of the gradient.
DOSES = {
    "select_covariance": ("select_covariance", "select_covariance_fiftieth", "select_covariance_tenth"),
    "select_random": ("select_random", "select_random_tenth"),
}
# Clip-Cov itself, whose draw takes about as much of the gradient as the criteria's dose.
OWN = "search_clip_cov_wide"
# On seeds of their own: two questions, and what both come to.
FRESH = (("fresh_covariance", "fresh_random"), ("fresh_draw", "fresh_covariance"), ("fresh_draw", "fresh_random"))
_RATIOS = {"entropy": "Entropy at the end, ratio", "accuracy": "Accuracy at the end, points"}
_QUANTITIES = {"entropy": ("Entropy (nat)", 1), "accuracy": ("Accuracy (%)", 100), "length": ("Response (tokens)", 1)}


def window() -> float:
    """The last part of training that "at the end" is, a fraction: the ledger's."""
    return load_ledger().argument("search_fixes", "window")


def curves(arms: Arms) -> Figure:
    """Entropy, accuracy and length of responses by rollout."""
    return _curves(arms, SHOWN)


def longer(arms: Arms) -> Figure:
    """The same of the arms that are trained for longer."""
    return _curves(arms, LONG)


def hotter(arms: Arms) -> Figure:
    """The same of the arms whose rollouts are sampled at a higher temperature."""
    return _curves(arms, HOT)


@style.styled("y")
def _curves(arms: Arms, shown: Sequence[str]) -> Figure:
    figure, panels = style.panels(3, 8.4)
    for axes, (quantity, (title, factor)) in zip(panels, _QUANTITIES.items(), strict=True):
        for arm in filter(arms.get, shown):
            look, updates = looks.look(arm), arms[arm][0].config.updates_per_rollout
            table = seed_curves(arms[arm], quantity)
            table = table.assign(step=table["step"] / updates, **{quantity: factor * table[quantity]})
            style.draw_runs(axes, table, quantity, look.colour, look.title, look.line)
        axes.set_title(title)
    style.stacked(panels, "Rollout")
    style.legend_below(figure, panels[0])
    return figure


def curves_caption(arms: Arms) -> str:
    """Caption of `curves`."""
    return _curves_caption(arms, SHOWN)


def longer_caption(arms: Arms) -> str:
    """Caption of `longer`."""
    return _curves_caption(arms, LONG)


def hotter_caption(arms: Arms) -> str:
    """Caption of `hotter`."""
    temperature = next(filter(None, map(arms.get, HOT)))[0].config.temperature
    return f"{_curves_caption(arms, HOT)} Rollouts are sampled at T = {temperature:g}, and so is the entropy's policy."


def _curves_caption(arms: Arms, shown: Sequence[str]) -> str:
    groups = [arms[arm] for arm in filter(arms.get, shown)]
    config, counts = groups[0][0].config, [len(runs) for runs in groups]
    return (
        "Entropy (entropy/response_mean, nat), validation accuracy (mean@"
        f"{config.eval_samples} at T = {config.eval_temperature:g}, per cent) and length of sampled responses (tokens) "
        f"on Countdown, {config.updates_per_rollout} updates a rollout. The methods have their wider dose. Thin lines: "
        f"{style.seeds(*counts)} on {len({run.config.base for run in groups[0]})} base policies; thick: mean; "
        f"{style.interval(min(counts), 'pointwise band')}."
    )


@style.styled("y")
def law(arms: Arms) -> Figure:
    """Accuracy against entropy along plain GRPO's runs, with the law fitted to each, and what it leaves."""
    minimum = load_ledger().argument("search_law", "minimum")
    figure, (upper, lower) = style.panels(2, 6.4)
    for place, run in enumerate(arms[PLAIN]):
        points, mark = measures.trajectory(run), {"markersize": 3.5, **style.look(place)}
        upper.plot(points.entropy, 100 * points.reward, linestyle="", label=f"seed {run.config.seed}", **mark)
        try:
            fit = measures.fit_run(run, minimum)
        except NoEffect:
            continue
        along = np.linspace(points.entropy.min(), points.entropy.max(), 50)
        upper.plot(along, 100 * fit.predict(along), color=mark["color"], linewidth=1.2)
        lower.plot(points.step, 100 * fit.residuals, linewidth=0.8, **mark)
    lower.axhline(0, color="0.4", linewidth=1)
    upper.set(title="Validation accuracy (%)", xlabel="Entropy (nat per token)")
    lower.set(title="Accuracy minus the law (points)", xlabel="Optimizer step")
    upper.legend()
    return figure


def law_caption(arms: Arms) -> str:
    """Caption of `law`."""
    config, n = arms[PLAIN][0].config, len(arms[PLAIN])
    return (
        f"Above: validation accuracy (mean@{config.eval_samples}, per cent) against entropy (entropy/response_mean, "
        f"nat) at the evaluations of {config.max_steps} optimizer steps of plain GRPO, {style.seeds(n)}; "
        "lines: the law fitted to each seed by least squares. Below: what it leaves, in points of accuracy."
    )


def _present(arms: Arms, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs whose arms both have runs; others are planned."""
    return [pair for pair in pairs if all(arms[arm] for arm in pair)]


def _gaps(arms: Arms, arm: str, baseline: str, quantity: str) -> np.ndarray:
    """Level at the end of `arm` against the baseline's of the same seed: a ratio of entropies, points of accuracy."""
    levels = np.array(
        [[end_level(run, quantity, window()) for run in runs] for runs in paired(arms[baseline], arms[arm])]
    )
    return levels[:, 1] / levels[:, 0] if quantity == "entropy" else 100 * (levels[:, 1] - levels[:, 0])


def _draw_gaps(axes: Axes, arms: Arms, contrasts: Sequence[tuple[str, str]], quantity: str) -> None:
    for place, (arm, baseline) in enumerate(contrasts):
        gaps = _gaps(arms, arm, baseline, quantity)
        axes.plot(gaps.mean(), place, marker="|", markersize=14, color=looks.look(arm).colour)
        style.draw_seeds(axes, place, gaps, looks.look(arm).colour, width=3)
    axes.axvline(1 if quantity == "entropy" else 0, color="0.3", linewidth=1)


def _forest(arms: Arms, pairs: Sequence[tuple[str, str]], labels: Sequence[str], room: float) -> Figure:
    """A row for each comparison: the ratio of entropies above, the difference of accuracies below."""
    figure, panels = style.panels(2, 2 + room * len(pairs))
    for axes, (quantity, title) in zip(panels, _RATIOS.items(), strict=True):
        _draw_gaps(axes, arms, pairs, quantity)
        style.name_rows(axes, labels)
        axes.tick_params(axis="y", labelsize="small")
        axes.set_title(title)
    return figure


@style.styled("x")
def contrasts(arms: Arms) -> Figure:
    """Each method against GRPO with its own clip, and the baselines against plain GRPO."""
    return _named_forest(arms, _present(arms, CONTRASTS))


@style.styled("x")
def fresh(arms: Arms) -> Figure:
    """Covariance against chance, and Clip-Cov's draw against covariance, on seeds that nothing was asked of before."""
    return _named_forest(arms, _present(arms, FRESH))


def fresh_caption(arms: Arms) -> str:
    """Caption of `fresh`."""
    seeds = [run.config.seed for run in arms["fresh_draw"]]
    return (
        f"Levels over the last {style.part(window())} of training against those of the same seed. Seeds {min(seeds)} "
        f"to {max(seeds)}, from which no question was made. Circles: {style.seeds(len(seeds))}; tick: mean; line: "
        f"{style.INTERVAL} of the mean."
    )


def _named_forest(arms: Arms, pairs: Sequence[tuple[str, str]]) -> Figure:
    return _forest(arms, pairs, [f"{_short(arm)}\nover {_short(baseline)}" for arm, baseline in pairs], 0.8)


def _short(arm: str) -> str:
    return looks.name(arm).removesuffix(", Countdown")


def contrasts_caption(arms: Arms) -> str:
    """Caption of `contrasts`."""
    counts = [min(len(arms[arm]), len(arms[baseline])) for arm, baseline in _present(arms, CONTRASTS)]
    return (
        f"Levels over the last {style.part(window())} of training against a baseline's of the same seed. Circles: "
        f"{style.seeds(*counts)}; tick: mean; line: {style.INTERVAL} of the mean. 'Wide' is ten times "
        "the paper's fraction, for KL-Cov one token a response; the other is the paper's."
    )


@style.styled("x")
def selection(arms: Arms) -> Figure:
    """Criteria of selection at equal removed gradient, against the same clip with nothing removed."""
    pairs = _present(arms, [(arm, WITHOUT) for arm in (*SELECTORS, OWN)])
    return _forest(arms, pairs, [_short(arm) for arm, _ in pairs], 0.7)


def selection_caption(arms: Arms) -> str:
    """Caption of `selection`, with how many tokens each criterion took."""
    shares = [
        f"{_short(arm)} {100 * np.mean([run.metrics['selected/fraction'].mean() for run in arms[arm]]):.2g} %"
        for arm in filter(arms.get, (*SELECTORS, OWN))
    ]
    counts = [len(arms[arm]) for arm in filter(arms.get, SELECTORS)]
    first = arms[SELECTORS[0]]
    dose = first[0].config.trainer["entropy_control_fraction"]
    return (
        f"Each criterion takes tokens until {100 * dose:g} % of the norm of the policy gradient is gone, and they lose "
        "their gradient. Levels over the last "
        f"{style.part(window())} of training against GRPO with ratios in [0, 2] and nothing removed, same seed; "
        f"{style.seeds(*counts)}; tick: mean; line: {style.INTERVAL} of the mean. The last row is Clip-Cov's own draw "
        f"from its band, {style.seeds(len(arms[OWN]))}. Tokens taken, of all: "
        f"{', '.join(shares)}."
    )


def _dose(run: Run) -> float:
    return 100 * run.config.trainer["entropy_control_fraction"]


@style.styled("y")
def doses(arms: Arms) -> Figure:
    """Where runs end by the share of the gradient that the largest covariances lose, and by as much at random."""
    figure, panels = style.panels(2, 5.4)
    for axes, (quantity, (title, factor)) in zip(panels, itertools.islice(_QUANTITIES.items(), 2), strict=True):
        for place, (series, groups) in enumerate(DOSES.items()):
            found = [run for arm in groups for run in arms[arm]]
            levels = [factor * end_level(run, quantity, window()) for run in found]
            mark = {**style.look(place), "markersize": 6, "markerfacecolor": "none"}
            axes.plot([_dose(run) for run in found], levels, linestyle="", label=_short(series), **mark)
        without = [factor * end_level(run, quantity, window()) for run in arms[WITHOUT]]
        axes.axhline(np.mean(without), color="0.3", linewidth=1, label="nothing removed, mean")
        axes.set(title=f"{title.split(' (')[0]} at the end ({title.split(' (')[1]}", xscale="log")
        axes.set_xticks([1, 2, 5, 10], labels=["1", "2", "5", "10"])
        axes.minorticks_off()
    style.stacked(panels, "Share of the gradient's norm that is removed (%)")
    style.legend_below(figure, panels[0])
    return figure


def doses_caption(arms: Arms) -> str:
    """Caption of `doses`."""
    counts = ", ".join(f"{_dose(arms[arm][0]):g} % {len(arms[arm])}" for arm in DOSES["select_covariance"] if arms[arm])
    return (
        "Entropy (entropy/response_mean, nat) and accuracy (per cent) over the last "
        f"{style.part(window())} of training, a mark for each run; line: GRPO with ratios in [0, 2] and nothing "
        f"removed. Runs of the largest covariance by dose: {counts}."
    )


def tests_table(arms: Arms) -> pd.DataFrame:
    """The primary comparisons with their p-values, to show."""
    claim = load_ledger().claim("search_fixes")
    rows = []
    for one in primary_tests(arms).itertuples():
        part = claim.part(one.subclaim)
        rows.append(
            {
                "Primary comparison": part.title,
                "Seeds": str(one.n),
                "p": _chance(one.p),
                "After Holm": _chance(one.holm),
                "Seen with 80 % power": "" if np.isnan(one.detectable) else spell(one.detectable, part.unit),
            }
        )
    return pd.DataFrame(rows)


def _chance(p: float) -> str:
    return "" if np.isnan(p) else "< 0.0001" if p < 1e-4 else f"{p:.2g}"
