"""A run that is stopped and resumed is the run that was not, wherever it is stopped."""

import shutil
from pathlib import Path

import pytest
import torch
from trl import GRPOConfig

from repro.errors import ConfigError
from repro.trainer import CovGRPOConfig, CovGRPOTrainer

from .conftest import FixedCovGRPOTrainer, FixedGRPOTrainer, history, parameters

CLIP_COV = {"entropy_control": "clip_cov", "entropy_control_fraction": 0.04, "clip_cov_low": 0.0}
KL_COV = {"entropy_control": "kl_cov", "entropy_control_fraction": 0.04}
SAVE = {"save_strategy": "steps", "save_steps": 1, "max_steps": 8, "learning_rate": 2e-3}
RUNS = {
    "clip_cov, step": CLIP_COV | {"entropy_control_scope": "step"},
    "clip_cov, rollout, accumulation": CLIP_COV | {"gradient_accumulation_steps": 2},
    "kl_cov, prime": KL_COV | {"advantage_estimator": "prime", "prime_learning_rate": 1e-3},
    "kl_cov, random tokens, adaptive": KL_COV
    | {"entropy_control_tokens": "random", "kl_cov_adaptive": True, "entropy_target": 4.0},
    "clip_cov, random tokens, gradient": {
        **{"entropy_control": "clip_cov", "entropy_control_tokens": "random"},
        **{"entropy_control_budget": "gradient", "entropy_control_fraction": 0.1},
    },
    "two epochs": KL_COV | {"rows": 8},
    "adaptive entropy": {"use_adaptive_entropy": True, "entropy_target": 2.0, "entropy_coef_delta": 0.01},
}


@pytest.mark.parametrize("name", RUNS)
def test_resumed_equals_uninterrupted(train, tmp_path, name):
    """4 slices a rollout: step 4 is between rollouts and step 5 within one, and with 8 prompts in the second epoch."""
    run = RUNS[name] | SAVE
    whole = train(CovGRPOTrainer, **run)
    expected = history(whole)
    out = Path(whole.args.output_dir)
    for stop in (4, 5):
        resumed = train(CovGRPOTrainer, resume=str(out / f"checkpoint-{stop}"), **run)
        found = history(resumed)
        assert [entry["step"] for entry in found] == list(range(1, 9))
        for entry, reference in zip(found, expected, strict=True):
            ignored = {"num_tokens"}
            assert {k: v for k, v in entry.items() if k not in ignored} == {
                k: v for k, v in reference.items() if k not in ignored
            }, stop
        for parameter, value in parameters(whole).items():
            assert torch.equal(parameters(resumed)[parameter], value), (stop, parameter)
    assert {entry["loss"] for entry in expected[5:]} != {0.0}


def test_a_resumed_draw_is_not_the_first_one(train):
    """The generator of the draw goes on: the test above would not see it if every rollout drew alike."""
    first = train(**CLIP_COV, save_strategy="steps", save_steps=4, max_steps=4)
    state = torch.load(f"{first.args.output_dir}/checkpoint-4/cov_grpo_0.pt", weights_only=True)
    fresh = train(**CLIP_COV, max_steps=1)
    assert torch.equal(state["generator"], fresh.generator.get_state())  # one draw each: one rollout
    again = train(**CLIP_COV, max_steps=5)
    assert not torch.equal(state["generator"], again.generator.get_state())


def test_token_samples_survive(train):
    run = {"token_sample_every": 2, "token_sample_size": 4, **SAVE, "max_steps": 4, **KL_COV}
    whole = train(**run)
    resumed = train(resume=f"{whole.args.output_dir}/checkpoint-2", **run)
    assert list(whole.sampled_tokens()["step"].unique()) == [1, 3]
    assert whole.sampled_tokens().equals(resumed.sampled_tokens())
    assert whole.sampled_tokens()["selected"].dtype == bool


@pytest.mark.parametrize(
    "method",
    [{}, KL_COV | {"kl_cov_adaptive": True, "entropy_target": 4.0}, CLIP_COV],
    ids=["none", "kl_cov", "clip_cov"],
)
def test_a_checkpoint_of_weights_alone_resumes_as_in_trl(train, method):
    """With no state beside the weights everything but them and the step begins anew."""
    run = SAVE | {"save_only_model": True, "max_steps": 6}
    config, trainer = (CovGRPOConfig, FixedCovGRPOTrainer) if method else (GRPOConfig, FixedGRPOTrainer)
    first = train(trainer, config, **run, **method)
    at = f"{first.args.output_dir}/checkpoint-4"
    parent = train(trainer, config, resume=at, **run, **method)
    resumed = train(resume=at, **run, **method)
    assert [entry["step"] for entry in history(resumed)] == list(range(1, 7))
    for before, after in zip(history(parent), history(resumed), strict=True):
        assert before == {name: after[name] for name in before}
    if "kl_cov_adaptive" in method:
        assert history(resumed)[4]["kl_cov/coefficient"] == 1.0 != history(first)[4]["kl_cov/coefficient"]


def test_refuses_a_checkpoint_of_more_ranks(train):
    first = train(**KL_COV, **SAVE | {"max_steps": 2})
    at = Path(first.args.output_dir) / "checkpoint-2"
    (at / "cov_grpo_0.pt").rename(at / "cov_grpo_1.pt")
    with pytest.raises(
        ConfigError, match=r"has no cov_grpo_0.pt: it was made by CovGRPOTrainer on another number of ranks"
    ):
        train(resume=str(at), **KL_COV)


def test_refuses_a_checkpoint_of_another_trainer(train):
    parent = train(FixedGRPOTrainer, GRPOConfig, save_strategy="steps", save_steps=2, max_steps=2)
    with pytest.raises(
        ConfigError,
        match=r"has no cov_grpo_0.pt: it was made by another trainer.*load its weights as the model instead",
    ):
        train(resume=f"{parent.args.output_dir}/checkpoint-2")
    shutil.rmtree(parent.args.output_dir)
