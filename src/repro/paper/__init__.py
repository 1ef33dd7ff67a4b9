"""The paper's own curves (arXiv:2505.22617v1), read off the pixels of its figures.

Each file under ``data`` says in its header what was read, from where, and with what error. Performance is a fraction
here, as everywhere in this project; the files hold the percent of the figures.
"""

from importlib import resources

import numpy as np
import pandas as pd

BENCHMARKS = ["AIME24", "AIME25", "AMC", "MATH500", "OMNI-MATH", "OlympiadBench", "Minerva"]
"""The evaluation sets of Table 2."""

READING_ERROR = {"fig1": (0.002, 0.005), "7B": (0.0015, 0.005), "32B": (0.0015, 0.008)}
"""Errors of reading Fig. 1 (left) and Fig. 11, as the headers of the files say: accuracy (fraction), entropy (nats)."""

# Non-embedding parameters in billions, from the Qwen2.5 model cards.
QWEN_SIZES = {"0.5B": 0.36, "1.5B": 1.31, "3B": 2.77, "7B": 6.53, "32B": 31.0}


def read_training() -> pd.DataFrame:
    """Fig. 1 (left), one training run: columns `step`, `accuracy` (fraction), `entropy` (nats)."""
    table = _read("paper_fig1_left")
    return pd.DataFrame(
        {"step": table["step"], "accuracy": table["val_acc_pct"] / 100, "entropy": table["train_entropy"]}
    )


def read_fits() -> pd.DataFrame:
    """Fig. 1 (right): the law as the paper fitted it to five Qwen2.5 models.

    Columns `model`, `size` (non-embedding parameters, billions), `a`, `b`, `ceiling` (fractions), `entropy_start`,
    `entropy_end` (nats), sorted by size.
    """
    table = _read("paper_fig1_right_fits")
    return (
        pd.DataFrame(
            {
                "model": table["model"],
                "size": table["model"].map(QWEN_SIZES),
                "a": table["a_pct"] / 100,
                "b": table["b_pct"] / 100,
                "ceiling": table["ceiling_pct"] / 100,
                "entropy_start": table["H_start"],
                "entropy_end": table["H_end"],
            }
        )
        .sort_values("size")
        .reset_index(drop=True)
    )


def read_covariance() -> pd.DataFrame:
    """Fig. 8: columns `panel` (left, right), `series`, `step`, `value`.

    The left panel has `Cov` and `minus_dH` (nats, over a number of steps that is not said), the right one the
    covariance of prompts with an accuracy of 1/8, 4/8 and 7/8 (`acc0.125`, `acc0.5`, `acc0.875`).
    """
    return _read("paper_fig8_curves")


def read_methods() -> pd.DataFrame:
    """Fig. 11: columns `size` (7B, 32B), `quantity`, `method`, `step` (gradient steps), `value`.

    Quantities are `entropy` (nats), `accuracy` (fraction, mean of seven benchmarks) and `length` (tokens). There is one
    row per column of pixels, so neighbouring rows lie on one line of the plot and are no separate measurements.
    """
    table = _read("paper_fig11_curves")
    size, quantity = table["panel"].str.split("_", expand=True).to_numpy().T
    quantity = pd.Series(quantity).map({"entropy": "entropy", "acc": "accuracy", "len": "length"})
    value = table["value"].where(quantity != "accuracy", table["value"] / 100)
    return pd.DataFrame(
        {"size": size, "quantity": quantity, "method": table["method"], "step": table["step"], "value": value}
    )


def read_validations(size: str, method: str, *, every: int = 32) -> pd.DataFrame:
    """Fig. 11 where the runs were validated: columns `step`, `entropy` (nats), `accuracy` (fraction).

    Both curves are interpolated at the multiples of `every` gradient steps that both cover. 32 of them, 4 rollouts of 8
    updates, is the spacing of the vertices of the plotted accuracy.

    Raises:
        ValueError: a size or method that the figure does not have, or `every` < 1.
    """
    table = read_methods()
    methods = table["method"].unique()
    table = table[(table["size"] == size) & (table["method"] == method)]
    if table.empty:
        raise ValueError(f"Fig. 11 has no {method!r} at {size!r}; sizes are 7B and 32B, methods {', '.join(methods)}")
    if every < 1:
        raise ValueError(f"every must be at least one gradient step, got {every}")
    curves = {name: table[table["quantity"] == name].sort_values("step") for name in ("entropy", "accuracy")}
    first = max(curve["step"].iloc[0] for curve in curves.values())
    last = min(curve["step"].iloc[-1] for curve in curves.values())
    step = np.arange(np.ceil(first / every), last // every + 1) * every
    columns = {name: np.interp(step, curve["step"], curve["value"]) for name, curve in curves.items()}
    return pd.DataFrame({"step": step, **columns})


def read_results() -> pd.DataFrame:
    """Table 2, a row per size and method: accuracies as fractions.

    Columns `size`, `method`, the `BENCHMARKS`, the printed `average`, and two means of the benchmarks of our own:
    `plain`, and `weighted` by the responses that are evaluated in each (`read_evaluated_responses`).
    """
    table = _read("paper_table2")
    table = table[table["method"] != "responses"].reset_index(drop=True)
    table[[*BENCHMARKS, "average"]] /= 100
    cells = table[BENCHMARKS]
    responses = read_evaluated_responses()
    return table.assign(plain=cells.mean(axis=1), weighted=cells @ responses / responses.sum())


def read_evaluated_responses() -> pd.Series:
    """How many responses are evaluated in each of the `BENCHMARKS`; not printed, see the header of the file."""
    table = _read("paper_table2").set_index("method")
    return table.loc["responses", BENCHMARKS].astype(float)


def _read(name: str) -> pd.DataFrame:
    with resources.files("repro.paper").joinpath(f"data/{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, comment="#")
