"""The second testbed's figures, tests and table of the regime, on hand-made runs."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from repro import claims
from repro.analysis.holm import holm
from repro.book import looks, parts, regime
from repro.book.figures import search as figures
from repro.claims.curves import end_level
from repro.claims.measures import search as measures

ARMS = dict.fromkeys(
    [
        *figures.SHOWN,
        *figures.LONG,
        *figures.HOT,
        *figures.SELECTORS,
        *(arm for pair in (*figures.CONTRASTS, *figures.DOSES.values(), *figures.FRESH) for arm in pair),
        "grpo8",
    ]
)
TOKENS = pd.DataFrame(
    {
        "step": [0, 0, 0, 1],
        "log_prob": np.log([0.5, 0.75, 0.2, 0.1]),
        "advantage": [1.0, -2.0, 0.5, 9.0],
        "selected": [1, 0, 0, 1],
    }
)
KEPT = {"search_kl_cov_wide": 1.5, "search_clip_cov_wide": 1.02}


@pytest.fixture
def arms(make_run):
    rng = np.random.default_rng(0)

    def runs(arm):
        for seed in range(4):
            level = 0.1 * KEPT.get(arm, 1) * np.exp(0.02 * rng.normal())
            gain = 0.3 + 0.02 * rng.normal() + 0.2 * (arm == "search_clip_cov_wide")
            made = make_run(
                seed,
                entropy=lambda x, level=level: level + 0.4 * np.exp(-9 * x),
                accuracy=lambda x, gain=gain: 0.2 + gain * (1 - np.exp(-5 * x)),
                steps_per_generation=8,
                arm=arm,
                base=f"countdown_{seed % 3}",
                trainer={"filter_groups": True, "entropy_control_fraction": 0.1 if arm.endswith("_tenth") else 0.01},
            )
            made.metrics["completions/mean_length"] = 60.0
            made.metrics["completions/clipped_ratio"] = 0.01
            made.metrics["frac_reward_zero_std"] = 0.0
            made.metrics["selected/fraction"] = 0.03
            for fraction, value in ((0.0002, 5.0), (0.002, 3.0), (0.02, 1.5)):
                made.metrics[f"covariance/top_{fraction:g}"] = value
            made.evaluations["accuracy/greedy"] = made.evaluations["accuracy/mean"] + 0.1
            made.evaluations["accuracy/pass@64"] = 0.95
            yield replace(made, tokens=TOKENS)

    return {arm: list(runs(arm)) for arm in ARMS}


def test_primary_tests_are_paired_and_corrected_together(arms):
    found = measures.primary_tests(arms).set_index("subclaim")
    assert tuple(found.index) == measures.PRIMARY and (found["n"] == 4).all()

    def levels(arm, quantity):
        return np.array([end_level(run, quantity, 1 / 8) for run in arms[arm]])

    pairs = {
        "search_kl_accuracy": (levels("search_kl_cov_wide", "accuracy"), levels("search_unclipped", "accuracy")),
        "search_clip_accuracy": (levels("search_clip_cov_wide", "accuracy"), levels("search_clip_two", "accuracy")),
        "search_kl_entropy": tuple(
            np.log(levels(arm, "entropy")) for arm in ("search_kl_cov_wide", "search_unclipped")
        ),
        "search_clip_entropy": tuple(
            np.log(levels(arm, "entropy")) for arm in ("search_clip_cov_wide", "search_clip_two")
        ),
    }
    expected = {name: stats.ttest_rel(*pair).pvalue for name, pair in pairs.items()}
    assert found["p"].to_dict() == pytest.approx(expected)
    np.testing.assert_allclose(found["holm"], holm(list(expected.values())))
    assert found.loc["search_kl_entropy", "holm"] < 0.01 < found.loc["search_kl_accuracy", "holm"]
    assert found.loc["search_clip_accuracy", "holm"] < 0.01
    # What could be seen is a ratio of entropies, and a difference of accuracies.
    assert 1 < found.loc["search_kl_entropy", "detectable"] < 1.2
    assert 0 < found.loc["search_kl_accuracy", "detectable"] < 0.2


def test_the_page_has_the_tests_where_there_are_runs(arms):
    runs = [run for group in arms.values() for run in group]
    text = parts.primary_tests(runs)
    assert text.count("KL-Cov (wide)") == text.count("Clip-Cov (wide)") == 2 and "After Holm" in text
    assert parts.primary_tests([run for run in runs if run.config.arm != "search_clip_two"]) == ""


def test_one_seed_has_no_chance_to_give(arms):
    single = {arm: runs[:1] for arm, runs in arms.items()}
    assert measures.primary_tests(single)[["p", "holm", "detectable"]].isna().all(axis=None)
    assert (figures.tests_table(single)[["p", "After Holm", "Seen with 80 % power"]] == "").all(axis=None)
    figures.contrasts(single).draw_without_rendering()


def test_rows_are_ratios_and_differences_of_the_same_seed(arms):
    entropy, accuracy = figures.contrasts(arms).axes
    gaps = [line for line in entropy.lines if line.get_marker() == "o"]
    over = [
        end_level(one, "entropy", 1 / 8) / end_level(other, "entropy", 1 / 8)
        for one, other in zip(arms["search_kl_cov_wide"], arms["search_unclipped"], strict=True)
    ]
    np.testing.assert_allclose(gaps[0].get_xdata(), over)
    labels = [label.get_text() for label in accuracy.get_yticklabels()]
    assert labels[0] == "KL-Cov, wide\nover GRPO, no clip"
    assert len(labels) == len(figures.CONTRASTS)
    rows = [label.get_text() for label in figures.selection(arms).axes[0].get_yticklabels()]
    assert rows[:2] == ["Largest covariance", "Rarest, wrong answers"]


def test_captions_and_tables_say_n_and_dose(arms):
    assert "n = 4 seeds on 3 base policies" in figures.curves_caption(arms)
    assert "1 % of the norm" in figures.selection_caption(arms)
    assert "Largest covariance 3 %" in figures.selection_caption(arms)
    shown = figures.tests_table(arms)
    assert list(shown["Seeds"]) == ["4"] * 4
    assert measures.describe(arms)["bases"] == "3"
    assert "n = 4 seeds" in figures.law_caption(arms)
    fewer = arms | {figures.PLAIN: arms[figures.PLAIN][:3]}
    assert "n = 3 to 4 seeds" in figures.curves_caption(fewer)
    assert "n = 3 to 4 seeds" in figures.contrasts_caption(fewer)
    assert "n = 3 seeds" in figures.law_caption(fewer)
    assert len(figures.law(arms).axes[1].lines) == 4 + 1
    for drawing in (figures.law, figures.curves, figures.longer, figures.contrasts, figures.selection, figures.doses):
        assert drawing(arms).get_figwidth() <= 5


def test_longer_runs_have_a_figure_of_their_own(arms):
    labels = [text.get_text() for text in figures.longer(arms).legends[0].get_texts()]
    assert labels == ["GRPO, no clip", "KL-Cov"]
    assert not set(figures.LONG) & set(figures.SHOWN)
    fewer = arms | {figures.LONG[0]: arms[figures.LONG[0]][:3]}
    assert "n = 3 to 4 seeds on 3 base policies" in figures.longer_caption(fewer)
    assert looks.name(figures.LONG[1]) == "KL-Cov, wide, trained longer, Countdown"


def test_hotter_rollouts_have_a_figure_that_names_their_temperature(arms):
    labels = [text.get_text() for text in figures.hotter(arms).legends[0].get_texts()]
    assert labels == ["GRPO", "GRPO, no clip", "KL-Cov"]
    first, *others = figures.HOT
    runs = [replace(run, config=run.config.replace(temperature=1.2)) for run in arms[first]]
    hot = arms | {first: runs} | {arm: [] for arm in others}
    assert figures.hotter_caption(hot).endswith("Rollouts are sampled at T = 1.2, and so is the entropy's policy.")
    assert looks.name(figures.HOT[0]) == "GRPO, rollouts at T = 1.2, Countdown"


def test_runs_stand_at_their_dose_and_ruined_ones_are_counted(arms):
    arms["select_covariance_tenth"] = arms["select_covariance_tenth"][:2]
    arms["select_covariance_tenth"][0].evaluations["accuracy/mean"] = 0.01
    arms["select_covariance_fiftieth"] = []
    _, accuracy = figures.doses(arms).axes
    covariance, random, without = accuracy.lines
    np.testing.assert_allclose(covariance.get_xdata(), [1, 1, 1, 1, 10, 10])
    np.testing.assert_allclose(random.get_xdata(), [1] * 4 + [10] * 4)
    assert covariance.get_ydata()[4] == pytest.approx(1) and covariance.get_ydata()[5] > 40
    assert without.get_ydata()[0] == pytest.approx(
        100 * np.mean([end_level(run, "accuracy", 1 / 8) for run in arms[figures.WITHOUT]])
    )
    assert "by dose: 1 % 4, 10 % 2" in figures.doses_caption(arms)
    found = measures.describe(arms)
    assert found["ruined_select_covariance_tenth"] == "1 of 2" and found["ruined_select_covariance"] == "0 of 4"
    assert found["ruined_select_covariance_fiftieth"] == "0 of 0"
    assert found["gradient_search_clip_cov_wide"] == "90.5 %"


def test_the_share_of_a_gradient_counts_doubt_and_advantage():
    assert measures.gradient_share(SimpleNamespace(tokens=TOKENS)) == pytest.approx(
        (0.5 + 8.1) / (0.5 + 0.5 + 0.4 + 8.1)
    )


def test_the_regime_sets_the_worlds_side_by_side(arms):
    text = regime.table([run for runs in arms.values() for run in runs])
    assert "Paper, 7B" in text and "Chained arithmetic" in text and "Countdown" in text
    assert "Countdown: 4 seeds on 3 base policies" in text
    assert "95 %" in text and "5.654 (Table 1)" in text
    alone = regime.table(arms["search_grpo8"])
    assert "Chained arithmetic" not in alone
    assert regime.table(arms["search_unclipped"]) == ""


def test_what_is_measured_again_stands_beside_the_first(arms):
    ledger = claims.load_ledger()
    first = claims.measure(ledger.claim("collapse"), [])
    again = claims.measure(ledger.claim("search_collapse"), arms["search_grpo8"])
    text = parts.both(ledger, [*first, *again])
    assert text.count("* - ") == 1 + 3 and text.count("  - not run {bdg-muted}`underpowered`") == 3
    found = {one.subclaim: one.ours for one in again}
    row = "* - Entropy consumed in the first 1/12 of training\n  - 73 %\n  - not run {bdg-muted}`underpowered`\n  - "
    assert row + found["search_entropy_twelfth"] in text
    assert parts.both(ledger, first) == parts.both(ledger, again) == ""
