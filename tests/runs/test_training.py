"""A run end to end: what it measures, and that it repeats."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from repro import policies
from repro.errors import BaseError, ConfigError
from repro.runs import RunConfig, stopwatch, study_trainer
from repro.runs.trainer_config import trainer_config
from repro.runs.training import train
from repro.seeds import derive_seed
from repro.tasks.arithmetic.chains import apply

TINY = RunConfig(
    base="s",
    max_steps=5,
    prompts_per_rollout=8,
    steps_per_generation=2,
    eval_steps=2,
    eval_prompts=16,
    eval_samples=2,
    eval_samples_last=4,
    eval_rollout_samples=1,
    eval_answers=2,
    probe_every=2,
)
TABLES = ("metrics", "evaluations", "tokens", "probe", "answers")


def changed(**fields):
    return TINY.replace(**fields)


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
    assert result.metrics["reward"].notna().tolist() == [True, False, True, False, True]
    assert result.evaluations["k"].tolist() == [2, 2, 2, 4]
    assert result.evaluations["accuracy/pass@4"].notna().tolist() == [False, False, False, True]
    assert {f"accuracy/level_{level}" for level in range(3, 9)} <= set(result.evaluations.columns)
    assert result.evaluations["accuracy/rollout"].between(0, 1).all()
    # Two problems, one greedy answer and all of the two or three samples that are kept.
    assert result.answers.groupby("step").size().to_dict() == {0: 6, 2: 6, 4: 6, 5: 8}
    assert result.answers["prompt"].nunique() == 2


def test_first_step_measures_the_base_policy(trained):
    result, _ = trained
    # The mixture was made to have entropy to lose; a policy over 21 tokens has at most log 21 nats.
    assert 0.25 < result.metrics["entropy/response_mean"][0] < np.log(21)
    assert 0.2 < result.evaluations["accuracy/mean"][0] < 0.6


def test_entropy_is_that_of_the_sampling_temperature(trained):
    hot = train(changed(temperature=1.5, max_steps=2, eval_steps=2, eval_prompts=4))
    assert hot.metrics["step"].tolist() == [1, 2]
    assert hot.metrics["entropy/response_mean"][0] > 1.2 * trained[0].metrics["entropy/response_mean"][0]
    first = hot.tokens[hot.tokens["step"] == 1]
    mean = first.groupby("sequence")["entropy"].mean().mean()
    assert mean == pytest.approx(hot.metrics["entropy/response_mean"][0], rel=1e-5)
    # Surprise is entropy in the mean, of the distribution that the tokens were drawn from and of no other.
    assert -first["log_prob"].mean() == pytest.approx(first["entropy"].mean(), rel=0.1)


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
    for table in TABLES:
        assert len(getattr(result, table))
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
    assert result.threads == again.threads == 1


def test_evaluating_more_often_changes_no_training(trained):
    result, _ = trained
    often = train(changed(eval_steps=1))
    pd.testing.assert_frame_equal(result.metrics, often.metrics, check_exact=True)


def test_another_seed_gives_another_run(trained):
    result, _ = trained
    other = train(changed(seed=1))
    assert not result.metrics["loss"].equals(other.metrics["loss"])


def test_probed_steps_have_a_row_and_others_none(trained):
    result, _ = trained
    probe = result.probe
    assert probe["step"].tolist() == [1, 3, 5]
    assert (probe["learning_rate"] == TINY.learning_rate).all()
    np.testing.assert_allclose(probe["entropy_after"] - probe["entropy_before"], probe["entropy_change"], atol=1e-12)
    # The states are those of the update, so that their entropy before it is the step's own token mean.
    measured = result.metrics.set_index("step")["entropy/token_mean"]
    np.testing.assert_allclose(probe["entropy_before"], measured[probe["step"]], rtol=1e-5)
    # Step 3 begins the second rollout: it is on-policy, and the covariance over its tokens is Theorem 2's.
    covariance = result.metrics.set_index("step")["covariance/mean"]
    np.testing.assert_allclose(probe["theorem2_token"], covariance[probe["step"]], rtol=1e-3, atol=1e-5)
    # To first order in a small step the entropy falls by Lemma 1's covariance.
    assert np.sign(probe["entropy_change"]).tolist() == np.sign(-probe["lemma1"]).tolist()
    np.testing.assert_allclose(probe["entropy_change"], -probe["lemma1"], rtol=0.3)


def test_probing_changes_no_training_and_none_is_an_empty_table(trained):
    result, _ = trained
    bare = train(changed(probe_every=0))
    assert bare.probe.empty
    for table in ("metrics", "evaluations", "tokens"):
        pd.testing.assert_frame_equal(getattr(result, table), getattr(bare, table), check_exact=True)
    assert "probe" not in bare.timing and result.timing["probe"] > 0


def test_timing_adds_up_to_the_run_and_counts_the_rollouts_tokens(trained):
    result, _ = trained
    phases = {"generation", "scoring", "update", "evaluation", "probe", "other"}
    assert set(result.timing) == {*phases, "generated_tokens"}
    assert all(result.timing[phase] > 0 for phase in phases)
    # A rollout has 64 completions of 3 to 16 tokens; 5 steps of 2 updates a rollout make 3 rollouts.
    assert 3 * 64 * 3 <= result.timing["generated_tokens"] <= 3 * 64 * 16
    lengths = result.metrics["completions/mean_length"].dropna()
    assert result.timing["generated_tokens"] == pytest.approx(64 * lengths.sum())


@pytest.mark.parametrize("trainer", [{}, {"entropy_control": "kl_cov", "entropy_control_fraction": 0.05}])
def test_micro_batches_change_the_memory_and_not_the_step(trainer):
    """The first rollout is the same, so its updates are, within the rounding of another order of summation."""
    short = {"max_steps": 2, "probe_every": 0, "eval_prompts": 4, "trainer": trainer}
    whole, halves = ({"steps_per_generation": 2 * n, "gradient_accumulation_steps": n} for n in (1, 2))
    one, two = (train(changed(**cut, **short)).metrics for cut in (whole, halves))
    for column in ("loss", "grad_norm", "entropy/response_mean", "covariance/mean", "ratio/kl", "reward"):
        np.testing.assert_allclose(one[column], two[column], rtol=2e-5, atol=1e-7, err_msg=column)
    # Below the tolerance a real difference could hide only if these were zero.
    assert (one["loss"].abs() > 0.01).all() and (one["grad_norm"] > 0.1).all()


def test_completions_meet_their_own_prompts(monkeypatch):
    """With a sampler that knows the answers, every reward is 1: no completion is scored against another's prompt."""
    _, tokenizer = policies.load(TINY.base)

    def answer(prompt):
        text = tokenizer.decode(prompt).rstrip(":")
        total = int(text[0])
        for operator, operand in zip(text[1::2], text[2::2], strict=True):
            total = apply(total, operator, int(operand))
        return tokenizer(f"={total}")["input_ids"] + [tokenizer.eos_token_id]

    def know(model, prompts, samples, **_):
        assert len(set(map(tuple, prompts))) == len(prompts) == TINY.prompts_per_rollout
        return [answer(prompt) for prompt in prompts for _ in range(samples)]

    monkeypatch.setattr(study_trainer, "sample_tokens", know)
    metrics = train(changed(probe_every=0, eval_prompts=2)).metrics
    assert metrics["reward"].dropna().tolist() == [1, 1, 1]
    assert metrics["completions/mean_length"].dropna().tolist() == [3, 3, 3]


def test_both_samplers_train_and_are_what_the_config_says():
    short = {"max_steps": 2, "probe_every": 0, "eval_prompts": 4}
    own, trl = (train(changed(sampler=sampler, **short)) for sampler in ("own", "trl"))
    for run in (own, trl):
        assert run.metrics["step"].tolist() == [1, 2]
        assert run.timing["generation"] > 0
        assert run.timing["generated_tokens"] == pytest.approx(64 * run.metrics["completions/mean_length"][0])
    # Draws from the same policy: rollouts of as much entropy.
    entropies = [run.metrics["entropy/response_mean"][0] for run in (own, trl)]
    assert entropies[0] == pytest.approx(entropies[1], rel=0.15)
    # Only TRL's sampler has a field that makes all completions of a prompt the same.
    greedy = train(changed(sampler="trl", trainer={"top_k": 1}, **short))
    assert greedy.metrics["frac_reward_zero_std"][0] == 1 > own.metrics["frac_reward_zero_std"][0]


def test_random_rewards_are_no_ones_merit(trained):
    result, _ = trained
    random = train(changed(reward="random", probe_every=0))
    # The same first rollout, another reward of it: the toss of a coin for each of its 64 completions.
    assert random.metrics["entropy/response_mean"][0] == result.metrics["entropy/response_mean"][0]
    assert random.metrics["reward"][0] != result.metrics["reward"][0]
    assert abs(random.metrics["reward"].mean() - 0.5) < 3 * 0.5 / math.sqrt(3 * 64)
    pd.testing.assert_frame_equal(
        random.metrics, train(changed(reward="random", probe_every=0)).metrics, check_exact=True
    )


def test_stopwatch_counts_no_second_twice(monkeypatch):
    now = 100.0
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: now)
    clock = stopwatch.Stopwatch()
    with clock("outer"):
        now += 1
        with clock("inner"):
            now += 10
            with clock("outer"):
                now += 100
            now += 20
        with pytest.raises(ZeroDivisionError), clock("failing"):
            now += 1000
            raise ZeroDivisionError
        now += 2
    now += 5000
    with clock("inner"):
        now += 40
    assert clock.seconds == {"outer": 103, "inner": 70, "failing": 1000}


def test_no_clip_is_infinity_and_further_fields_reach_the_trainer(tmp_path):
    config = changed(epsilon=None, trainer={"beta": 0.01})
    args = trainer_config(config, str(tmp_path))
    assert args.beta == 0.01
    assert args.clip_range == (float("inf"), float("inf"))
    assert args.per_device_train_batch_size == 32
    assert args.steps_per_generation == 2
    split = trainer_config(changed(steps_per_generation=8, gradient_accumulation_steps=4), str(tmp_path))
    assert (split.per_device_train_batch_size, split.gradient_accumulation_steps) == (8, 4)
    assert split.steps_per_generation == 8 and split.generation_batch_size == args.generation_batch_size == 64


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        (
            {"entropy_controls": "kl_cov"},
            "'entropy_controls' is not one of CovGRPOConfig; did you mean 'entropy_control'",
        ),
        ({"learning_rate": 1e-3}, "'learning_rate' is decided by the run's own fields"),
        ({"gradient_accumulation_steps": 2}, "'gradient_accumulation_steps' is decided by the run's own fields"),
        ({"top_p": 0.9}, "'top_p' would do nothing with sampler='own'; remove it, or set sampler to 'trl' or 'vllm'"),
        ({"use_transformers_continuous_batching": True}, "with sampler='own'; remove it, or set sampler to 'trl'$"),
        (
            {"vllm_mode": "server"},
            "'vllm_mode' would do nothing with sampler='own'; remove it, or set sampler to 'vllm'",
        ),
        ({"use_vllm": True}, "'use_vllm' is decided by the run's own fields"),
    ],
)
def test_a_wrong_trainer_field_is_named(trainer, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        trainer_config(changed(trainer=trainer), str(tmp_path))


def test_a_missing_base_is_one_clear_error():
    with pytest.raises(BaseError, match="base policy 'nowhere' is missing: .*; no recipe makes it"):
        train(RunConfig(base="nowhere", max_steps=1))


def test_a_base_that_cannot_read_the_task_is_one_clear_error(monkeypatch):
    class Words:
        family, held_out = "words", ()

        def dataset(self, *_):
            return {"prompt": ["seven plus two"]}

    monkeypatch.setattr("repro.runs.training.get_task", lambda name: Words())
    with pytest.raises(BaseError, match="base policy 's' has no tokens for the prompt 'seven plus two' of task 'arith"):
        train(TINY)


def test_seeds_depend_on_every_part():
    seeds = {derive_seed("a", 0), derive_seed("a", 1), derive_seed("b", 0), derive_seed("a", "0"), derive_seed("a0")}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert derive_seed("training", 0) == derive_seed("training", 0)
