"""The primary numbers of the study, computed a second time from the Parquet files alone.

Nothing of `repro` is imported here: the formulas are written out once more, with pandas and NumPy, by the definitions
in the ledger's prose. `python tests/recomputation.py` prints them.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

RESULTS = Path(__file__).parents[1] / "results"
STUDY = {"eval_temperature": 0.6, "task": "arithmetic"}


class Record(NamedTuple):
    config: dict
    folder: Path

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.folder / f"{name}.parquet")

    @property
    def steps(self) -> int:
        return self.config["max_steps"]


def records(*, planned: bool = False, **fields) -> dict[int, Record]:
    """The records with these values in their configs, by seed; where they are planned, there may be none yet."""
    found = {}
    for path in sorted(RESULTS.glob("*/config.json")):
        config = json.loads(path.read_text(encoding="utf-8"))
        if all(config.get(name) == value for name, value in (STUDY | fields).items()):
            assert config["seed"] not in found, (path, found[config["seed"]].folder)
            found[config["seed"]] = Record(config, path.parent)
    assert found or planned, fields
    return dict(sorted(found.items()))


def entropy(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """Updates made, and the entropy of the paper's Eq. 5, a value per rollout: the mean over its updates."""
    metrics, per = record.table("metrics"), record.config["steps_per_generation"]
    per //= record.config["gradient_accumulation_steps"]
    rows = metrics.sort_values("step")
    values = rows["entropy/response_mean"].to_numpy(float)
    made = rows["step"].to_numpy(float) - 1
    return made.reshape(-1, per).mean(1), values.reshape(-1, per).mean(1)


def accuracy(record: Record) -> tuple[np.ndarray, np.ndarray]:
    evaluations = record.table("evaluations").sort_values("step")
    return evaluations["step"].to_numpy(float), evaluations["accuracy/mean"].to_numpy(float)


def level(curve: tuple[np.ndarray, np.ndarray], low: float, high: float) -> float:
    """Mean of the polygon through the points over a stretch, by a fine sum."""
    at = np.linspace(low, high, 20001)
    values = np.interp(at, *curve)
    return float(((values[1:] + values[:-1]) / 2).mean())


def mean_and_interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and Student's 95 % interval; the quantiles of t by their degrees of freedom, from a table."""
    table = {1: 12.7062, 2: 4.30265, 3: 3.18245, 4: 2.77645, 5: 2.57058, 6: 2.44691, 7: 2.36462, 8: 2.306}
    table |= {9: 2.262157, 10: 2.228139, 11: 2.200985}
    mean = float(np.mean(values))
    half = table[len(values) - 1] * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return mean, mean - half, mean + half


def entropy_twelfth(record: Record) -> float:
    curve, steps = entropy(record), record.steps
    start = curve[1][0]
    there = level(curve, steps * (1 / 12 - 1 / 48), steps * (1 / 12 + 1 / 48))
    end = level(curve, steps * (1 - 1 / 24), steps)
    return (start - there) / (start - end)


def early_rmse(record: Record) -> float:
    """The law fitted on the first 15 % of training, over the rest: root mean square error."""
    step, reward = accuracy(record)
    x = np.exp(np.interp(step, *entropy(record)))
    early = step <= 0.15 * record.steps
    design = np.stack([np.ones(early.sum()), -x[early]], axis=1)
    b, a = np.linalg.lstsq(design, reward[early], rcond=None)[0]
    return float(np.sqrt(((b - a * x[~early] - reward[~early]) ** 2).mean()))


def explained(record: Record) -> float:
    """Share of the variance of accuracy that the law, fitted to the whole run, explains."""
    step, reward = accuracy(record)
    x = np.exp(np.interp(step, *entropy(record)))
    return float(np.corrcoef(x, reward)[0, 1] ** 2)


def curves_alike(record: Record) -> float:
    probe = record.table("probe").sort_values("step")
    width = round(len(probe) / 16)
    two = [pd.Series(one).rolling(width, center=True, min_periods=1).mean() for one in covariance_and_fall(probe)]
    return float(np.corrcoef(*two)[0, 1])


def covariance_and_fall(probe: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return probe["theorem1_response"].to_numpy(), -probe["entropy_change"].to_numpy()


def end(record: Record, steps: int) -> float:
    """Accuracy over the last eighth of so many steps, whatever the run did after them."""
    step, reward = accuracy(record)
    known = step <= steps
    return level((step[known], reward[known]), steps * 7 / 8, steps)


def last(record: Record, column: str) -> float:
    return float(record.table("evaluations").sort_values("step")[column].iloc[-1])


def entropy_gaps(method: dict[int, Record], baseline: dict[int, Record]) -> list[float]:
    """Logarithms of the ratios of entropies over the last eighth, a seed each."""
    ends = [
        [level(entropy(record), record.steps * 7 / 8, record.steps) for record in (method[seed], baseline[seed])]
        for seed in method
        if seed in baseline
    ]
    return [float(np.log(one / other)) for one, other in ends]


def added(method: dict[int, Record], baseline: dict[int, Record]) -> list[float]:
    pairs = [(method[seed], baseline[seed]) for seed in method if seed in baseline]
    return [end(one, min(one.steps, other.steps)) - end(other, min(one.steps, other.steps)) for one, other in pairs]


def primary() -> Iterator[tuple[str, list[float]]]:
    """Sub-claim and its value for each seed."""
    long = records(arm="grpo")
    yield "collapse/entropy_twelfth", [entropy_twelfth(record) for record in long.values()]
    yield "law/early_rmse", [early_rmse(record) for record in long.values()]
    yield "covariance/curves_alike", [curves_alike(record) for record in records(arm="probe").values()]
    for claim, mine, own, prefix in (
        ("fixes", "kl_cov", "unclipped", ""),
        ("exploration", "kl_cov", "unclipped", "explore_"),
    ):
        pair = (records(arm=f"{prefix}{arm}") for arm in (mine, own))
        yield f"{claim}/{prefix}{mine}{'' if prefix else '_accuracy'}", added(*pair)
    plain, kl_cov, unclipped = (
        records(arm=f"search_{arm}", task="countdown") for arm in ("grpo8", "kl_cov_wide", "unclipped")
    )
    yield "regime/gate_room", [last(one, "accuracy/pass@64") - last(one, "accuracy/mean") for one in plain.values()]
    yield "search_collapse/search_entropy_twelfth", [entropy_twelfth(record) for record in plain.values()]
    yield "search_law/search_fit_r2", [explained(record) for record in plain.values()]
    hot = records(arm="search_grpo8_hot", task="countdown")
    yield "regime_hot/hot_gate_entropy", [float(entropy(record)[1][0]) for record in hot.values()]
    if probe := records(planned=True, arm="search_probe", task="countdown"):
        yield "search_covariance/search_curves_alike", [curves_alike(record) for record in probe.values()]
    yield "search_fixes/search_kl_accuracy", added(kl_cov, unclipped)
    yield (
        "search_room/search_kl_pass_64",
        [last(kl_cov[seed], "accuracy/pass@64") - last(unclipped[seed], "accuracy/pass@64") for seed in kl_cov],
    )


def ratios() -> Iterator[tuple[str, list[float]]]:
    """Primary sub-claim that is a ratio of entropies, and the logarithm for each seed."""
    # An arm kept its name where its dose was changed.
    dose = {"entropy_control": "clip_cov", "entropy_control_budget": "gradient", "entropy_control_fraction": 0.01}
    for subclaim, prefix in (
        ("search_selection/selection_random", "select"),
        ("search_fresh/selection_random_fresh", "fresh"),
    ):
        chosen, random = (
            records(
                arm=f"{prefix}_{tokens}",
                task="countdown",
                trainer={"filter_groups": True, **dose, "entropy_control_tokens": tokens},
            )
            for tokens in ("covariance", "random")
        )
        yield subclaim, entropy_gaps(chosen, random)
    kl_cov, unclipped = (records(arm=f"search_{arm}_long", task="countdown") for arm in ("kl_cov_wide", "unclipped"))
    yield "search_long/long_entropy", entropy_gaps(kl_cov, unclipped)
    kl_cov, unclipped = (records(arm=f"search_{arm}_hot", task="countdown") for arm in ("kl_cov_wide", "unclipped"))
    yield "search_hot/hot_entropy", entropy_gaps(kl_cov, unclipped)


if __name__ == "__main__":
    for name, values in primary():
        mean, low, high = mean_and_interval(values)
        sys.stdout.write(f"{name}: {mean:.5f} ({low:.5f} to {high:.5f}), n = {len(values)}\n")
