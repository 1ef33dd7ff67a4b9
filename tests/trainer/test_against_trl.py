"""``CovGRPOTrainer`` with its methods off is TRL's trainer; with them on, TRL's own options still do what they do."""

import pytest
import torch
from transformers import AutoModelForCausalLM
from trl import GRPOConfig, GRPOTrainer

from repro.losses import kl_cov_penalty
from repro.trainer import CovGRPOTrainer

from .conftest import FixedGRPOTrainer, history, numbered_prompts, parameters

TRL_OPTIONS = {
    "clip-higher": {"epsilon_high": 0.28},
    "entropy bonus": {"entropy_coef": 0.01},
    "adaptive entropy bonus": {"use_adaptive_entropy": True, "entropy_target": 2.5, "entropy_coef_delta": 0.01},
    "top-entropy mask": {"top_entropy_quantile": 0.2},
}


@pytest.mark.parametrize(
    "overrides",
    [
        {"gradient_accumulation_steps": 2, "steps_per_generation": 4},
        {"loss_type": "grpo", "gradient_accumulation_steps": 4, "num_iterations": 1},
        {"loss_type": "bnpo", "scale_rewards": "batch", "temperature": 1.0, "gradient_checkpointing": True},
    ],
    ids=["dapo, off-policy", "grpo, on-policy", "bnpo, checkpointing"],
)
def test_off_equals_parent_bit_for_bit(train, overrides):
    parent = train(GRPOTrainer, GRPOConfig, max_steps=20, learning_rate=2e-3, **overrides)
    ours = train(CovGRPOTrainer, max_steps=20, learning_rate=2e-3, **overrides)
    expected, found = history(parent), history(ours)
    assert len(expected) == 20
    assert sum(entry["grad_norm"] > 0 for entry in expected) > 15
    for before, after in zip(expected, found, strict=True):
        assert before == {name: after[name] for name in before}
    for name, value in parameters(parent).items():
        assert torch.equal(value, parameters(ours)[name]), name


@pytest.mark.parametrize("option", TRL_OPTIONS)
def test_options_of_trl_equal_parent(train, option):
    parent = train(FixedGRPOTrainer, GRPOConfig, **TRL_OPTIONS[option])
    ours = train(**TRL_OPTIONS[option])
    for before, after in zip(history(parent), history(ours), strict=True):
        assert before == {name: after[name] for name in before}


@pytest.mark.parametrize("option", TRL_OPTIONS)
def test_kl_cov_adds_its_penalty_to_options_of_trl(batch, option):
    trainer, rollout = batch(
        entropy_control="kl_cov", entropy_control_fraction=0.04, ratio_clip="epsilon", **TRL_OPTIONS[option]
    )
    loss = trainer._compute_loss(trainer.model, rollout)
    plain = GRPOTrainer._compute_loss(trainer, trainer.model, rollout)
    log_probs = trainer._completion_log_probs(trainer.model, rollout)
    penalty = kl_cov_penalty(log_probs, rollout["old_per_token_logps"], rollout["cov_selected"])
    expected = (penalty * rollout["completion_mask"]).sum() / rollout["completion_mask"].sum()
    assert expected > 0.001
    assert (loss - plain).item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("option", TRL_OPTIONS)
def test_clip_cov_takes_tokens_out_under_options_of_trl(batch, option):
    trainer, rollout = batch(
        entropy_control="clip_cov",
        entropy_control_fraction=0.04,
        clip_cov_low=0.0,
        ratio_clip="epsilon",
        **TRL_OPTIONS[option],
    )
    assert rollout["cov_selected"].sum() == int(0.04 * rollout["completion_mask"].sum())
    loss = trainer._compute_loss(trainer.model, rollout)
    without = rollout | {"advantages": torch.where(rollout["cov_selected"], 0.0, rollout["advantages"].unsqueeze(1))}
    expected = GRPOTrainer._compute_loss(trainer, trainer.model, without)
    plain = GRPOTrainer._compute_loss(trainer, trainer.model, rollout)
    assert loss.item() == expected.item() != plain.item()


def test_reference_kl_equals_parent_and_adds_to_kl_cov(train, policy, tmp_path):
    # TRL loads its reference model from where the policy was loaded from.
    policy().save_pretrained(tmp_path / "base")

    def loaded():
        return AutoModelForCausalLM.from_pretrained(tmp_path / "base")

    parent = train(FixedGRPOTrainer, GRPOConfig, model=loaded(), beta=0.1)
    ours = train(model=loaded(), beta=0.1)
    with_control = train(model=loaded(), beta=0.1, entropy_control="kl_cov", entropy_control_fraction=0.04)
    for before, after in zip(history(parent), history(ours), strict=True):
        assert before == {name: after[name] for name in before}
    # The reference is the policy as it was loaded, and stays.
    for name, value in policy().named_parameters():
        assert torch.equal(dict(ours.ref_model.named_parameters())[name], value), name
    assert history(ours)[0]["kl"] == 0
    assert history(ours)[-1]["kl"] > 0
    assert history(with_control)[-1]["kl"] > 0
    assert history(with_control)[-1]["penalty/mean"] > 0


def test_evaluation_is_the_parents(make):
    control = {"entropy_control": "kl_cov", "entropy_control_fraction": 0.04, "ratio_clip": "epsilon"}
    evaluation = {"eval_dataset": numbered_prompts(8), "per_device_eval_batch_size": 8}
    parent = make(FixedGRPOTrainer, GRPOConfig, **evaluation).evaluate()
    ours = make(**evaluation, **control).evaluate()
    timed = {"eval_model_preparation_time", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second"}
    assert {name: value for name, value in ours.items() if name not in timed} == {
        name: value for name, value in parent.items() if name not in timed
    }
