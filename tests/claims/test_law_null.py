"""Null models of the law, on runs whose performance is known to come from entropy, from time, or from neither."""

import dataclasses

import numpy as np
import pytest

from repro import claims
from repro.analysis import law
from repro.book.figures import law_null as figures
from repro.claims import ClaimError, NoEffect
from repro.claims.measures import law as measures
from repro.claims.measures import law_null

A, B = 0.4, 1.2


def falling(rate, end=0.02):
    return lambda x: end + (0.6 - end) * np.exp(-rate * x)


@pytest.fixture
def made(make_run):
    """A run of 240 on-policy steps, evaluated every 10, with performance by the law of an entropy, its own by default.

    Entropy at an evaluation is what the run has there: the last is taken before the last update.
    """

    def make(seed=0, rate=12, reward=None, greedy=None, **fields):
        own = falling(rate)
        reward = reward or (lambda x: B - A * np.exp(own(np.minimum(x, 239 / 240))))
        run = make_run(seed, own, reward, **{"steps_per_generation": 1} | fields)
        share = run.evaluations["step"] / 240
        return dataclasses.replace(
            run, evaluations=run.evaluations.assign(**{"accuracy/greedy": (greedy or reward)(share.to_numpy())})
        )

    return make


def r2(run_or_runs, model, **arguments):
    runs = run_or_runs if isinstance(run_or_runs, list) else [run_or_runs]
    return law_null.null_r2(runs, model=model, minimum=0.05, **arguments).estimate


def test_the_entropy_of_another_seed_is_the_next_ones(made):
    # Seeds 0 and 1 have one entropy, seed 2 another: 0 takes 1's (the same), 1 takes 2's, 2 takes 0's.
    runs = [made(0), made(1), made(2, rate=3)]
    fits = law_null.null_fits(runs, "another seed", 0.05, "sampled")
    assert fits[0].r2 == pytest.approx(1) and fits[0].rmse == pytest.approx(0, abs=1e-9)
    assert fits[1].r2 < 0.95 and fits[2].r2 < 0.95
    points = law_null.with_entropy_of(measures.trajectory(runs[1]), runs[2])
    np.testing.assert_allclose(points.entropy, measures.trajectory(runs[2]).entropy)
    np.testing.assert_allclose(points.reward, measures.trajectory(runs[1]).reward)
    assert [one.own_rmse for one in fits] == pytest.approx([0, 0, 0], abs=1e-9)
    # By hand: the law of seed 1's performance and seed 2's entropy.
    fit = law.fit_law(points.entropy, points.reward)
    assert (fits[1].rmse, fits[1].r2) == pytest.approx((fit.rmse, fit.r2))
    assert r2(runs, "another seed") == pytest.approx(np.mean([one.r2 for one in fits]))
    with pytest.raises(NoEffect, match="no other seed"):
        r2(runs[:1], "another seed")


def test_paces_read_the_runs_own_entropy_at_other_steps(made):
    run = made()
    points = measures.trajectory(run)
    # Evaluation 120 at half pace: the entropy at step 60; on-policy, row 61 of the metrics.
    half = law_null.with_entropy_of(points, run, 0.5)
    assert half.step.size == 25 and half.entropy[12] == pytest.approx(falling(12)(60 / 240))
    double = law_null.with_entropy_of(points, run, 2)
    assert double.step.tolist() == points.step[:13].tolist()
    assert double.entropy[3] == pytest.approx(falling(12)(60 / 240))
    # A run whose performance follows its entropy at twice the pace fits that null model exactly, and itself less well.
    fast = made(reward=lambda x: B - A * np.exp(falling(12)(np.minimum(2 * x, 239 / 240))))
    assert r2(fast, "double pace") == pytest.approx(1)
    [fit] = law_null.null_fits([fast], "double pace", 0.05, "sampled")
    assert fit.own_rmse > 0.005
    # It is compared on the first half alone.
    first = law.fit_law(measures.trajectory(fast).entropy[:13], measures.trajectory(fast).reward[:13])
    assert fit.own_rmse == pytest.approx(first.rmse)


def test_time_alone_fits_what_comes_of_time(made):
    run = made(reward=lambda x: 0.9 - 0.5 * np.exp(-x * 240 / 17), rate=3)
    assert r2(run, "exponential in steps") == pytest.approx(1)
    assert r2(run, "half pace") < 0.95
    straight = made(reward=lambda x: 0.2 + 0.5 * x)
    assert r2(straight, "line in steps") == pytest.approx(1)
    # A line through an early rise: least squares of the points.
    points = measures.trajectory(run)
    residuals = points.reward - np.polyval(np.polyfit(points.step, points.reward, 1), points.step)
    assert r2(run, "line in steps") == pytest.approx(1 - residuals.var() / points.reward.var())


def test_the_exponential_in_steps_finds_its_rate():
    step = np.arange(0, 200, 5.0)
    points = law.Trajectory(step, np.zeros_like(step) + 0.3, 0.7 - 0.2 * np.exp(-step / 31))
    predictor = law.IN_STEPS["exponential in steps"](points)
    assert predictor(np.array([31.0]), np.array([np.nan]))[0] == pytest.approx(0.7 - 0.2 / np.e, abs=1e-6)
    with pytest.raises(law.TooFewPoints, match="needs at least 4 points"):
        law.IN_STEPS["exponential in steps"](law.Trajectory(step[:3], points.entropy[:3], points.reward[:3]))


def test_residuals_are_compared_seed_by_seed(made):
    noise = np.random.default_rng(0).normal(0, 0.01, 241)
    runs = [
        made(seed, reward=lambda x: B - A * np.exp(falling(12)(x)) + noise[(240 * np.asarray(x)).astype(int)])
        for seed in range(3)
    ]
    fits = law_null.null_fits(runs, "line in steps", 0.05, "sampled")
    found = law_null.null_against(runs, model="line in steps", minimum=0.05)
    assert found.estimate == pytest.approx(np.mean([one.own_rmse / one.rmse for one in fits])) and found.n == 3
    assert found.estimate < 0.3
    with pytest.raises(NoEffect, match="the error to compare with is zero"):
        assert law_null.Fits(0.1, 0.0, 1.0).ratio


def test_greedy_accuracy_is_another_performance(made):
    # Sampled accuracy is the law of the entropy; greedy accuracy is there at once.
    run = made(greedy=lambda x: 0.4 + 0.5 * (np.asarray(x) > 0))
    assert measures.fit_r2(run, minimum=0.05) == pytest.approx(1)
    assert measures.fit_r2(run, minimum=0.05, decoding="greedy") < 0.8
    assert measures.trajectory(run, decoding="greedy").reward.tolist() == [0.4] + [0.9] * 24
    early = measures.early_rmse(run, fraction=0.15, minimum=0.05, decoding="greedy")
    assert early > 0.1 > measures.early_rmse(run, fraction=0.15, minimum=0.05)
    assert r2(run, "exponential in steps", decoding="greedy") == pytest.approx(1, abs=1e-3)
    assert r2(run, "exponential in steps") < 1
    with pytest.raises(ClaimError, match="no decoding 'beam'; choose from sampled, greedy"):
        measures.trajectory(run, decoding="beam")


def test_what_cannot_be_fitted(made):
    with pytest.raises(ClaimError, match="no null model 'dice'; choose from another seed, half pace, double pace, exp"):
        r2(made(), "dice")
    with pytest.raises(NoEffect, match="accuracy does not vary"):
        r2(made(reward=lambda x: 0.5 + 0 * np.asarray(x)), "line in steps")
    # Three evaluations, at 0, 10 and 20: a law can be fitted, but neither to the first half nor an exponential.
    short = made(max_steps=20)
    assert measures.trajectory(short).step.size == 3
    with pytest.raises(NoEffect, match="2 evaluations, but a law needs at least 3"):
        r2(short, "double pace")
    with pytest.raises(NoEffect, match="needs at least 4 points"):
        r2(short, "exponential in steps")
    with pytest.raises(NoEffect, match="entropy changed by"):
        law_null.null_r2([made()], model="half pace", minimum=5.0)


def test_a_coefficient_at_another_pace(made):
    run = made()
    points = measures.trajectory(run)
    there = law.fit_law(law_null.with_entropy_of(points, run, 0.5).entropy, points.reward)
    moved = law_null.pace_gap(run, pace="half pace", coefficient="a", minimum=0.05)
    assert moved == pytest.approx(abs(there.a / A - 1)) and moved > 0.05
    with pytest.raises(NoEffect, match=r"its a is -0\.\d+, not positive"):
        law_null.pace_gap(
            made(reward=lambda x: 0.2 + 0.1 * np.exp(falling(12)(x))), pace="half pace", coefficient="a", minimum=0.05
        )


def test_swapping_entropies_costs_agreement_where_they_differ(made):
    reference = made(arm="grpo")
    # One law and one entropy: nothing to lose. One law and another entropy: the swapped fit is off, the own one is not.
    same, slow = made(arm="rloo"), made(arm="prime", rate=6)
    cost = law_null.swap_cost(reference, same, coefficient="b", minimum=0.05)
    assert cost == pytest.approx(0, abs=1e-9)
    swapped = law.fit_law(measures.trajectory(reference).entropy, measures.trajectory(slow).reward)
    both = law_null.swap_cost(reference, same, slow, coefficient="b", minimum=0.05)
    assert both == pytest.approx(abs(swapped.b / B - 1) / 2, abs=1e-9) and both > 0.005
    # An arm that agrees by the swap alone gains by it.
    odd = made(arm="prime", rate=6, reward=lambda x: B - A * np.exp(falling(12)(np.minimum(x, 239 / 240))))
    assert law_null.swap_cost(reference, odd, coefficient="b", minimum=0.05) < -0.005


def test_the_ledger_asks_of_every_null_model():
    entry = claims.load_ledger().claim("law_null")
    asked = {part.arguments["model"] for part in entry.subclaims if part.measure == "null_r2"}
    assert asked == set(law_null.NULLS)
    assert entry.written.isoformat() == "2026-11-24"


# What the page shows of them.


def test_the_figure_has_every_model_for_both_decodings(made):
    runs = [made(seed, rate=12 - seed, greedy=lambda x: 0.4 + 0.5 * (np.asarray(x) > 0)) for seed in range(3)]
    table = figures.qualities(runs)
    assert table.groupby("decoding")["model"].nunique().to_dict() == {"greedy": 6, "sampled": 6}
    # One seed has no other to take the entropy of; what is left out of the table is left out of the figure.
    assert figures.qualities(runs[:1])["model"].nunique() == 5
    own = table[(table["model"] == "own entropy") & (table["decoding"] == "sampled")]
    assert own["r2"].tolist() == pytest.approx([1, 1, 1]) and own["ratio"].tolist() == [1, 1, 1]
    [axes] = figures.null_models(runs).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["own entropy", *law_null.NULLS]
    dots = [line.get_xdata() for line in axes.lines if line.get_label() == "R of greedy responses"]
    np.testing.assert_allclose(dots[0], 100 * table[table["decoding"] == "greedy"]["r2"].to_numpy()[:3])
    assert "n = 3 seeds" in figures.null_models_caption(runs)
    words = figures.null_table(runs)
    assert len(words) == 12 and words["n"].tolist() == [3] * 12
    assert words["R²"][0] == "100 % (100 to 100 %)"


def test_runs_without_an_effect_are_drawn_and_leave_the_table_empty(make_run):
    runs = [make_run(seed, entropy=lambda x: 0.3 - 0.001 * x) for seed in range(2)]
    runs = [dataclasses.replace(run, evaluations=run.evaluations.assign(**{"accuracy/greedy": 0.5})) for run in runs]
    assert figures.qualities(runs).empty and figures.null_table(runs).empty
    [axes] = figures.null_models(runs).axes
    assert not [line for line in axes.lines if len(line.get_xdata())]
