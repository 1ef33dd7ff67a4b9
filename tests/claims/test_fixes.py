"""Claim 4's measures on hand-made runs, and its figures."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats as scipy_stats

from repro import claims
from repro.book import display
from repro.book.figures import fixes as figures
from repro.claims import ClaimError, NoEffect, curves
from repro.claims.measures import collapse, controls, fixes
from repro.runs.profiles import load_profile


@pytest.fixture
def arm(make_run):
    """Makes the runs of an arm with constant entropy, accuracy and length, which may depend on the seed."""

    def make(name, seeds=3, entropy=0.1, accuracy=0.9, length=8.0, **fields):
        runs = []
        for seed in range(seeds):
            level, rate, tokens = (one(seed) if callable(one) else one for one in (entropy, accuracy, length))
            run = make_run(
                seed,
                entropy=lambda x, level=level: level + 0 * x,
                accuracy=lambda x, rate=rate: rate + 0 * x,
                **{"arm": name, "steps_per_generation": 8} | fields,
            )
            run.metrics["completions/mean_length"] = tokens
            for k, gain in ((8, 0.04), (64, 0.06)):
                run.evaluations[f"accuracy/pass@{k}"] = np.nan
                run.evaluations.loc[run.evaluations.index[-1], f"accuracy/pass@{k}"] = rate + gain
            runs.append(run)
        return runs

    return make


@pytest.fixture(scope="module")
def entries():
    return {claim.id: claim for claim in claims.load_ledger().claims if claim.number == 4}


# The ledger.


def test_claim_4_has_the_printed_numbers(entries):
    printed = {part.id: part.printed for part in entries["fixes"].subclaims}
    assert printed["kl_cov_entropy_tenfold"] == 10
    assert printed["kl_cov_accuracy"] == printed["kl_cov_gain"] == 0.02
    assert printed["clip_cov_accuracy"] == 0.018
    assert entries["fixes"].minimum_seeds == 3


def test_the_arms_of_claim_4_are_in_the_profile_with_enough_seeds(entries):
    profile = load_profile("cpu")
    for claim in entries.values():
        for name in claim.arms:
            # Countdown is recorded seed by seed.
            assert profile.arms[name].shown == "countdown" or len(profile.arms[name].seeds) >= claim.minimum_seeds, name


# Levels.


def test_the_end_is_the_last_window_of_the_steps_in_common(make_run):
    short = make_run(0, accuracy=lambda x: x, max_steps=160, eval_steps=8)
    long = make_run(0, accuracy=lambda x: x, max_steps=320, eval_steps=8)
    # Accuracy is the share of training that is done; the last 1/8 of 160 steps are 140 to 160, in the middle 150.
    assert fixes.common_steps([short, long]) == 160
    assert curves.end_level(short, "accuracy", 1 / 8, 160) == pytest.approx(150 / 160)
    assert curves.end_level(long, "accuracy", 1 / 8, 160) == pytest.approx(150 / 320)
    assert controls.accuracy_added(short, long, window=1 / 8) == pytest.approx(150 / 320)


# Clocks.


def test_the_clock_of_remaining_entropy_is_the_baselines(make_run):
    # Entropy exp(-5 x) of the baseline falls to a tenth at x = ln 10 / 5; the other has exp(-2 x) then.
    def runs(rate, gain):
        return [
            make_run(
                seed,
                entropy=lambda x: np.exp(-rate * x),
                accuracy=lambda x: gain * x,
                steps_per_generation=1,
                eval_steps=1,
            )
            for seed in range(2)
        ]

    baseline, other = runs(5, 0.2), runs(2, 0.5)
    at = np.log(10) / 5
    found = fixes.entropy_ratio_at_left(baseline, other, left=0.1, window=0.02)
    assert found.estimate == pytest.approx(np.exp(3 * at), rel=0.02)
    gap = fixes.accuracy_added_at_left(other[0], baseline[0], left=0.1, window=0.02)
    assert gap == pytest.approx(0.3 * at, rel=0.02)
    with pytest.raises(NoEffect, match=r"entropy never falls to 0\.001"):
        fixes.entropy_ratio_at_left(baseline, other, left=0.001, window=0.02)


def test_a_mere_delay_adds_nothing_at_equal_entropy(make_run):
    def run(rate, gain=0.0):
        return make_run(
            0,
            entropy=lambda x: np.exp(-rate * x),
            accuracy=lambda x: 0.9 - 0.3 * np.exp(-rate * x) + gain,
            steps_per_generation=1,
            eval_steps=1,
        )

    assert fixes.accuracy_added_at_entropy(run(2), run(4), window=0.05) == pytest.approx(0, abs=0.002)
    assert fixes.accuracy_added_at_entropy(run(2, 0.05), run(4), window=0.05) == pytest.approx(0.05, abs=0.002)
    with pytest.raises(NoEffect, match="entropy never falls to"):
        fixes.accuracy_added_at_entropy(run(4), run(2), window=0.05)


# Ratios and differences.


def test_ratios_are_geometric_means_of_paired_ratios(arm):
    baseline = arm("grpo8", entropy=lambda seed: [0.01, 0.02, 0.04][seed])
    other = arm("kl_cov", entropy=lambda seed: [0.02, 0.08, 0.32][seed], length=12)
    found = fixes.entropy_ratio(baseline, other, window=1 / 8)
    assert found.estimate == pytest.approx(4)  # of 2, 4 and 8
    half = scipy_stats.t.ppf(0.975, 2) * np.log(2) / np.sqrt(3)
    assert (found.low, found.high) == pytest.approx((4 * np.exp(-half), 4 * np.exp(half)))
    assert fixes.length_ratio(baseline, other, window=1 / 8)[:3] == pytest.approx((1.5, 1.5, 1.5))


def test_ratios_need_seeds_and_entropy(arm):
    baseline = arm("grpo8")
    assert fixes.entropy_ratio(baseline, arm("kl_cov", seeds=1), window=1 / 8).low is None
    with pytest.raises(NoEffect, match="no seed"):
        fixes.entropy_ratio(baseline[:1], arm("kl_cov")[1:], window=1 / 8)
    with pytest.raises(NoEffect, match="no seed"):
        fixes.early_entropy_ratio(baseline[:1], arm("kl_cov")[1:], fraction=0.1, window=1 / 24)
    with pytest.raises(NoEffect, match="a level of 0 at the end"):
        fixes.entropy_ratio(baseline, arm("kl_cov", entropy=0.0), window=1 / 8)


def test_the_early_ratio_is_taken_early(make_run):
    def runs(rate):
        return [make_run(seed, entropy=lambda x: np.exp(-rate * x), steps_per_generation=1) for seed in range(3)]

    found = fixes.early_entropy_ratio(runs(1), runs(5), fraction=0.1, window=0.02)
    assert found.estimate == pytest.approx(np.exp(-4 * 0.1), rel=0.01)


def test_pass_at_k_is_the_last_evaluations(arm):
    baseline, other = arm("grpo8", accuracy=0.9)[0], arm("kl_cov", accuracy=0.92)[0]
    assert fixes.pass_at(other, 1) == pytest.approx(0.92)
    assert fixes.pass_at(other, 64) == pytest.approx(0.98)
    assert fixes.pass_difference(baseline, other, k=8) == pytest.approx(0.02)
    with pytest.raises(ClaimError, match=r"the last evaluation has no accuracy/pass@128"):
        fixes.pass_at(other, 128)
    with pytest.raises(NoEffect, match="runs of 240 and 120 steps"):
        fixes.pass_difference(baseline, arm("kl_cov", max_steps=120)[0], k=8)


def test_entropy_kept_is_a_share_of_the_start(make_run):
    grown = make_run(0, entropy=lambda x: 0.5 + x, steps_per_generation=1)
    assert collapse.entropy_left(grown, window=1 / 8) == pytest.approx((0.5 + 1 - 1 / 16) / 0.5, rel=0.01)


# Trends over levels.


def test_the_factor_per_level_is_the_slope_of_the_logarithm(arm):
    levels = [arm(f"level_{i}", entropy=lambda seed, i=i: (0.01 + 0.01 * seed) * 3**i) for i in range(4)]
    found = fixes.entropy_per_level(*levels, window=1 / 8)
    # Every seed's entropy triples exactly, from a start of its own.
    assert found[:4] == pytest.approx((3, 3, 3, 3))


def test_the_slope_is_that_of_a_regression_with_an_intercept_for_each_seed():
    values = np.array([[0.0, 1.0, 1.0, 4.0], [7.0, 7.0, 10.0, 10.0]])
    found = fixes.slope(values)
    design = np.array([[seed == 0, seed == 1, level] for seed in range(2) for level in range(4)], dtype=float)
    solution, residual, *_ = np.linalg.lstsq(design, values.ravel(), rcond=None)
    error = np.sqrt(residual[0] / 5 * np.linalg.inv(design.T @ design)[2, 2])
    assert found.estimate == pytest.approx(solution[2])
    assert found.high - found.estimate == pytest.approx(scipy_stats.t.ppf(0.975, 5) * error)


def test_a_trend_needs_levels():
    with pytest.raises(NoEffect, match="at least two levels"):
        fixes.slope(np.ones((3, 1)))
    assert fixes.slope(np.array([[0.0, 2.0]]))[:3] == (2.0, None, None)


def test_arms_of_other_lengths_are_cut(make_run):
    short = [make_run(seed, accuracy=lambda x: x, max_steps=160, eval_steps=8) for seed in range(2)]
    long = [make_run(seed, accuracy=lambda x: x, max_steps=320, eval_steps=8) for seed in range(4)]
    found = fixes.accuracy_per_level(long, short, window=1 / 8)
    assert found.estimate == pytest.approx(150 / 320)
    assert found.n == 2


def test_the_best_of_several_has_bonferronis_interval(arm):
    baseline = arm("grpo8", accuracy=0.9)
    spread = [-0.01, 0.0, 0.01]
    found = fixes.best_difference(
        baseline,
        arm("one", accuracy=lambda seed: 0.91 + spread[seed]),
        arm("two", accuracy=lambda seed: 0.89 + spread[seed]),
        window=1 / 8,
    )
    assert found.estimate == pytest.approx(0.01)
    # Two arms of three seeds: 4 degrees of freedom, and half of 5 % for each arm.
    half = scipy_stats.t.ppf(1 - 0.05 / 4, 4) * 0.01 / np.sqrt(3)
    assert found.high - found.estimate == pytest.approx(half)
    assert fixes.best_difference(baseline[:1], arm("one", seeds=1), window=1 / 8).low is None


# Power.


def test_the_minimum_detectable_difference_is_seen_with_the_power_asked_for():
    differences = np.array([-0.01, 0.0, 0.005, 0.009])
    smallest = fixes.minimum_detectable(differences)
    rng = np.random.default_rng(0)
    draws = rng.normal(smallest, differences.std(ddof=1), size=(40000, 4))
    seen = scipy_stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05
    assert seen.mean() == pytest.approx(0.8, abs=0.01)
    assert fixes.minimum_detectable([0.01, 0.01]) == 0
    with pytest.raises(ValueError, match="at least two differences, got 1"):
        fixes.minimum_detectable([0.01])


# Table 2.


def test_table_2_by_other_means(entries):
    found = {one.subclaim: one for one in claims.measure(entries["fixes_table"], [])}
    assert found["table_weights"].estimate == pytest.approx(0.0009643, abs=1e-7)
    # By hand: (22.6 + 12.9 + 61.4 + 80.8 + 29.1 + 42.6 + 38.2 - 22.1 - 15.8 - 58.2 - 80.4 - 30.5 - 44.1 - 41.1) / 7.
    assert found["table_order"].estimate == pytest.approx(-4.6 / 700)
    assert found["table_exceptions"].estimate == 2
    assert {one.word for one in found.values()} == {"as predicted"}


# From runs to verdicts.


def test_verdicts_follow_the_runs(entries, arm):
    runs = [
        *arm("unclipped", entropy=0.02, accuracy=lambda seed: 0.94 + 0.001 * seed),
        *arm("clip_two", entropy=0.02, accuracy=0.95),
        *arm("clip_cov", entropy=0.03, accuracy=0.93),
        *arm("kl_cov", entropy=0.3, accuracy=lambda seed: 0.95 + 0.001 * seed, length=9),
    ]
    findings = {one.subclaim: one for one in claims.measure(entries["fixes"], runs)}
    assert {name: str(one.verdict) for name, one in findings.items()} == {
        "kl_cov_entropy": "reproduced",
        "kl_cov_entropy_tenfold": "reproduced",
        "kl_cov_entropy_left": "underpowered",
        "clip_cov_entropy": "not reproduced",
        "clip_cov_entropy_left": "underpowered",
        "kl_cov_accuracy": "reproduced",
        "clip_cov_accuracy": "not reproduced",
        "kl_cov_accuracy_left": "underpowered",
        "clip_cov_accuracy_left": "underpowered",
        "kl_cov_gain": "not reproduced",
        "kl_cov_length": "reproduced",
        "clip_cov_length": "reproduced",
    }
    assert "entropy never falls to 0.001" in findings["kl_cov_entropy_left"].note


def test_every_method_is_held_against_its_own_clip_and_against_plain_grpo(entries):
    own = {part.id: set(part.arms) for part in entries["fixes"].subclaims}
    assert all(arms == {"kl_cov", "unclipped"} for part, arms in own.items() if part.startswith("kl_cov"))
    assert all(arms == {"clip_cov", "clip_two"} for part, arms in own.items() if part.startswith("clip_cov"))
    plain = {part.id: set(part.arms) for part in entries["fixes_plain"].subclaims}
    assert plain["kl_cov_accuracy_plain"] == {"kl_cov", "grpo8"}
    profile = load_profile("cpu")
    for method, baseline in fixes.OWN_CLIP.items():
        theirs, ours = (profile.configs(arm)[0] for arm in (baseline, method))
        assert theirs.max_steps == ours.max_steps and not theirs.trainer
    assert (profile.configs("unclipped")[0].epsilon, profile.configs("clip_two")[0].epsilon) == (None, 1.0)


def test_too_few_seeds_decide_nothing(entries, arm):
    names = entries["fixes"].arms
    runs = [run for name in names for run in arm(name, seeds=2)]
    assert {str(one.verdict) for one in claims.measure(entries["fixes"], runs)} == {"underpowered"}


# Figures and words.


@pytest.fixture
def arms(arm):
    """Runs of all arms; accuracies rise by a point from one method to the next and scatter a little by seed."""
    names = dict.fromkeys([*figures.METHODS, *(name for title in figures.FAMILIES for name in figures.family(title))])
    made = {}
    for place, name in enumerate(names):
        seeds, steps = (4, 240) if name in figures.METHODS else (2, 160)
        accuracy = 0.90 + 0.01 * (place % 5)
        made[name] = arm(
            name,
            seeds,
            entropy=0.02 * (place + 1),
            accuracy=lambda seed, accuracy=accuracy, place=place: accuracy + 0.001 * ((seed * place) % 3),
            length=8.0 + place,
            max_steps=steps,
        )
        for run in made[name]:
            run.metrics["selected/count"] = 2.0 if name == "kl_cov" else 0.0
            run.evaluations["k"] = 64
            for k in (2, 4, 16, 32):
                run.evaluations[f"accuracy/pass@{k}"] = 0.95
    return made


def line(axes, label):
    return next(one for one in axes.lines if one.get_label() == label)


def test_curves_stand_beside_the_papers(arms):
    panels = np.array(figures.curves(arms).axes[:6]).reshape(3, 2)
    assert panels[0, 0].get_yscale() == panels[0, 1].get_yscale() == "log"
    for row, level in zip(panels, (0.12, 90, 13), strict=True):
        assert line(row[0], "KL-Cov").get_ydata()[-1] == pytest.approx(level, rel=0.01)
        assert len(row[1].lines) == 4
    # The paper's GRPO at 7B ends at 0.021 nat, 37.9 % and about 1000 tokens.
    assert panels[0, 1].lines[0].get_ydata()[-1] == pytest.approx(0.021, abs=0.005)
    assert panels[1, 1].lines[0].get_ydata()[-1] == pytest.approx(37.9, abs=0.3)
    assert "n = 4 seeds" in figures.curves_caption(arms)


def test_differences_are_drawn_with_their_interval_and_what_could_be_seen(arms):
    [axes] = figures.differences(arms).axes
    dots = [one.get_xdata() for one in axes.lines if one.get_marker() == "o" and len(one.get_xdata()) == 4]
    assert len(dots) == len(fixes.OWN_CLIP) + len(figures.METHODS) - 1
    rows = [*fixes.OWN_CLIP.items(), *((arm, "grpo8") for arm in figures.METHODS if arm != "grpo8")]
    for (arm, baseline), seen, grey in zip(rows, dots, axes.patches, strict=True):
        expected = 100 * fixes.accuracy_differences(arms, arm, baseline)
        np.testing.assert_allclose(seen, expected)
        assert grey.get_width() / 2 == pytest.approx(fixes.minimum_detectable(expected))
    diamonds = [one.get_xdata()[0] for one in axes.lines if one.get_marker() == "D" and len(one.get_xdata())]
    assert diamonds == pytest.approx([0.2, 1.8, 2.0])
    assert "80 % power" in figures.differences_caption(arms)


def test_coverage_is_paired(arms):
    levels, gaps = figures.coverage(arms).axes
    assert line(levels, "GRPO").get_xdata().tolist() == [1, 2, 4, 8, 16, 32, 64]
    [first] = [one for one in gaps.containers if one.lines[0].get_color() == figures.METHODS["kl_cov"].colour]
    mean = 100 * np.mean(
        [fixes.pass_difference(*pair, k=8) for pair in zip(arms["grpo8"], arms["kl_cov"], strict=True)]
    )
    assert first.lines[0].get_ydata()[3] == pytest.approx(mean)
    assert "from 64 samples on each of 256 fixed" in figures.coverage_caption(arms)


def test_levels_are_those_of_the_common_length(arms):
    panels = figures.levels(arms).axes
    assert [axes.get_title(loc="left") for axes in panels[::2]] == list(figures.FAMILIES)
    weights = list(figures.family("KL-Cov's weight"))
    expected = fixes.end_levels([arms[name] for name in weights], "entropy", 1 / 8)
    assert expected.shape == (2, 5)
    np.testing.assert_allclose(panels[4].lines[-1].get_ydata(), expected.mean(axis=0))
    # All five families are as long here, which is said once.
    assert "that all levels of a setting have (160 steps, n = 2)" in figures.levels_caption(arms)


def test_levels_of_a_setting_are_named_by_their_configs():
    profile = load_profile("cpu")
    named = {
        title: figures._settings(
            title, [[SimpleNamespace(config=profile.configs(arm)[0])] for arm in figures.family(title)]
        )
        for title in figures.FAMILIES
    }
    assert named == {
        "Entropy bonus": ["0", "0.0001", "0.001", "0.005", "0.01", "0.1"],
        "Reference KL": ["0", "0.001", "0.01", "0.05", "0.1"],
        "KL-Cov's weight": ["0", "0.05", "0.1", "0.5", "1"],
        "KL-Cov's fraction": ["0", "0.002", "0.02", "0.05"],
        "Clip-Cov's fraction": ["0", "0.0002", "0.002", "0.02"],
    }


def test_table_2_is_drawn_three_ways():
    upper, lower = figures.table_2().axes
    assert line(upper, "printed").get_xdata().tolist() == pytest.approx([38.6, 38.8, 40.4, 40.6])
    assert line(lower, "by benchmarks").get_xdata()[3] == pytest.approx(51.59, abs=0.01)
    assert "8844" in figures.table_2_caption()


def test_levels_in_words(arms):
    words = fixes.describe(arms)
    assert words["entropy_grpo8"] == "0.02 nat (0.02 to 0.02 nat)"
    assert words["selected_kl_cov"] == "16 tokens (16 to 16 tokens)"
    assert words["detectable_kl_cov"].endswith("points")
    single = {name: runs[:1] for name, runs in arms.items()}
    assert fixes.describe(single)["detectable_kl_cov"] == "an unknown size"
    assert fixes.describe(single)["pass_64_grpo8"] == "0.96 (no interval)"


def test_figures_of_one_seed_are_drawn(arms):
    single = {name: runs[:1] for name, runs in arms.items()}
    for draw in (figures.curves, figures.differences, figures.coverage, figures.levels):
        assert figures.curves_caption(single).count("one seed, hence no interval") == 1
        assert display.svg(draw(single)) == display.svg(draw(single))
