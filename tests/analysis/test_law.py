"""The law R = b - a e^H: against known coefficients, the paper's digitised curves, and its rivals."""

import numpy as np
import pytest
from scipy import signal

from repro import paper
from repro.analysis import law
from repro.analysis.law import Trajectory, fit_law


def falling_entropy(n=60):
    return 0.6 * np.exp(-np.linspace(0, 4, n)) + 0.02


def noisy_fit(seed, *, a=0.2, b=0.6, n=60, size=0.01, rho=0.0):
    """Fit to the law with AR(1) noise."""
    entropy = falling_entropy(n)
    noise = signal.lfilter([1], [1, -rho], np.random.default_rng(seed).normal(scale=size, size=n + 50))[50:]
    return fit_law(entropy, b - a * np.exp(entropy) + noise)


def digitised(size: str) -> Trajectory:
    """The GRPO baseline of Fig. 11 at its validations, in percent."""
    table = paper.read_validations(size, "GRPO")
    return Trajectory(table["step"], table["entropy"], 100 * table["accuracy"])


def test_three_points_by_hand():
    # e^H = 1, 2, 3 and R = 5, 3, 4: slope -1/2, so a = 1/2, b = 4 + 2/2 = 5; residuals 1/2, -1, 1/2; total 2.
    fit = fit_law(np.log([1, 2, 3]), [5, 3, 4])
    assert [fit.a, fit.b, fit.ceiling] == pytest.approx([0.5, 5, 4.5], rel=1e-14)
    np.testing.assert_allclose(fit.residuals, [0.5, -1, 0.5], atol=1e-14)
    assert fit.r2 == pytest.approx(1 - 1.5 / 2)
    assert fit.rmse == pytest.approx(np.sqrt(1.5 / 3))
    np.testing.assert_allclose(fit.predict([[0], [np.log(4)]]), [[4.5], [3]], rtol=1e-14)


def test_known_coefficients_are_found():
    entropy = falling_entropy()
    fit = fit_law(entropy, 0.6 - 0.2 * np.exp(entropy))
    assert [fit.a, fit.b, fit.r2] == pytest.approx([0.2, 0.6, 1], abs=1e-12)
    assert fit.rmse < 1e-15


def test_unit_of_performance_is_kept_and_changed_only_on_request():
    fraction = noisy_fit(0)
    percent = fit_law(fraction.entropy, 100 * fraction.reward)
    scaled = fraction.scaled(100)
    for name in ("a", "b", "ceiling", "rmse"):
        assert getattr(percent, name) == pytest.approx(100 * getattr(fraction, name), rel=1e-12)
        assert getattr(scaled, name) == pytest.approx(getattr(percent, name), rel=1e-12)
    assert percent.r2 == pytest.approx(fraction.r2, rel=1e-12)
    ours, theirs = (fit.interval(0.9, np.random.default_rng(0)) for fit in (fraction, percent))
    np.testing.assert_allclose(100 * np.array(ours)[:, :3], np.array(theirs)[:, :3], rtol=1e-10)


def test_constant_performance():
    fit = fit_law([0.1, 0.2, 0.3], [0.1, 0.1, 0.1])
    assert [fit.a, fit.b] == pytest.approx([0, 0.1], abs=1e-15)
    assert np.isnan(fit.r2)


def test_fit_keeps_its_points_to_itself():
    entropy, reward = falling_entropy(), np.linspace(0, 1, 60)
    fit = fit_law(entropy, reward)
    entropy[0] = 5
    assert fit.entropy[0] != 5
    with pytest.raises(ValueError, match="read-only"):
        fit.reward[0] = 3


@pytest.mark.parametrize(
    ("entropy", "reward", "message"),
    [
        ([0.3, 0.3, 0.3], [1, 2, 3], "entropy is constant at 0.3 nats.*fit a stretch"),
        ([0.3, 0.2], [1, 2], "entropy has 2 points, but at least 3.*evaluate more often"),
        ([0.3, np.nan, 0.1], [1, 2, 3], r"entropy\[1\] is nan; leave out"),
        ([0.3, 0.2, 0.1], [1, 2, np.inf], r"reward\[2\] is inf; leave out"),
        ([0.3, 0.2, 0.1], [1, 2, 3, 4], "got 3 of entropy and 4 of reward; pass one value"),
        ([0.3, -0.2, 0.1], [1, 2, 3], r"entropy\[1\] is -0.2; it must be a mean per token in nats"),
        ([300, 200, 100], [1, 2, 3], r"entropy\[0\] is 300.0.*divide sums over a response by its length"),
        ([[0.3, 0.2, 0.1]], [1, 2, 3], r"entropy must be a flat sequence.*got shape \(1, 3\)"),
    ],
)
def test_unusable_points_are_named(entropy, reward, message):
    with pytest.raises(ValueError, match=message):
        fit_law(entropy, reward)


def test_diagnostics_by_hand():
    # Residuals 1/2, -1, 1/2: lag 1 (-1/2 - 1/2) / (3/2) = -2/3; Durbin-Watson (9/4 + 9/4) / (3/2) = 3.
    found = fit_law(np.log([1, 2, 3]), [5, 3, 4]).diagnostics()
    assert found.lag1 == pytest.approx(-2 / 3)
    assert found.durbin_watson == pytest.approx(3)
    assert found.thirds == pytest.approx((0.5, -1, 0.5))
    assert found.largest == pytest.approx(-1)


def test_diagnostics_of_an_exact_fit_and_of_a_wrong_form():
    entropy = falling_entropy()
    exact = fit_law(entropy, 0.6 - 0.2 * np.exp(entropy)).diagnostics()
    assert np.isnan(exact.lag1) and np.isnan(exact.durbin_watson)
    bent = fit_law(entropy, 0.6 - 0.2 * np.sqrt(entropy)).diagnostics()
    assert bent.lag1 > 0.8
    assert bent.thirds[0] < 0 < bent.thirds[2]


@pytest.mark.parametrize(("rho", "n", "least"), [(0.0, 60, 0.92), (0.6, 60, 0.87), (0.3, 12, 0.89)])
def test_intervals_along_a_run_cover_the_truth(rho, n, least):
    """Nominal 95 %; 300 runs leave a standard error of 1.3 points on 0.95."""
    hits = np.zeros(3)
    for seed in range(300):
        found = noisy_fit(seed, rho=rho, n=n).interval(0.95, np.random.default_rng(seed), resamples=299)
        truth = (0.2, 0.6, 0.4)
        hits += [interval.low <= value <= interval.high for interval, value in zip(found, truth, strict=True)]
    assert (hits / 300 >= least).all() and (hits / 300 <= 0.985).all(), hits / 300


def test_draws_are_centred_on_the_fit():
    """Residuals of a wrong form drift along the run; laid down in blocks they must not drag the fit with them."""
    entropy = falling_entropy(12)
    fit = fit_law(entropy, 0.6 - 0.2 * np.sqrt(entropy))
    narrow, wide = (fit.interval(level, np.random.default_rng(0), resamples=9999) for level in (0.1, 0.95))
    for inner, outer in zip(narrow, wide, strict=True):
        assert (inner.low + inner.high) / 2 == pytest.approx(inner.estimate, abs=0.05 * (outer.high - outer.low))


def test_autocorrelation_widens_the_interval():
    """Disturbances of one size move the fit further when they last: the interval must know."""

    def mean_width(rho, size):
        fits = [noisy_fit(seed, rho=rho, size=size) for seed in range(20)]
        return np.mean([np.ptp(fit.interval(0.95, np.random.default_rng(0)).a[1:3]) for fit in fits])

    # Both kinds of noise have a standard deviation of 0.01.
    independent, lasting = mean_width(0.0, 0.01), mean_width(0.8, 0.006)
    assert lasting > 1.7 * independent


def test_interval_is_a_function_of_its_generator():
    fit = noisy_fit(0)
    first, again, other = (fit.interval(0.95, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again != other
    for interval, estimate in zip(first, (fit.a, fit.b, fit.ceiling), strict=True):
        assert interval.low < interval.estimate == estimate < interval.high
        assert (interval.n, interval.level) == (60, 0.95)
    assert np.ptp(fit.interval(0.5, np.random.default_rng(1)).a[1:3]) < 0.5 * np.ptp(first.a[1:3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"level": 95}, "level must be strictly between 0 and 1.*got 95"),
        ({"block": 0}, "block must be from 1 to 30.*got 0"),
        ({"block": 31}, "block must be from 1 to 30.*got 31"),
        ({"resamples": 0}, "resamples must be at least 1, got 0"),
    ],
)
def test_unusable_interval_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        noisy_fit(0).interval(**{"level": 0.95, "rng": np.random.default_rng(0), **arguments})


def test_no_interval_along_a_run_of_seven_points():
    with pytest.raises(ValueError, match="at least 8 points, got 7; use several seeds"):
        noisy_fit(0, n=7).interval(0.95, np.random.default_rng(0))


def test_scale_must_be_positive():
    for factor in (0, -1, np.inf):
        with pytest.raises(ValueError, match="factor must be positive and finite"):
            noisy_fit(0).scaled(factor)


def exact_fit(a, b):
    entropy = falling_entropy()
    return fit_law(entropy, b - a * np.exp(entropy))


def test_over_seeds_is_students_t():
    # a = 0.1, 0.2, 0.3: mean 0.2, s = 0.1, half width 4.3027 x 0.1 / sqrt 3 = 0.24841. b - a is 0.5 each time.
    found = law.over_seeds([exact_fit(a, 0.5 + a) for a in (0.1, 0.2, 0.3)])
    assert found.a[:4] == pytest.approx((0.2, 0.2 - 0.24841, 0.2 + 0.24841, 3), abs=1e-5)
    assert found.ceiling[:3] == pytest.approx((0.5, 0.5, 0.5), abs=1e-12)


def test_difference_is_welchs():
    # a: 0.1, 0.2, 0.3 against 0.5, 0.7: gap -0.4; s^2 / n is 0.01 / 3 and 0.02 / 2, together 1 / 75; degrees of freedom
    # (1 / 75)^2 / ((0.01 / 3)^2 / 2 + 0.01^2 / 1) = 1.68421, for which t is 5.17623 at 97.5 %.
    first = [exact_fit(a, 1) for a in (0.1, 0.2, 0.3)]
    second = [exact_fit(a, 1) for a in (0.5, 0.7)]
    found = law.difference(first, second)
    half = (found.a.high - found.a.low) / 2
    assert found.a.estimate == pytest.approx(-0.4)
    assert half / np.sqrt(1 / 75) == pytest.approx(5.17623, abs=1e-4)
    assert found.ceiling.estimate == pytest.approx(0.4)
    assert found.a.n == 5
    # Coefficients that do not vary over seeds leave no width, and no division by zero.
    same = law.difference([exact_fit(0.2, 1)] * 2, [exact_fit(0.1, 1)] * 2).a
    assert same[:3] == pytest.approx((0.1, 0.1, 0.1), abs=1e-12)
    with pytest.raises(ValueError, match="second group has 1 fits.*train another seed"):
        law.difference(first, second[:1])


# Each form with data that it describes without error.
EXACT = {
    "law": lambda step, entropy: 60 - 20 * np.exp(entropy),
    "linear in H": lambda step, entropy: 40 - 20 * entropy,
    "power of H": lambda step, entropy: 40 - 20 * entropy**0.4,
    "sigmoid in steps": lambda step, entropy: 20 + 20 / (1 + (50 / np.maximum(step, 1e-9)) ** 1.5),
    "last value": lambda step, entropy: np.full(step.size, 33.0),
}


@pytest.mark.parametrize("form", EXACT)
def test_each_form_predicts_what_it_describes(form):
    step = np.arange(0, 205, 5.0)
    entropy = 0.6 * np.exp(-step / 60) + 0.02
    run = Trajectory(step, entropy, EXACT[form](step, entropy))
    table = law.compare(run, until=60)
    assert table.index.tolist() == list(law.FORMS) == list(EXACT)
    assert table.loc[form, "rmse"] < 1e-3
    # Linear is the power 1, and every form describes a constant.
    others = {"linear in H": [form, "power of H"], "last value": table.index}.get(form, [form])
    assert (table["rmse"].drop(others) > 0.02).all()
    assert (table["n_fit"] == 13).all() and (table["n_rest"] == 28).all()


def test_forms_do_not_mind_the_unit():
    run = digitised("32B")
    fraction = Trajectory(run.step, run.entropy, run.reward / 100)
    # Searches for an exponent end within their tolerance of each other, not on the same bit.
    np.testing.assert_allclose(law.compare(fraction, 288)["rmse"] * 100, law.compare(run, 288)["rmse"], rtol=1e-4)


def test_prediction_by_hand():
    # The last value is 3 and the rest is 4, 1, 5: errors -1, 2, -2.
    run = Trajectory([0, 10, 20, 30, 40], [0.5, 0.4, 0.3, 0.2, 0.1], [1, 3, 4, 1, 5])
    found = law.predict_rest(run, 10, "last value")
    assert found.rmse == pytest.approx(np.sqrt(3))
    assert (found.bias, found.final_error, found.n_fit, found.n_rest) == (pytest.approx(-1 / 3), -2, 2, 3)
    assert found.fit_rmse == pytest.approx(np.sqrt(2))
    assert found.measured.tolist() == [4, 1, 5]


@pytest.mark.parametrize("form", law.FORMS)
def test_the_rest_is_not_looked_at(form):
    run = digitised("7B")
    changed = Trajectory(run.step, run.entropy, np.where(run.step > 400, 0, run.reward))
    one, other = law.predict_rest(run, 400, form), law.predict_rest(changed, 400, form)
    np.testing.assert_array_equal(one.predicted, other.predicted)
    assert one.n_fit == 11


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: law.predict_rest(run, 288, "cubic"), "no form 'cubic'; choose from law, linear in H"),
        (lambda run: law.predict_rest(run, 50), "step 50 leaves nothing on one side; it must be at least 64"),
        (lambda run: law.predict_rest(run, 1056), "step 1056 leaves nothing on one side"),
        (lambda run: law.predict_rest(run, 96), "entropy has 2 points, but at least 3"),
        (lambda run: law.predict_rest(run, 128, "power of H"), "power law needs at least 4 points to fit, got 3"),
        (lambda run: law.compare(run, 160), "sigmoid needs at least 5 points to fit, got 4; fit a longer stretch"),
        (lambda run: Trajectory([0, 2, 1], [1, 1, 1], [1, 1, 1]), "step must start at 0 or above and increase"),
        (lambda run: Trajectory([-1, 2, 3], [1, 1, 1], [1, 1, 1]), "step must start at 0 or above and increase"),
        (lambda run: Trajectory([0, 1], [1, 1, 1], [1, 1]), "got 2 of step and 3 of entropy and 2 of reward"),
        (lambda run: Trajectory([], [], []), "step has 0 points, but at least 1"),
    ],
)
def test_unusable_trajectories_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(digitised("32B"))


def test_law_on_the_papers_32b_baseline():
    """Reading error 0.15 points and 0.008 nat; the tolerances are a few times what a second reading gave."""
    run = digitised("32B")
    fit = fit_law(run.entropy, run.reward)
    assert fit.a == pytest.approx(22.8, abs=0.2)
    assert fit.b == pytest.approx(67.3, abs=0.2)
    assert fit.rmse == pytest.approx(0.42, abs=0.01)
    # 36 rollouts of 8 updates.
    early = law.predict_rest(run, 288)
    assert early.rmse == pytest.approx(0.36, abs=0.01)
    assert early.predicted[-1] == pytest.approx(44.0, abs=0.1)
    assert early.measured[-1] == pytest.approx(44.4, abs=0.15)
    table = law.compare(run, 288)
    assert table["rmse"].idxmin() == "law"
    assert table.loc["last value", "rmse"] == pytest.approx(2.54, abs=0.05)


def test_law_fails_on_the_papers_7b_baseline():
    run = digitised("7B")
    fit = fit_law(run.entropy, run.reward)
    assert fit.rmse == pytest.approx(1.39, abs=0.02)
    assert fit.r2 == pytest.approx(0.72, abs=0.005)
    assert fit.diagnostics().thirds[2] == pytest.approx(1.5, abs=0.1)
    early = law.predict_rest(run, 288)
    beginning, _ = run.split(288)
    assert fit_law(beginning.entropy, beginning.reward).ceiling == pytest.approx(34.0, abs=0.1)
    assert early.predicted[-1] == pytest.approx(33.8, abs=0.1)
    assert early.final_error == pytest.approx(33.8 - 37.9, abs=0.1)


def test_size_trend_of_the_papers_fits():
    table = paper.read_fits()
    a, b = (law.fit_size_trend(table["size"], table[name]) for name in ("a", "b"))
    assert [a.slope, a.intercept, a.r2] == pytest.approx([0.046, 0.101, 0.91], abs=0.005)
    assert [b.slope, b.intercept, b.r2] == pytest.approx([0.116, 0.333, 0.97], abs=0.005)
    assert np.abs(a.residuals).max() == pytest.approx(0.03, abs=0.003)
    assert np.abs(b.residuals).max() == pytest.approx(0.05, abs=0.003)
    left = {name: law.leave_largest_out(table["size"], table[name]) for name in ("a", "b", "ceiling")}
    assert left["a"].predicted.estimate == pytest.approx(0.306, abs=5e-4)
    assert left["b"].predicted.estimate == pytest.approx(0.814, abs=5e-4)
    assert left["ceiling"].predicted.estimate == pytest.approx(0.508, abs=5e-4)
    assert [left["ceiling"].actual, left["ceiling"].size] == [0.4542, 31.0]


def test_size_trend_by_hand():
    # ln size = 0, 1, 2 and values 0, 2, 1: slope 1/2, intercept 1/2; residuals -1/2, 1, -1/2, s^2 = 3/2 on 1 degree.
    trend = law.fit_size_trend(np.exp([0, 1, 2]), [0, 2, 1])
    assert [trend.slope, trend.intercept, trend.r2] == pytest.approx([0.5, 0.5, 0.25])
    # At ln size 3: 2 +- 12.7062 sqrt(3/2 (1 + 1/3 + 4/2)).
    predicted = trend.predict(np.exp(3))
    half = 12.7062 * np.sqrt(1.5 * (1 + 1 / 3 + 2))
    assert predicted[:3] == pytest.approx((2, 2 - half, 2 + half), rel=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: law.fit_size_trend([1, 2], [1, 2]), "size has 2 points, but at least 3"),
        (lambda: law.fit_size_trend([1, 1, 1], [1, 2, 3]), "sizes must be positive and not all equal"),
        (lambda: law.fit_size_trend([0, 1, 2], [1, 2, 3]), "sizes must be positive and not all equal"),
        (lambda: law.leave_largest_out([1, 2, 3, 3], [1, 2, 3, 4]), "size 3 occurs 2 times; average the runs"),
        (lambda: law.leave_largest_out([1, 2, 3], [1, 2, 3]), "size has 3 points, but at least 4"),
        (lambda: law.fit_size_trend([1, 2, 3], [1, 2, 4]).predict(0), "size must be a positive number"),
        (lambda: law.over_seeds([exact_fit(0.1, 1)]), "at least 2 values"),
    ],
)
def test_unusable_sizes_and_groups_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
