"""A run of Countdown, and that computing its long responses in buckets changes nothing but rounding."""

import numpy as np
import pytest
import torch

from repro.policies import buckets
from repro.policies.family import make_model, make_tokenizer
from repro.runs import RunConfig
from repro.runs.training import train
from repro.tasks.countdown import COUNTDOWN

CONFIG = RunConfig(
    base="countdown_0",
    task="countdown",
    max_steps=3,
    steps_per_generation=4,
    gradient_accumulation_steps=2,
    prompts_per_rollout=4,
    max_completion_length=64,
    reward="random",
    learning_rate=1e-3,
    eval_steps=1,
    eval_prompts=4,
    eval_samples=2,
    eval_samples_last=2,
    trainer={"entropy_control": "kl_cov", "entropy_control_fraction": 0.02, "allow_large_fraction": True},
)


@pytest.fixture
def untrained(monkeypatch):
    """An untrained policy in place of the base: its responses have every length up to the longest."""

    def load(name, *_, **__):
        tokenizer = make_tokenizer(COUNTDOWN)
        with torch.random.fork_rng([]):
            torch.manual_seed(2)
            model = make_model("sm3", tokenizer)
            with torch.no_grad():
                model.lm_head.weight[tokenizer.eos_token_id] *= 6
        return model, tokenizer

    monkeypatch.setattr("repro.policies.load", load)
    monkeypatch.setattr("repro.policies.identity", lambda name, *_: "0" * 64)


def test_buckets_change_nothing_but_rounding(untrained, monkeypatch):
    passes = []

    def counted(mask):
        passes.append(buckets.buckets(mask))
        return passes[-1]

    monkeypatch.setattr("repro.runs.bucketed.buckets", counted)
    bucketed = train(CONFIG)
    assert max(map(len, passes)) > 2
    monkeypatch.setattr(buckets, "SHORT", 1000)
    whole = train(CONFIG)
    assert len(passes[-1]) == 1
    lengths = whole.tokens.groupby(["step", "sequence"]).size()
    assert lengths.min() < 20 < 40 < lengths.max()
    for column in ("loss", "grad_norm", "entropy/response_mean", "covariance/mean", "penalty/mean", "ratio/kl"):
        one, other = bucketed.metrics[column], whole.metrics[column]
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6, err_msg=column)
    # Before the first update the policy is the one that sampled, to the bit: a penalty on their distance is 0 there,
    # and its gradient too. Afterwards there is a distance.
    for run in (bucketed, whole):
        assert run.metrics["ratio/kl"][0] == run.metrics["penalty/mean"][0] == 0
        assert run.metrics["ratio/min"][0] == run.metrics["ratio/max"][0] == 1
        assert run.metrics["ratio/kl"].max() > 1e-5
    assert (whole.metrics["grad_norm"] > 0.01).all()


def test_the_harder_split_is_evaluated_first_and_last(untrained):
    evaluations = train(CONFIG).evaluations
    assert evaluations["step"].tolist() == [0, 1, 2, 3]
    assert evaluations["accuracy/mean"].notna().all()
    assert evaluations["harder/accuracy/mean"].notna().tolist() == [True, False, False, True]
    assert "harder/accuracy/level_5" in evaluations and "accuracy/level_5" not in evaluations


def test_filtered_rollouts_have_prompts_of_their_own(untrained):
    # A coin's groups of two are alike half of the time.
    config = CONFIG.replace(num_generations=2, prompts_per_rollout=16, trainer={"filter_groups": True}, eval_steps=3)
    metrics = train(config).metrics
    assert metrics["filter_groups/prompts"].max() > 16
    assert metrics["filter_groups/passes"].max() < 1
    assert metrics["frac_reward_zero_std"].max() == metrics["filter_groups/filled"].max() == 0
