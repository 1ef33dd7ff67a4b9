"""Power of a paired comparison, and Holm's correction, against published values, simulation and their laws."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from repro.analysis.holm import holm
from repro.analysis.intervals import t_interval
from repro.analysis.power import detectable_effect, paired_power, pairs_needed


# R's pwr.t.test(d=, power=, sig.level=, type="paired"): 198.15, 33.37, 14.30, 9.94, 44.58 and 51.01, rounded up.
@pytest.mark.parametrize(
    ("size", "alpha", "power", "n"),
    [
        (0.2, 0.05, 0.8, 199),
        (0.5, 0.05, 0.8, 34),
        (0.8, 0.05, 0.8, 15),
        (1.0, 0.05, 0.8, 10),
        (0.5, 0.05, 0.9, 44),
        (0.5, 0.01, 0.8, 51),
    ],
)
def test_pairs_needed_are_the_published_ones(size, alpha, power, n):
    assert pairs_needed(size, 1.0, alpha=alpha, power=power) == n
    assert pairs_needed(-2.5 * size, 2.5, alpha=alpha, power=power) == n  # neither sign nor unit matter
    assert paired_power(size, 1.0, n, alpha=alpha) >= power > paired_power(size, 1.0, n - 1, alpha=alpha)


def test_power_is_how_often_the_interval_leaves_out_zero():
    """4000 samples of 6 differences, of mean 1.2 and deviation 1: a share of .655 with a standard error of .008."""
    rng = np.random.default_rng(0)
    seen = [t_interval(rng.normal(1.2, 1.0, 6)) for _ in range(4000)]
    share = np.mean([interval.low > 0 or interval.high < 0 for interval in seen])
    assert share == pytest.approx(paired_power(1.2, 1.0, 6), abs=0.025)
    assert paired_power(0.0, 1.0, 6) == pytest.approx(0.05)


@pytest.mark.parametrize("n", [2, 3, 6, 40])
def test_power_is_both_tails_of_the_noncentral_t(n):
    bound, shift = stats.t.isf(0.025, n - 1), math.sqrt(n) * 0.7
    tails = stats.nct.sf(bound, n - 1, shift) + stats.nct.cdf(-bound, n - 1, shift)
    assert paired_power(0.7, 1.0, n) == pytest.approx(tails, abs=1e-9)


def test_many_pairs_are_the_normal_distribution():
    shift = math.sqrt(3000) * 0.05
    normal = stats.norm.sf(1.959964 - shift) + stats.norm.cdf(-1.959964 - shift)
    assert paired_power(0.05, 1.0, 3000) == pytest.approx(normal, abs=1e-3)
    assert paired_power(50.0, 1.0, 30) == pytest.approx(1.0)


@pytest.mark.parametrize(("n", "power"), [(2, 0.8), (4, 0.8), (15, 0.8), (15, 0.95), (200, 0.5)])
def test_detectable_effect_is_the_one_of_that_power(n, power):
    effect = detectable_effect(n, 2.5, power=power)
    assert paired_power(effect, 2.5, n) == pytest.approx(power, abs=1e-6)
    # A little more is seen with as many pairs, and a little less is not.
    assert pairs_needed(1.001 * effect, 2.5, power=power) <= n < pairs_needed(0.999 * effect, 2.5, power=power)


def test_what_has_no_answer_is_refused():
    for call, message in (
        (lambda: paired_power(1.0, 1.0, 1), "at least 2 pairs, got n=1"),
        (lambda: paired_power(1.0, 0.0, 5), "spread must be a standard deviation over 0, got 0.0"),
        (lambda: paired_power(math.nan, 1.0, 5), "effect must be a finite number, got nan"),
        (lambda: paired_power(1.0, 1.0, 5, alpha=5), "alpha must be strictly between 0 and 1 .* got 5"),
        (lambda: pairs_needed(0.0, 1.0), "effect is 0: no number of pairs sees it; pass the smallest"),
        (lambda: pairs_needed(1e-6, 1.0), "takes more than 100000 pairs"),
        (lambda: pairs_needed(1.0, 1.0, power=80), "power must be strictly between alpha=0.05 and 1 .* got 80"),
        (lambda: detectable_effect(1, 1.0), "at least 2 pairs"),
        (lambda: holm([]), r"at least one, got shape \(0,\)"),
        (lambda: holm([[0.1]]), r"got shape \(1, 1\)"),
        (lambda: holm([0.1, 1.2]), "between 0 and 1, got"),
        (lambda: holm([0.1, math.nan]), "between 0 and 1, got"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_holm_by_hand():
    # Sorted .005, .01, .03, .04: times 4, 3, 2, 1 is .02, .03, .06, .04, and the last is no smaller than the third.
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, 0.6, 0.4]), [1.0, 1.0, 1.0])
    np.testing.assert_allclose(holm([0.02, 0.02]), [0.04, 0.04])
    assert holm([0.07]) == [0.07]


def test_holm_is_the_closed_test_of_bonferroni():
    """A test is rejected exactly if in every set of tests with it some p is under the bound divided by its size."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        p = rng.uniform(0, 0.1, 5)
        adjusted = holm(p)
        for test in range(5):
            sets = [s for size in range(1, 6) for s in itertools.combinations(range(5), size) if test in s]
            assert (adjusted[test] <= 0.05) == all(min(p[list(s)]) * len(s) <= 0.05 for s in sets)


def test_holm_keeps_the_chance_of_a_false_rejection():
    """Of 4 true null hypotheses, one in twenty families has a rejection: 5000 families, a standard error of .003."""
    families = np.random.default_rng(2).uniform(size=(5000, 4))
    assert np.mean([holm(family).min() <= 0.05 for family in families]) == pytest.approx(0.049, abs=0.01)
