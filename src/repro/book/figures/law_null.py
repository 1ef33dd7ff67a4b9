"""Figure and table of the law's null models: how well the law fits with the wrong entropy, or with none."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from repro.book.figures import style
from repro.claims import NoEffect, load_ledger, spell_seeds
from repro.claims.curves import DECODINGS
from repro.claims.measures.law import fit_r2
from repro.claims.measures.law_null import NULLS, null_fits
from repro.runs import Run

_OWN = "own entropy"


def qualities(runs: Sequence[Run]) -> pd.DataFrame:
    """Long table: `decoding`, `model`, `seed`, `r2` of every fit, and `ratio`, the law's RMSE over the model's.

    Models without an effect are left out; the law itself, as `own entropy`, has a ratio of 1.
    """
    minimum = load_ledger().argument("law_null", "minimum")
    rows = []
    for decoding in DECODINGS:
        for model in (_OWN, *NULLS):
            try:
                if model == _OWN:
                    found = [(fit_r2(run, minimum=minimum, decoding=decoding), 1.0) for run in runs]
                else:
                    found = [(one.r2, one.ratio) for one in null_fits(runs, model, minimum, decoding)]
            except NoEffect:
                continue
            rows += [(decoding, model, run.config.seed, *one) for run, one in zip(runs, found, strict=True)]
    return pd.DataFrame(rows, columns=["decoding", "model", "seed", "r2", "ratio"])


@style.styled("x")
def null_models(runs: Sequence[Run]) -> Figure:
    """The share of the variance of accuracy that the law and each null model explain, for both decodings."""
    figure, [axes] = style.panels(1, 3.6)
    table = qualities(runs)
    for place, decoding in enumerate(DECODINGS):
        look = style.look(place)
        for height, model in enumerate((_OWN, *NULLS)):
            values = 100 * table.loc[(table["decoding"] == decoding) & (table["model"] == model), "r2"]
            dots = {"linestyle": "", "markersize": 5, "label": f"R of {decoding} responses", **look}
            style.draw_seeds(axes, height + 0.15 * (2 * place - 1), values, look["color"], dots=dots, width=2)
    style.name_rows(axes, (_OWN, *NULLS))
    axes.set(title="Variance of accuracy explained", xlabel="R² (%)", xlim=(0, 102))
    style.legend_below(figure, axes, fontsize="small")
    return figure


def null_models_caption(runs: Sequence[Run]) -> str:
    """Caption of `null_models`."""
    return (
        "Share of the variance of validation accuracy along a run of plain GRPO that a curve with two fitted "
        "coefficients explains (the exponential in steps has three): the law with the run's own entropy, with "
        "entropies that cannot be the cause, and time alone. Double pace has the first half of training. Dots: "
        f"{style.seeds(len(runs))}; {style.interval(len(runs), 'lines')}."
    )


def null_table(runs: Sequence[Run]) -> pd.DataFrame:
    """`qualities` in words: a row per model and decoding, means over seeds with their intervals."""
    return pd.DataFrame(
        [
            {
                "In place of a run's own exp(H)": model,
                "R is of": f"{decoding} responses",
                "n": len(group),
                "R²": spell_seeds(group["r2"], "share"),
                "Law's residual over this one's": spell_seeds(group["ratio"], "ratio"),
            }
            for (decoding, model), group in qualities(runs).groupby(["decoding", "model"], sort=False)
        ]
    )
