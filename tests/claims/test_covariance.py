"""Claim 3: measures of a probe whose slope is known, of a token table whose top is known, and of exact tables."""

import shutil
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest

from repro import claims, paths
from repro.book.figures import covariance as figures
from repro.claims import ClaimError, NoEffect
from repro.claims.measures import covariance as measures
from repro.runs import RunConfig

STEPS = 48


@dataclass(frozen=True)
class MadeUpRun:
    """What the measures and figures of claim 3 read of a run."""

    config: RunConfig
    probe: pd.DataFrame
    metrics: pd.DataFrame = field(default_factory=pd.DataFrame)
    tokens: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def name(self) -> str:
        return f"{self.config.arm}-seed{self.config.seed}"


def tokens(seed: int = 0, number: int = 1000) -> pd.DataFrame:
    """Step 1 has 1000 tokens; the five of the largest covariance are rare, three of them in failed responses.

    Advantages are +1 and -1 in turn, log-probabilities are -0.1 but for those five, which have -9, -8, -7 of advantage
    -1 and -6, -5 of advantage +1. Step 2 is there to be left out.
    """
    log_prob, advantage = np.full(number, -0.1), np.resize([1.0, -1.0], number)
    log_prob[[1, 3, 5, 0, 2]] = [-9, -8, -7, -6, -5]
    covariance = (log_prob - log_prob.mean()) * (advantage - advantage.mean())
    # Two tokens of positive advantage are given a covariance that no data would, to tell ranks from signs.
    covariance[[0, 2]] = [6.0, 5.0]
    first = pd.DataFrame({"step": 1, "log_prob": log_prob, "advantage": advantage, "covariance": covariance})
    return pd.concat([first, first.assign(step=2, covariance=99.0)], ignore_index=True)


@pytest.fixture
def make_probed():
    """Makes runs whose entropy change is minus `slope` times Lemma 1's covariance, plus `noise` of another rhythm."""

    def make(seed: int = 0, arm: str = "probe", slope: float = 1.0, noise: float = 0.0) -> MadeUpRun:
        step = np.arange(1, STEPS + 1)
        lemma = 0.02 * np.exp(-step / 12) + 0.002 * np.sin(step + seed)
        change = -slope * lemma + noise * np.resize([1.0, -1.0, 0.0], STEPS)
        columns = dict.fromkeys(
            ("theorem1_state", "theorem2_state", "theorem1_token", "theorem2_token", "theorem2_response"), 3 * lemma
        )
        columns |= {"centred_state": 5 * lemma, "centred_token": lemma + 0.004 * np.cos(3 * step)}
        hard = np.where(step % 4 == 0, np.nan, -0.001)
        probe = pd.DataFrame(
            {
                "step": step,
                "learning_rate": {"rate_1e5": 1e-5, "rate_5e5": 5e-5, "rate_1e3": 1e-3}.get(arm, 2e-4),
                "entropy_change": change,
                "lemma1": lemma,
                **columns,
                "theorem1_response": 0.5 * lemma + 0.001,
                "theorem1_response_at_0.125": hard,
                "theorem1_response_at_0.5": 0.002,
                "theorem1_response_at_0.875": 0.003,
                "polarity": 0.7,
                "polarity_chance": 0.55,
            }
        )
        tops = {"0.0002": 5.0, "0.002": 3.0, "0.02": 1.0, "0.2": 0.3, "0.5": 0.15}
        metrics = pd.DataFrame({"step": step, **{f"covariance/top_{name}": value for name, value in tops.items()}})
        metrics["covariance/mean"] = 0.003
        metrics.loc[1:, "covariance/top_0.002"] = 1.0
        return MadeUpRun(RunConfig(arm=arm, seed=seed, max_steps=STEPS), probe, metrics, tokens(seed))

    return make


@pytest.mark.parametrize("statement", ["lemma_1", "proposition_1", "theorem_1", "theorem_2"])
def test_statements_are_identities(statement):
    found = measures.identity_error(statement=statement)
    assert 0 < found.estimate < 1e-13 and found.low == found.high == found.estimate


def test_a_wrong_statement_is_found(monkeypatch):
    true = measures.tabular.theorem_1
    monkeypatch.setattr(measures.tabular, "theorem_1", measures.tabular.theorem_2)
    assert measures.identity_error(statement="theorem_1").estimate < 1e-13  # another theorem, also true
    monkeypatch.setattr(
        measures.tabular,
        "theorem_1",
        lambda *args: measures.tabular.Change(1.01 * true(*args).predicted, true(*args).exact),
    )
    assert measures.identity_error(statement="theorem_1").estimate > 1e-4
    assert measures.furthest_error_order().estimate < 1.9


def test_error_is_of_second_order():
    assert measures.furthest_error_order().estimate == pytest.approx(2, abs=0.1)


def test_share_of_the_states_term():
    terms, found = measures.tree_terms(), measures.states_share()
    by_hand = [abs(s) / (abs(a) + abs(s)) for a, s in zip(terms["actions"], terms["states"], strict=True)]
    assert found.n == 200 and found.estimate == pytest.approx(np.mean(by_hand))
    assert found.low < found.estimate < found.high


@pytest.mark.parametrize(
    ("control", "annealed", "regret"),
    [("bonus", 0, 0.0834), ("bonus", 1, 0), ("penalty", 0, 0.7198), ("penalty", 1, 0)],
)
def test_regret_on_the_bandit(control, annealed, regret):
    assert measures.bandit_regret(control=control, annealed=annealed).estimate == pytest.approx(regret, abs=6e-4)
    # The uniform policy's reward is (1 + 0.8 + 0.5 + 0) / 4.
    assert measures.bandit_regret_path(control, bool(annealed))[0] == pytest.approx(1 - 0.575)


def test_known_slope_and_fit(make_probed):
    run = make_probed(slope=0.8)
    assert measures.probe_slope(run, predictor="lemma1") == pytest.approx(0.8)
    assert measures.probe_slope(run, predictor="theorem1_state") == pytest.approx(0.8 / 3)
    assert measures.probe_correlation(run, predictor="theorem1_state", smoothing=0) == pytest.approx(1)
    # What is left over is a fifth of the covariance: of the sum of squares around the mean
    lemma = run.probe["lemma1"]
    left = 0.04 * (lemma**2).sum() / (0.64 * ((lemma - lemma.mean()) ** 2).sum())
    assert measures.probe_explained(run, predictor="lemma1") == pytest.approx(1 - left)
    assert measures.probe_explained(make_probed(), predictor="lemma1") == pytest.approx(1)
    flipped = make_probed(slope=-1)
    assert measures.probe_correlation(flipped, predictor="lemma1", smoothing=0) == pytest.approx(-1)


def test_growth_of_the_deviation(make_probed):
    small, large = make_probed(arm="rate_1e5", slope=1.02), make_probed(arm="rate_1e3", slope=0.7)
    assert measures.slope_deviation_growth(small, large, predictor="lemma1") == pytest.approx(0.28)


def test_smoothing_takes_noise_out(make_probed):
    run = make_probed(noise=0.01)
    rough = measures.probe_correlation(run, predictor="lemma1", smoothing=0)
    smooth = measures.probe_correlation(run, predictor="lemma1", smoothing=1 / 16)  # three steps, the noise's period
    assert rough < 0.8 and smooth > 0.95
    # By hand: a window of three at the ends has two values.
    assert measures.smoothed(pd.Series([3.0, 0, 0, np.nan] * 4), 3 / 16).tolist()[:4] == [1.5, 1, 0, 1.5]


def test_thirds(make_probed):
    run = make_probed()
    x, y = run.probe["theorem1_response"].to_numpy(), -run.probe["entropy_change"].to_numpy()
    early, late = (np.corrcoef(x[part], y[part])[0, 1] for part in (slice(0, 16), slice(32, 48)))
    assert measures.correlation_fall(run, predictor="theorem1_response", smoothing=0) == pytest.approx(early - late)
    drift = (y[32:].sum() / x[32:].sum()) / (y[:16].sum() / x[:16].sum())
    assert drift < 0.5
    assert measures.ratio_drift(run, predictor="theorem1_response", minimum=0.01) == pytest.approx(drift)
    assert measures.ratio_drift(run, predictor="theorem1_state", minimum=0.01) == pytest.approx(1)
    with pytest.raises(NoEffect, match="entropy falls by .* in the first third, less than 1"):
        measures.ratio_drift(run, predictor="theorem1_response", minimum=1)
    negative = MadeUpRun(run.config, run.probe.assign(theorem1_response=-1.0))
    with pytest.raises(NoEffect, match="sums to -"):
        measures.ratio_drift(negative, predictor="theorem1_response", minimum=0.01)


def test_gain_of_one_predictor_over_another(make_probed):
    run = make_probed()
    y = -run.probe["entropy_change"]
    expected = 1 - np.corrcoef(run.probe["centred_token"], y)[0, 1]
    assert expected > 0.1
    assert measures.correlation_gain(run, predictor="lemma1", other="centred_token") == pytest.approx(expected)


def test_shares_and_differences_leave_out_steps_without_such_prompts(make_probed):
    run = make_probed()
    assert measures.positive_share(run, predictor="theorem1_response", smoothing=0) == 1
    assert measures.positive_share(run, predictor="theorem1_response_at_0.125", smoothing=0) == 0
    half = MadeUpRun(run.config, run.probe.assign(half=np.resize([1.0, -1.0, np.nan], STEPS)))
    assert measures.positive_share(half, predictor="half", smoothing=0) == 0.5
    pair = {"predictor": "theorem1_response_at_0.5", "other": "theorem1_response_at_0.125"}
    assert measures.probe_difference(run, **pair) == pytest.approx(0.003)
    assert measures.probe_mean(run, predictor="polarity") == pytest.approx(0.7)
    with pytest.raises(NoEffect, match="no step has a half"):
        measures.probe_mean(MadeUpRun(run.config, run.probe.assign(half=np.nan)), predictor="half")


def test_top_of_a_known_table(make_probed):
    run = make_probed()
    assert measures.top_ratio(run, fraction=0.002, whole=0.5) == pytest.approx(20)
    top = measures.top_tokens(run, 0.005)
    assert top["log_prob"].tolist() == [-9, -8, -7, -6, -5]
    assert measures.top_negative_share(run, fraction=0.005) == pytest.approx(0.6)
    assert measures.top_negative_share(run, fraction=0.0001) == 1  # at least one token
    # (1 - 0) x (995 x 0.1 + 35) / 1000
    assert measures.sign_bound(run) == pytest.approx(0.1345)


def test_what_is_missing_is_named(make_probed):
    run = make_probed()
    with pytest.raises(ClaimError, match="probe-seed0 has no probe; train it with probe_every of at least 1"):
        measures.probe_slope(MadeUpRun(run.config, pd.DataFrame()), predictor="lemma1")
    with pytest.raises(ClaimError, match="no column 'lemma2'"):
        measures.probe_slope(run, predictor="lemma2")
    with pytest.raises(ClaimError, match="theorem1_response_at_0.125 is not a finite number at step 4"):
        measures.probe_slope(run, predictor="theorem1_response_at_0.125")
    with pytest.raises(ClaimError, match="no column 'covariance/top_0.3'"):
        measures.top_ratio(run, fraction=0.3, whole=0.5)
    with pytest.raises(ClaimError, match="no tokens of step 1"):
        measures.first_tokens(MadeUpRun(run.config, run.probe, run.metrics, run.tokens[run.tokens["step"] == 2]))


def test_the_ledger_measures_all_of_it(make_probed, tmp_path):
    for name in ("paper.yaml", "03_covariance.yaml"):
        shutil.copy(paths.configs_dir() / "claims" / name, tmp_path)
    ledger = claims.load_ledger(tmp_path)
    arms = {"probe": 0.98, "rate_1e5": 1.0, "rate_1e3": 0.8}
    runs = [make_probed(seed, arm, slope, 1e-4) for arm, slope in arms.items() for seed in range(3)]
    found = {one.subclaim: one for one in claims.measure(ledger.claim("covariance"), runs)}
    assert found["lemma1_slope"].estimate == pytest.approx(0.98, abs=0.01)
    assert found["lemma1_trend"].estimate == pytest.approx(0.2, abs=0.01)
    assert found["heavy_tail"].verdict is claims.Verdict.REPRODUCED
    assert found["hard_positive"].verdict is claims.Verdict.NOT_REPRODUCED
    assert found["lemma1_exact"].n == 0 and found["lemma1_exact"].verdict is claims.Verdict.REPRODUCED
    found = {one.subclaim: one for one in claims.measure(ledger.claim("covariance_predictors"), runs)}
    assert found["polarity_gain"].estimate == pytest.approx(0.15)
    assert found["theorem2_state_step"].word == "not as predicted"


def points(axes):
    """The marks of an axes' lines that are no lines, (x, y) each."""
    return [line.get_xydata() for line in axes.lines if line.get_linestyle() == "None" and len(line.get_xdata())]


def test_figure_of_the_lemma_has_every_step(make_probed):
    runs = [make_probed(seed) for seed in range(3)]
    [axes] = figures.lemma(runs).axes
    for drawn, run in zip(points(axes), runs, strict=True):
        np.testing.assert_allclose(drawn, 1000 * measures.probe_table(run)[["lemma1", "fall"]])
    assert "n = 3 seeds of 48 steps. Slope through the origin: 1 (1 to 1)" in figures.lemma_caption(runs)
    assert "no interval" in figures.lemma_caption(runs[:1])


def test_figure_of_the_rates(make_probed):
    groups = [
        [make_probed(seed, arm, slope) for seed in range(2)] for arm, slope in (("rate_1e5", 1.0), ("rate_1e3", 0.8))
    ]
    [axes] = figures.rates([*groups, []]).axes
    seeds = [line.get_xydata() for line in axes.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(seeds, [[[1e-5, 1], [1e-5, 1]], [[1e-3, 0.8], [1e-3, 0.8]]])
    assert "2 learning rates (1e-05: n = 2, 48 steps; 1e-03: n = 2, 48 steps)" in figures.rates_caption(groups)


def test_figures_of_the_curves(make_probed):
    runs = [make_probed(seed) for seed in range(3)]
    ours, fall, paper, paper_fall = figures.curves(runs).axes
    for axes, name in ((ours, "theorem1_response"), (fall, "fall")):
        curves = [measures.smoothed(measures.probe_table(run)[name], 1 / 16) for run in runs]
        mean = max((line for line in axes.lines), key=lambda line: line.get_linewidth())
        np.testing.assert_allclose(mean.get_ydata(), np.mean(curves, axis=0))
    assert [max(axes.lines[0].get_ydata()) for axes in (paper, paper_fall)] == pytest.approx([0.0170, 0.026], abs=8e-4)
    ours, paper = figures.accuracy_groups(runs).axes
    for axes in (ours, paper):
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["1/8 right", "4/8 right", "7/8 right"]
    assert "n = 3 seeds" in figures.accuracy_groups_caption(runs) and "n = 3 seeds" in figures.curves_caption(runs)
    none = [MadeUpRun(run.config, run.probe.assign(**{"theorem1_response_at_0.125": np.nan})) for run in runs]
    legend = figures.accuracy_groups(none).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["4/8 right", "7/8 right"]


def test_figure_and_table_of_the_predictors(make_probed):
    runs = [make_probed(seed) for seed in range(3)]
    [axes] = figures.predictors(runs).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(measures.PREDICTORS.values())
    drawn = points(axes)
    assert len(drawn) == 3 * len(measures.PREDICTORS)
    correlation = [measures.probe_correlation(run, predictor="centred_token", smoothing=0) for run in runs]
    np.testing.assert_allclose(drawn[8][:, 0], correlation)
    table = measures.predictor_table(runs).set_index("Covariance")
    assert table.loc["Theorem 1, state", "Slope"].startswith("0.333 (0.333 to 0.333")
    assert table.loc["Lemma 1, exact", "R2, all"] == "1 (1 to 1)"
    squared = np.mean(np.square(correlation))
    assert table.loc["p (log p + H), batch mean", "R2, all"].startswith(f"{squared:.3g} (")
    assert "n = 3" in figures.predictors_caption(runs)


def test_figure_of_the_top(make_probed):
    runs = [make_probed(seed) for seed in range(2)]
    means, who = figures.top(runs).axes
    ours = sorted(
        line.get_xydata().tolist() for line in means.lines if line.get_marker() == "o" and len(line.get_xdata())
    )
    assert ours[1] == [[pytest.approx(0.2), 3.0]] * 2
    paper = {tuple(line.get_xydata()[0]) for line in means.lines if line.get_marker() == "D" and len(line.get_xdata())}
    assert (0.2, 3.112) in paper
    # Of the top 20 tokens of a run, 3 are rare ones of advantage -1, 2 of +1, and 15 common ones of +1.
    assert [text.get_text() for text in who.get_legend().get_texts()][:2] == [
        "advantage below 0 (6)", "advantage above 0 (34)",
    ]  # fmt: skip
    table = measures.first_step_table(runs).set_index("Tokens")
    assert table.loc["top 0.2 %"].tolist() == ["3.112", "3 (3 to 3)"]
    assert table.loc["all"].tolist() == ["0.003", "0.003 (0.003 to 0.003)"]
    assert "n = 2 seeds with 1000 (1000 to 1000) tokens" in figures.top_caption(runs)
    assert "0.135 (0.135 to 0.135)" in figures.top_caption(runs)


def test_exact_figures():
    errors, terms = figures.tabular().axes
    for line in errors.lines[:3]:
        slope = np.polyfit(np.log(line.get_xdata()), np.log(line.get_ydata()), 1)[0]
        assert slope == pytest.approx(2, abs=0.1)
    assert len(terms.lines[0].get_xdata()) == 200
    [axes] = figures.bandit().axes
    assert [line.get_ydata()[-1] for line in axes.lines] == pytest.approx([0.0834, 0, 0.7198, 0], abs=6e-4)
    assert "n = 200 random languages" in figures.tabular_caption() and "1, 0.8, 0.5, 0" in figures.bandit_caption()
