"""Open questions: measures of made-up runs whose levels are known, and figures that show them."""

import shutil
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import pytest

from repro import claims, paths
from repro.book.figures import controls as figures
from repro.claims import ClaimError, NoEffect, curves
from repro.claims.measures import controls as measures
from repro.claims.measures.controls import Ending
from repro.runs import RunConfig

WINDOW = 1 / 8
FIRST, SECOND = "abcdefgh", "ijklmnop"


@dataclass(frozen=True)
class MadeUpRun:
    """What the measures and figures of the open questions read of a run."""

    config: RunConfig
    metrics: pd.DataFrame
    evaluations: pd.DataFrame
    tokens: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def name(self) -> str:
        return f"{self.config.arm}-seed{self.config.seed}"


def made_up(entropy=0.5, accuracy=0.6, *, steps=80, updates=8, start=0.5, seed=0, arm="grpo8", **fields) -> MadeUpRun:
    """A run that is at `start` nat and 0.4 at first and at `entropy` and `accuracy` from its second rollout on."""
    step = np.arange(1, steps + 1)
    level = np.where(step <= updates, start, entropy)
    at = np.arange(0, steps + 1, max(1, steps // 20))
    return MadeUpRun(
        RunConfig(arm=arm, seed=seed, max_steps=steps, steps_per_generation=updates, **fields),
        pd.DataFrame({"step": step, "entropy/response_mean": level, "entropy/token_mean": level}),
        pd.DataFrame({"step": at, "accuracy/mean": np.where(at == 0, 0.4, accuracy)}),
    )


def table(*sequences: list[tuple[float, float]]) -> pd.DataFrame:
    """A sampled step: for each sequence its tokens' (log_prob, advantage)."""
    rows = [
        {"step": 1, "sequence": number, "position": place, "log_prob": log_prob, "advantage": advantage}
        for number, tokens in enumerate(sequences)
        for place, (log_prob, advantage) in enumerate(tokens)
    ]
    return pd.DataFrame(rows)


# Levels at the last step that all have.


def test_levels_are_those_of_the_last_common_step():
    short, long = made_up(0.3, steps=80), made_up(steps=160)
    later = long.metrics["step"] > 80
    long.metrics.loc[later, "entropy/response_mean"] = 9.0
    long.metrics.loc[~later & (long.metrics["step"] > 8), "entropy/response_mean"] = 0.1
    assert measures.common_steps([long, short]) == 80
    # Not even by interpolation towards the rollout after the 80th step.
    assert measures.entropy_added(short, long, window=WINDOW) == pytest.approx(0.3 - 0.1)


def test_added_is_first_less_second():
    high, low = made_up(0.3, 0.7), made_up(0.1, 0.6)
    assert measures.entropy_added(high, low, window=WINDOW) == pytest.approx(0.2)
    assert measures.accuracy_added(high, low, window=WINDOW) == pytest.approx(0.1)
    assert measures.accuracy_gained(high, window=WINDOW) == pytest.approx(0.3)


def test_share_of_gap():
    part, whole, base = made_up(0.15), made_up(0.3), made_up(0.1)
    assert measures.share_of_gap(part, whole, base, window=WINDOW, minimum=0.03) == pytest.approx(0.25)
    with pytest.raises(NoEffect, match=r"differ by 0.020 nat, less than 0.03"):
        measures.share_of_gap(part, made_up(0.12), base, window=WINDOW, minimum=0.03)


# Selected tokens.


def with_selection(run: MadeUpRun, **columns: object) -> MadeUpRun:
    return replace(run, metrics=run.metrics.assign(**{f"selected/{name}": one for name, one in columns.items()}))


def test_selected_shares_count_tokens_not_steps():
    run = with_selection(
        made_up(steps=4, updates=2),
        count=[3, 1, 0, 4],
        positive_advantage=[1, 0, np.nan, 0.5],
        **{"probability_below_0.1": [0, 1, np.nan, 1]},
    )
    assert measures.selected_positive(run) == pytest.approx(5 / 8)
    assert measures.selected_rare(run) == pytest.approx(5 / 8)
    curve = measures.selected_curve(run, "positive_advantage")
    assert curve["share"].tolist() == pytest.approx([3 / 4, 1 / 2])
    assert curve["step"].tolist() == [0.5, 3]


def test_selected_shares_need_a_selection():
    with pytest.raises(ClaimError, match=r"grpo8-seed0: no column 'selected/count'"):
        measures.selected_positive(made_up())
    run = with_selection(made_up(steps=2, updates=1), count=[0, 0], positive_advantage=np.nan)
    with pytest.raises(NoEffect, match="no token was selected"):
        measures.selected_positive(run)


def test_fraction_over_the_nominal_one():
    run = made_up(steps=4, updates=2, trainer={"entropy_control": "kl_cov", "entropy_control_fraction": 0.02})
    run = with_selection(run, fraction=[0.03, 0.03, 0.03, 0.05])
    assert measures.selected_of_nominal(run) == pytest.approx(0.035 / 0.02)


# Overlap of scopes.


def test_one_micro_batch_overlaps_wholly():
    tokens = table(*([(-0.1, 1.0), (-2.0 - one, -1.0)] for one in range(4)))
    assert measures.overlaps(tokens, sequences=4, fraction=0.25) == [1.0]
    assert measures.overlaps(tokens, sequences=32, fraction=0.25) == [1.0]


def test_overlap_of_a_table_by_hand():
    # The two rarest failing tokens stand in sequence 0. Of 8 tokens a quarter is 2: the whole step takes both, while
    # micro-batches of one sequence (4 tokens, one selected each) take one of them and one of the other sequence.
    tokens = table(
        [(-6.0, -1.0), (-5.0, -1.0), (-0.1, 1.0), (-0.1, 1.0)],
        [(-1.0, -1.0), (-0.1, -1.0), (-0.1, 1.0), (-0.1, 1.0)],
    )
    assert measures.overlaps(tokens, sequences=2, fraction=0.25) == [1.0]
    assert measures.overlaps(tokens, sequences=1, fraction=0.25) == pytest.approx([1 / 3])


def test_ragged_sequences_and_several_steps():
    first = table([(-3.0, -1.0)], [(-0.1, 1.0), (-0.2, 1.0), (-0.1, 1.0)])
    both = pd.concat([first, first.assign(step=5)], ignore_index=True)
    # At least one token is selected in each: the whole step takes the rare one, and the pair of sequences one each.
    assert measures.overlaps(both, sequences=1, fraction=0.02) == pytest.approx([1 / 2, 1 / 2])


def test_scope_overlap_is_the_mean_over_runs():
    apart = table(
        [(-6.0, -1.0), (-5.0, -1.0), (-0.1, 1.0), (-0.1, 1.0)],
        [(-1.0, -1.0), (-0.1, -1.0), (-0.1, 1.0), (-0.1, 1.0)],
    )
    same = apart[apart["sequence"] == 0]
    runs = [replace(made_up(), tokens=tokens) for tokens in (apart, same)]
    assert measures.scope_overlap(*runs, sequences=1, fraction=0.25) == pytest.approx((1 / 3 + 1) / 2)
    with pytest.raises(NoEffect, match="no sampled tokens"):
        measures.scope_overlap(made_up(), sequences=1, fraction=0.25)


# Endings.


@pytest.mark.parametrize(
    ("entropy", "accuracy", "expected"),
    [
        (0.049, 0.6, Ending.COLLAPSES),
        (0.051, 0.6, Ending.HOLDS),
        (0.499, 0.6, Ending.HOLDS),
        (0.501, 0.6, Ending.EXPLODES),
        (0.3, 0.34, Ending.EXPLODES),
        (0.3, 0.36, Ending.HOLDS),
        (0.01, 0.1, Ending.COLLAPSES),
    ],
)
def test_endings(entropy, accuracy, expected):
    assert measures.ending(made_up(entropy, accuracy), 10, WINDOW) is expected


def test_what_is_left_is_read_at_the_last_common_rollout():
    # 10 rollouts each, of 8 updates and of 1: both are read at their own ends, of 0.5 nat at the start.
    eight, one = made_up(0.01, steps=80), made_up(0.4, steps=10, updates=1)
    assert measures.common_rollout([eight, one]) == 10
    assert measures.entropy_left_by_rollout(eight, one, window=WINDOW) == pytest.approx(0.02)
    assert measures.entropy_left_by_rollout(one, eight, window=WINDOW) == pytest.approx(0.8)
    # Read after 5 rollouts, a run that collapses in its sixth has not.
    late = made_up(0.4, steps=80)
    late.metrics.loc[late.metrics["step"] > 40, "entropy/response_mean"] = 0.01
    short = made_up(0.4, steps=5, updates=1)
    assert measures.entropy_left_by_rollout(late, one, window=WINDOW) == pytest.approx(0.02)
    assert measures.entropy_left_by_rollout(late, short, window=WINDOW) == pytest.approx(0.8)
    assert measures.most_entropy_left(late, one, window=WINDOW) == pytest.approx(0.8)
    with pytest.raises(NoEffect, match=r"entropy is 0\.000 nat"):
        measures.most_entropy_left(made_up(start=0.0), window=WINDOW)


def test_differences_by_rollout():
    kl8, grpo8 = made_up(0.3, steps=80), made_up(0.05, steps=80)
    kl2, grpo2 = made_up(0.4, steps=20, updates=2), made_up(0.3, steps=20, updates=2)
    assert measures.entropy_added_by_rollout(grpo8, grpo2, window=WINDOW) == pytest.approx(-0.25)
    assert measures.effect_growth(kl8, grpo8, kl2, grpo2, window=WINDOW) == pytest.approx(0.15)


# Controllers.


def test_tracking_error_is_taken_of_rollouts_in_the_second_half():
    run = made_up(steps=16, updates=2, trainer={"entropy_target": 0.2})
    # Second half: rollouts at 0.1 and 0.3 by turns, whose updates scatter around that.
    late = [0.0, 0.2, 0.2, 0.4] * 2
    run.metrics["entropy/token_mean"] = [5.0] * 8 + late
    assert measures.tracking_error(run, since=0.5) == pytest.approx(0.1)
    assert curves.end_level(run, "token_entropy", 1 / 16) == pytest.approx(0.3)


def test_a_missing_column_is_named():
    run = made_up()
    bare = replace(run, metrics=run.metrics.drop(columns="entropy/token_mean"))
    with pytest.raises(ClaimError, match="no column 'entropy/token_mean'"):
        measures.tracking_error(bare, since=0.5)


def test_levels_in_words():
    runs = {"low": [made_up(0.1, 0.5), made_up(0.3, 0.7, seed=1)], "one": [made_up(0.25, 0.6)]}
    words = measures.describe(runs)
    # Mean 0.2, half-width 12.706 * 0.1 = 1.27.
    assert words["low_entropy"] == "0.2 nat (-1.07 to 1.47 nat)"
    assert words["one_entropy"] == "0.25 nat (no interval)"
    assert words["one_accuracy"] == "60 % (no interval)"


# The ledger.


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("claims")
    for name in ("paper.yaml", "05_controls.yaml"):
        shutil.copy(paths.configs_dir() / "claims" / name, folder)
    return claims.load_ledger(folder).claims


@pytest.fixture(scope="module")
def runs(questions):
    """Three made-up runs of every arm that the questions and figures name; later arms have more entropy."""
    arms = [*figures.ARMS, *(arm for claim in questions for arm in claim.arms)]
    return {
        arm: [complete(arm, seed, 0.02 + 0.002 * number) for seed in range(3)]
        for number, arm in enumerate(dict.fromkeys(arms))
    }


def complete(arm: str, seed: int, entropy: float) -> MadeUpRun:
    """A run of an arm with all that any measure or figure reads; entropy and accuracy go up with the seed."""
    updates = int(arm[-1]) if arm[-3:-1] == "_u" else 8
    trainer = {"entropy_control_fraction": 0.02}
    if "target" in arm:
        trainer["entropy_target"] = int(arm[-2:]) / 100
    run = made_up(
        entropy + 0.001 * seed,
        0.6 + 0.01 * seed,
        arm=arm,
        seed=seed,
        steps=20 * updates,
        updates=updates,
        trainer=trainer,
    )
    rng = np.random.default_rng(seed)
    return replace(
        with_selection(run, count=4, fraction=0.025, positive_advantage=0.1, **{"probability_below_0.1": 0.8}),
        tokens=table(*([(-rng.exponential(), rng.choice([-1.0, 1.0])) for _ in range(5)] for _ in range(64))),
    )


def test_the_ledger_has_seven_questions(questions):
    assert [claim.number for claim in questions] == [5, 6, 7, 8, 9, 10, 11]
    assert all(claim.kind is claims.Kind.QUESTION for claim in questions)


def test_every_arm_is_one_of_the_study(questions):
    arms = (paths.configs_dir() / "arms.yaml").read_text()
    for arm in {*figures.ARMS, *(arm for claim in questions for arm in claim.arms)}:
        assert f"    {arm}:" in arms, arm


def test_every_prediction_is_measured(questions, runs):
    for claim in questions:
        findings = claims.measure(claim, [run for arm in claim.arms for run in runs[arm]])
        for finding in findings:
            assert finding.n == 3
            assert finding.estimate is not None or "no effect" in finding.note, finding


def test_every_figure_is_made_by_the_notebook_under_its_name(questions):
    notebook = (paths.root() / "notebooks" / "05_controls.py").read_text()
    for part in (part for claim in questions for part in claim.subclaims):
        assert f'"name": "{part.figure}"' in notebook, part.id


# Figures.


def circles(axes) -> list[float]:
    """Where the seeds' circles lie in a panel, from left to right."""
    drawn = [line for line in axes.lines if line.get_marker() == "o" and line.get_markersize() == 4]
    return sorted(float(x) for line in drawn for x in np.atleast_1d(line.get_xdata()))


def test_dots_are_the_levels_of_the_runs(runs):
    _, entropy, accuracy = figures.scope(runs).axes
    found = [curves.end_level(run, "entropy", WINDOW, 160) for arm in figures.SCOPES for run in runs[arm]]
    assert circles(entropy) == pytest.approx(sorted(found))
    assert circles(accuracy) == pytest.approx(sorted([60, 61, 62] * len(figures.SCOPES)))
    labels = [label.get_text() for label in entropy.get_yticklabels()]
    # The made-up arms have the same micro-batches.
    assert labels == ["rollout", "64 sequences", "64 sequences"]
    # The first label is at the top.
    assert entropy.get_ylim()[0] > entropy.get_ylim()[1]


def test_the_clip_grid_has_both_series(runs):
    entropy = figures.clip_grid(runs).axes[0]
    means = sorted(
        float(line.get_xdata()[0]) for line in entropy.lines if line.get_markersize() == 8 and len(line.get_xdata())
    )
    expected = [
        np.mean([curves.end_level(run, "entropy", WINDOW, 160) for run in runs[arm]]) for arm in figures.CLIP_ARMS
    ]
    assert means == pytest.approx(sorted(expected))


def test_overlaps_fall_with_the_size_of_a_micro_batch(runs):
    table = figures.overlap_table(runs["kl_cov"], 0.02).groupby("sequences")["overlap"].mean()
    assert table.index.tolist() == [4, 8, 16, 32]
    assert table[4] < table[32] < 100
    lines = [line for line in figures.overlap(runs).axes[0].lines if len(line.get_xdata()) == 4]
    assert lines[0].get_ydata() == pytest.approx(table.to_numpy())


def test_the_failure_map_says_what_is_refused_and_how_runs_end(runs):
    axes = figures.failure_map(runs).axes[0]
    texts = {(round(text.get_position()[0]), round(text.get_position()[1])): text.get_text() for text in axes.texts}
    assert len(texts) == 12
    assert texts[0, 2] == "refused:\nno effect"
    assert texts[2, 0] == "not run"
    endings = figures.ending_table(runs)
    cell = endings[(endings["method"] == "KL-Cov") & (endings["updates"] == 8)]
    words = "\n".join(f"{one} {(cell['ending'] == one).sum()}/3" for one in Ending if (cell["ending"] == one).any())
    assert texts[3, 2].startswith(words)


def test_what_pays_is_drawn_from_the_findings(questions, runs):
    claim = next(claim for claim in questions if claim.id == "exploration")
    findings = claims.measure(claim, [run for arm in claim.arms for run in runs[arm]])
    explore, single = figures.pays(findings).axes
    values = [100 * value for finding in findings if finding.subclaim.startswith("explore") for value in finding.values]
    assert circles(explore) == pytest.approx(sorted(values))
    assert explore.get_xlim() == single.get_xlim()
    everywhere = circles(explore) + circles(single)
    assert explore.get_xlim()[0] < min(everywhere) and max(everywhere) < explore.get_xlim()[1]


@pytest.mark.parametrize(
    "name",
    ["clip_grid", "selected", "scope", "overlap", "failure_map", "random_rewards", "plane", "tracking"],
)
def test_figures_are_narrow_and_captions_say_n(runs, name):
    figure = getattr(figures, name)(runs)
    assert figure.get_figwidth() == 5
    figure.draw_without_rendering()
    caption = getattr(figures, f"{name}_caption")(runs)
    assert "n = 3 seeds" in caption
    assert "interval" in caption
    assert caption.endswith((".", ").")) and "  " not in caption


def test_one_seed_has_no_interval(runs):
    one = {arm: group[:1] for arm, group in runs.items()}
    assert "n = 1 seed an arm" in figures.scope_caption(one)
    assert not figures.scope(one).axes[0].collections
