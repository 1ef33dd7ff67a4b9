"""Intervals and stretch means against scipy, printed t tables and arithmetic done by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from repro.analysis.intervals import (
    centred,
    exact,
    implied_difference,
    over_seeds,
    stretch_mean,
    t_interval,
    welch_interval,
)

# Two-sided 95 % quantiles of Student's t by degrees of freedom, as in printed tables.
T_TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262, 30: 2.042}


@pytest.mark.parametrize(("freedom", "quantile"), T_TABLE.items())
def test_t_interval_uses_the_printed_quantile(freedom, quantile):
    n = freedom + 1
    sample = np.arange(n, dtype=float)
    interval = t_interval(sample)
    half = (interval.high - interval.low) / 2
    assert half / (sample.std(ddof=1) / np.sqrt(n)) == pytest.approx(quantile, abs=5e-4)
    assert interval.estimate == pytest.approx((n - 1) / 2)
    assert interval.n == n


def test_t_interval_by_hand():
    # 0.6, 0.7, 0.8: mean 0.7, s = 0.1, s / sqrt(3) = 0.057735, half = 4.302653 x 0.057735 = 0.248414
    interval = t_interval([0.6, 0.7, 0.8])
    assert interval.low == pytest.approx(0.451586, abs=1e-6)
    assert interval.high == pytest.approx(0.948414, abs=1e-6)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_t_interval_agrees_with_scipy(level):
    sample = np.random.default_rng(3).normal(2.0, 0.5, size=7)
    expected = scipy_stats.t.interval(level, df=6, loc=sample.mean(), scale=scipy_stats.sem(sample))
    interval = t_interval(sample, level)
    assert (interval.low, interval.high) == pytest.approx(expected)
    assert interval.level == level


def test_t_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = sum(low <= 0.3 <= high for _, low, high, _, _ in (t_interval(rng.normal(0.3, 2, 3)) for _ in range(4000)))
    # 4000 draws at 0.95: standard error 0.0034, so this band is about four of them wide on either side
    assert hits / 4000 == pytest.approx(0.95, abs=0.014)


def test_identical_values_give_an_interval_of_no_width():
    assert t_interval([0.25, 0.25, 0.25])[:3] == (0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    ("values", "level", "message"),
    [
        ([0.5], 0.95, "at least 2"),
        ([], 0.95, "at least 2"),
        ([[0.1, 0.2]], 0.95, r"shape \(1, 2\)"),
        ([0.1, float("nan")], 0.95, "finite"),
        ([0.1, float("inf")], 0.95, "finite"),
        ([0.1, 0.2], 95, "between 0 and 1"),
        ([0.1, 0.2], 0.0, "between 0 and 1"),
    ],
)
def test_bad_samples_are_refused(values, level, message):
    with pytest.raises(ValueError, match=message):
        t_interval(values, level)


def test_one_seed_has_a_value_and_no_interval():
    assert over_seeds([0.25]) == (0.25, None, None, 1, 0.95)
    assert over_seeds([0.6, 0.7, 0.8]) == t_interval([0.6, 0.7, 0.8])
    with pytest.raises(ValueError, match="at least 1"):
        over_seeds([])


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_welch_agrees_with_scipy(level):
    rng = np.random.default_rng(4)
    first, second = rng.normal(1, 0.2, 5), rng.normal(0.7, 0.5, 8)
    expected = scipy_stats.ttest_ind(first, second, equal_var=False).confidence_interval(level)
    found = welch_interval(first, second, level)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.estimate == pytest.approx(first.mean() - second.mean()) and found.n == 13
    assert welch_interval([1, 1], [0.5, 0.5])[:3] == (0.5, 0.5, 0.5)


def test_the_implied_difference_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    # Geometric means of lognormal samples, whose intervals are not symmetric: the truth is e - 1.
    hits = 0
    for _ in range(2000):
        one, other = (t_interval(rng.normal(mean, 0.4, 6)).map(np.exp) for mean in (1.0, 0.0))
        found = implied_difference(one, other)
        hits += found.low <= np.e - 1 <= found.high
    # Six seeds each; taking the wider spread of few seeds for both errors errs towards covering.
    assert 0.94 < hits / 2000 < 0.985


def test_an_implied_difference_at_another_level_is_stretched():
    one = t_interval([0.6, 0.7, 0.8])
    found = implied_difference(one, exact(0.0, n=3), 0.99)
    assert found[:3] == pytest.approx(t_interval([0.6, 0.7, 0.8], 0.99)[:3])


def test_intervals_of_other_makings():
    assert exact(3, n=2) == (3.0, 3.0, 3.0, 2, 0.95)
    assert centred(1.0, 0.5, 4) == (1.0, 0.5, 1.5, 4, 0.95)
    assert centred(1.0, None, 1).map(np.exp) == (pytest.approx(np.e), None, None, 1, 0.95)
    assert exact(2.0).map(np.log2)[:3] == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 0.0, 1.0),  # a point of the curve
        (1.0, 1.0, 0.5),  # between two points
        (0.0, 2.0, 0.5),  # one whole piece: mean of 1 and 0
        (1.0, 3.0, 0.375),  # half of each piece: means 0.25 and 0.5 over length 1 each
        (4.0, 6.0, 2.0),  # past the last point the curve keeps its value
        (3.0, 5.0, 1.75),  # mean 1.5 over [3, 4], then 2 over [4, 5]
    ],
)
def test_stretch_mean_by_hand(low, high, expected):
    assert stretch_mean([0, 2, 4], [1, 0, 2], low, high) == pytest.approx(expected)


@given(
    slope=st.floats(-5, 5),
    offset=st.floats(-5, 5),
    cuts=st.lists(st.integers(1, 99), min_size=1, max_size=20, unique=True),
    ends=st.tuples(st.integers(0, 100), st.integers(0, 100)),
)
def test_stretch_mean_of_a_straight_line_is_its_middle_however_it_is_sampled(slope, offset, cuts, ends):
    x = np.array([0, *sorted(cuts), 100], dtype=float)
    low, high = sorted(ends)
    expected = offset + slope * (low + high) / 2
    assert stretch_mean(x, offset + slope * x, low, high) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("x", "y", "low", "high", "message"),
    [
        ([0, 1], [1], 0, 1, "same length"),
        ([0, 0], [1, 2], 0, 1, "increase"),
        ([1, 0], [1, 2], 0, 1, "increase"),
        ([0, 1], [1, float("nan")], 0, 1, "finite"),
        ([0, 1], [1, 2], 1, 0, "upwards"),
        ([], [], 0, 1, "at least 1"),
    ],
)
def test_stretch_mean_refuses(x, y, low, high, message):
    with pytest.raises(ValueError, match=message):
        stretch_mean(x, y, low, high)
