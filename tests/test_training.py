"""A run end to end: what it measures, and that it repeats."""

import numpy as np
import pandas as pd
import pytest
import torch

from repro.errors import BaseError, ConfigError
from repro.runs import RunConfig
from repro.runs.training import train, trainer_config
from repro.seeds import derive_seed

TINY = RunConfig(
    base="s", steps=5, prompts_per_rollout=8, updates_per_rollout=2, eval_every=2, eval_prompts=16, eval_samples=2
)


@pytest.fixture(scope="module")
def trained():
    seen = []
    return train(TINY, on_step=lambda *state: seen.append(state)), seen


def test_tables_have_a_row_for_every_step_and_evaluation(trained):
    result, seen = trained
    assert result.metrics["step"].tolist() == [1, 2, 3, 4, 5]
    assert result.evaluations["step"].tolist() == [0, 2, 4, 5]
    assert [state[:2] for state in seen] == [(step, 5) for step in range(1, 6)]
    assert seen[0][3] == result.evaluations["accuracy/mean"][0]
    for column in ("entropy/response_mean", "entropy/token_mean", "covariance/mean", "loss", "grad_norm"):
        assert np.isfinite(result.metrics[column]).all(), column
    # Rewards come with a rollout, which two updates share.
    assert result.metrics["reward/mean"].notna().tolist() == [True, False, True, False, True]
    assert (result.evaluations["k"] == 2).all()
    assert {f"accuracy/level_{level}" for level in range(3, 9)} <= set(result.evaluations.columns)


def test_first_step_measures_the_base_policy(trained):
    result, _ = trained
    # The mixture was made to have entropy to lose; a policy over 21 tokens has at most log 21 nats.
    assert 0.25 < result.metrics["entropy/response_mean"][0] < np.log(21)
    assert 0.2 < result.evaluations["accuracy/mean"][0] < 0.6


def test_token_sample_explains_the_covariance(trained):
    result, _ = trained
    tokens = result.tokens
    assert tokens["step"].unique().tolist() == [1, 2, 3, 4, 5]
    assert (tokens["log_prob"] <= 0).all()
    # 8 prompts x 8 samples over 2 updates: 32 sequences, so the sample is the whole of step 1.
    first = tokens[tokens["step"] == 1]
    assert first["sequence"].nunique() == 32
    by_hand = (first["log_prob"] - first["log_prob"].mean()) * (first["advantage"] - first["advantage"].mean())
    np.testing.assert_allclose(first["covariance"], by_hand, rtol=1e-4, atol=1e-6)
    assert first["covariance"].mean() == pytest.approx(result.metrics["covariance/mean"][0], rel=1e-4)
    token_mean = first["entropy"].mean()
    response_mean = first.groupby("sequence")["entropy"].mean().mean()
    assert token_mean == pytest.approx(result.metrics["entropy/token_mean"][0], rel=1e-5)
    assert response_mean == pytest.approx(result.metrics["entropy/response_mean"][0], rel=1e-5)


def test_the_same_config_twice_gives_the_same_bits(trained):
    result, _ = trained
    again = train(TINY)
    for table in ("metrics", "evaluations", "tokens"):
        pd.testing.assert_frame_equal(getattr(result, table), getattr(again, table), check_exact=True)


def test_the_number_of_threads_changes_no_bit(trained):
    result, _ = trained
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        again = train(TINY)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    pd.testing.assert_frame_equal(result.metrics, again.metrics, check_exact=True)


def test_evaluating_more_often_changes_no_training(trained):
    result, _ = trained
    often = train(RunConfig(**{**TINY.to_dict(), "eval_every": 1}))
    pd.testing.assert_frame_equal(result.metrics, often.metrics, check_exact=True)


def test_another_seed_gives_another_run(trained):
    result, _ = trained
    other = train(RunConfig(**{**TINY.to_dict(), "seed": 1}))
    assert not result.metrics["loss"].equals(other.metrics["loss"])


def test_no_clip_is_infinity_and_further_fields_reach_the_trainer(tmp_path):
    config = RunConfig(**{**TINY.to_dict(), "epsilon": None, "trainer": {"beta": 0.01}})
    args = trainer_config(config, str(tmp_path))
    assert args.beta == 0.01
    assert args.clip_range == (float("inf"), float("inf"))
    assert args.per_device_train_batch_size == 32
    assert args.steps_per_generation == 2


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        (
            {"entropy_controls": "kl_cov"},
            "'entropy_controls' is not one of CovGRPOConfig; did you mean 'entropy_control'",
        ),
        ({"learning_rate": 1e-3}, "'learning_rate' is decided by the run's own fields"),
    ],
)
def test_a_wrong_trainer_field_is_named(trainer, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        trainer_config(RunConfig(**{**TINY.to_dict(), "trainer": trainer}), str(tmp_path))


def test_a_missing_base_is_one_clear_error():
    with pytest.raises(BaseError, match="python -m repro bases nowhere"):
        train(RunConfig(base="nowhere", steps=1))


def test_seeds_depend_on_every_part():
    seeds = {derive_seed("a", 0), derive_seed("a", 1), derive_seed("b", 0), derive_seed("a", "0"), derive_seed("a0")}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert derive_seed("training", 0) == derive_seed("training", 0)
