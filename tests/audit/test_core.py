"""The answers on runs whose truth is known, and on the paper's curves."""

import numpy as np
import pandas as pd
import pytest

from repro import paper
from repro.audit import AuditError, audit, core
from tests.audit import logs


def test_a_lawful_run():
    """R = 0.70 - 0.25 e^H exactly, with noise of 0.004: in this draw the truth lies in the intervals."""
    found = audit(logs.run(), until=800)
    law = found.answer("law")
    assert law.verdict == "lawful" and law.values["r2"] > 0.98
    assert law.intervals["a"].low < logs.A < law.intervals["a"].high
    assert law.intervals["b"].low < logs.B < law.intervals["b"].high
    ceiling = found.answer("ceiling").intervals["ceiling"]
    assert ceiling.low < logs.B - logs.A < ceiling.high and ceiling.high - ceiling.low < 0.02
    forecast = found.answer("forecast")
    truth = logs.B - logs.A * np.exp(0.01)
    assert forecast.intervals["score"].low < truth < forecast.intervals["score"].high
    assert forecast.values["until"] == 800
    # The first half has nearly all of the fall, so the law knows the rest; the last value too, but for its noise.
    assert forecast.values["error_law"] < 0.01


def test_the_ceiling_is_covered_as_often_as_it_says():
    """With independent noise 95 % intervals cover the truth in 94 % of draws; 35 of 40 leaves room for chance."""
    ceilings = [audit(logs.run(seed=seed)).answer("ceiling").intervals["ceiling"] for seed in range(40)]
    covered = sum(one.low < logs.B - logs.A < one.high for one in ceilings)
    assert covered >= 35
    assert sum(one.estimate < logs.B - logs.A for one in ceilings) in range(10, 31)


def test_an_early_stretch_is_forecast_better_by_the_law_than_by_the_last_value():
    table = logs.run(tau=150, noise=0.001)
    found = audit(table[table["step"] <= 120], until=400)
    forecast = found.answer("forecast")
    truth = table["reward"].iloc[-5:].mean()
    law = forecast.intervals["score"]
    assert law.low < truth < law.high
    assert abs(law.estimate - truth) < 0.5 * abs(forecast.values["last_value"] - truth)


def test_drift_at_equal_entropy_is_doubtful():
    table = logs.run()
    table["reward"] += 0.1 * table["step"] / 400
    found = audit(table)
    assert found.answer("law").verdict == "doubtful"
    values = found.answer("law").values
    assert values["residual_last"] > 0 > values["residual_first"] and values["runs_p"] < 0.01


def test_no_law_no_ceiling():
    table = logs.run()
    found = audit(table.assign(reward=1 - table["reward"]))
    assert found.answer("law").verdict == "does not hold"
    assert found.answer("ceiling").missing.startswith("a law that holds")
    assert found.answer("forecast").missing == found.answer("ceiling").missing


@pytest.mark.parametrize(
    ("entropy", "until", "state"),
    [
        # Half-life 70 steps from 0.6: a tenth is reached at 70 log2(10) = 233 steps.
        (lambda s: 0.6 * 0.5 ** (s / 70), 400, "collapsed"),
        (lambda s: np.where(s <= 150, 0.6 * 0.5 ** (s / 70), np.nan), 400, "collapsing"),
        (lambda s: np.where(s <= 150, 0.6 * 0.5 ** (s / 70), np.nan), 180, "holding"),
        (lambda s: 0.3 + 0.3 * np.exp(-s / 30), 400, "holding"),
        (lambda s: 0.6 * 1.003**s, 400, "exploding"),
    ],
)
def test_states(entropy, until, state):
    step = np.arange(0.0, 200 if until == 180 else 401, 10)
    table = pd.DataFrame({"step": step, "entropy": entropy(step)}).dropna()
    found = audit(table, until=until)
    assert found.state == state


def test_the_date_of_the_collapse():
    """At a constant rate a tenth of an entropy that halves every 70 steps is left after 233; slowing takes longer."""
    step = np.arange(0.0, 151, 5)
    found = audit(pd.DataFrame({"step": step, "entropy": 0.6 * 0.5 ** (step / 70)}), until=600).answer("state")
    date = found.intervals["date"]
    assert 70 * np.log2(10) < date.estimate < 600
    assert date.low <= date.estimate <= date.high


def test_dates_between_an_exponential_and_a_power(monkeypatch):
    """From a share of 0.4 at step 100, falling by 1 % a step, to 0.1: ln 4 / 0.01 = 139 steps, or 4 times as many."""
    dates = []
    for slowing in (0.0, 0.5, 1 - 1e-9):
        monkeypatch.setattr(core, "SLOWING", slowing)
        dates.append(core._date(100, 0.4, -0.01))
    assert dates[0] == pytest.approx(100 + 100 * np.log(4))
    assert dates[2] == pytest.approx(100 * 4)
    assert dates[0] < dates[1] < dates[2]
    assert core._date(100, 0.4, 0.01) == np.inf and core._date(100, 0.05, -0.01) == 100


def test_entropy_that_rises_with_the_score_does_not_explode():
    step = np.arange(0.0, 401, 10)
    table = pd.DataFrame({"step": step, "entropy": 0.3 + step / 400, "reward": 0.2 + step / 1000})
    assert audit(table).state == "holding"
    assert audit(table.assign(reward=0.2 - step / 4000)).state == "exploding"


def test_eight_points_and_a_half_that_tells_nothing():
    """From eight points a half is five, as the sigmoid needs; a half of constant entropy gives no errors."""
    table = logs.run(every=25, steps=175)
    assert "error_sigmoid_in_steps" in audit(table).answer("forecast").values
    late = audit(table.assign(entropy=[0.5] * 5 + [0.4, 0.3, 0.2], reward=[0.3] * 5 + [0.33, 0.36, 0.4]))
    assert late.answer("forecast").intervals and set(late.answer("forecast").values) == {
        "until",
        "last_value",
        "sigmoid",
    }


def test_runs_of_signs():
    """+ + - - + +: 3 runs; with 4 of 6 above, 2 * 4 * 2 / 6 + 1 = 3.67 are expected."""
    runs, expected, p = core._runs_test(np.array([1.0, 1, -1, -1, 1, 1]))
    # The variance is (3.67 - 1)(3.67 - 2) / 5 = 0.889, so z = -0.667 / 0.943 = -0.707.
    assert (runs, expected) == (3, pytest.approx(11 / 3)) and p == pytest.approx(0.4795, abs=1e-3)


def test_rivals_are_named():
    table = logs.run().assign(**{"frac_reward_zero_std": 0.8, "completions/clipped_ratio": 0.01})
    found = audit(table)
    assert found.answer("groups").verdict == "large" and "80 % of the groups" in found.answer("groups").sentence
    assert found.answer("truncation").verdict == "small"


def test_a_dense_log_is_averaged_into_windows():
    table = logs.run(every=1, noise=0.05)
    found = audit(table)
    assert found.points.step.size == core.MOST_POINTS
    assert found.points.reward[0] == pytest.approx(table["reward"][:7].mean())
    assert found.answer("law").intervals["a"].low < logs.A < found.answer("law").intervals["a"].high


def test_entropy_around_each_score():
    """Scores every 10 steps, entropy every 2 and linear: its mean around each step is its value there."""
    dense = pd.DataFrame({"step": np.arange(0.0, 101, 2), "entropy": 0.6 - np.arange(0.0, 101, 2) / 200})
    scores = pd.DataFrame({"step": np.arange(0.0, 101, 10), "reward": np.arange(11.0)})
    found = audit(pd.concat([dense, scores]))
    assert found.points.step.tolist() == scores["step"].tolist()
    assert found.points.entropy == pytest.approx(0.6 - scores["step"].to_numpy() / 200)


def test_bits_are_converted_when_said():
    found = audit(logs.run().assign(entropy=lambda t: t["entropy"] / np.log(2)), bits=True)
    assert found.curve["entropy"][0] == pytest.approx(0.61)
    assert "in bits" in found.notes[0]


def test_named_columns_are_taken_as_they_are():
    table = logs.run().rename(columns={"step": "t", "entropy": "h", "reward": "val-core/a/acc/mean@8"})
    table["val-core/b/acc/mean@8"] = 0.1
    found = audit(table, step="t", entropy="h", score="val-core/a/acc/mean@8")
    assert found.answer("law").verdict == "lawful"
    assert [column.name for column in found.columns] == ["t", "h", "val-core/a/acc/mean@8"]
    with pytest.raises(AuditError, match="there is no column 'x' for --score; the log has `t`, `h`"):
        audit(table, step="t", entropy="h", score="x")


def test_a_horizon_in_the_past_is_refused():
    with pytest.raises(AuditError, match="--until=10 is before the last step of the log, 400"):
        audit(logs.run(), until=10)


def test_the_papers_curves():
    """The 32B baseline is lawful with the ceiling of its fit, 44.6 %; the 7B one is doubted."""
    large = audit(paper.read_validations("32B", "GRPO"))
    small = audit(paper.read_validations("7B", "GRPO"))
    assert (large.answer("law").verdict, small.answer("law").verdict) == ("lawful", "doubtful")
    assert large.answer("ceiling").intervals["ceiling"].estimate == pytest.approx(0.446, abs=0.002)
    forecast = large.answer("forecast")
    assert forecast.values["error_law"] < forecast.values["error_last_value"]
    assert small.answer("forecast").values["error_law"] > small.answer("forecast").values["error_last_value"]
    assert large.state == small.state == "collapsed"
