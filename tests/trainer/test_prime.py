"""PRIME's implicit reward model: what it scores, what it learns, and from what."""

import pytest
import torch
from trl import GRPOTrainer

from repro.errors import ConfigError
from repro.trainer.prime import ImplicitRewardModel


@pytest.fixture
def scored(batch):
    """A trainer with a reward model that learns fast, and a rollout of its."""
    trainer, rollout = batch(advantage_estimator="prime", prime_learning_rate=1e-3, prime_beta=0.5)
    return trainer, rollout, rollout["completion_mask"], trainer._rewards_per_func[:, 0]


def test_reward_is_beta_times_log_ratio_to_the_reference(scored):
    trainer, rollout, mask, outcomes = scored
    model = trainer.reward_model
    with torch.no_grad():
        log_ratio = model.log_probs(model.model, rollout) - model.log_probs(model.reference, rollout)
    rewards = model.score_and_learn(rollout, mask, outcomes, torch.tensor(32))
    assert log_ratio.abs().max() > 1e-4  # the rollout was learned from when it was made
    torch.testing.assert_close(rewards, 0.5 * log_ratio * mask)


def test_learns_to_tell_right_from_wrong(scored):
    trainer, rollout, mask, outcomes = scored
    reference = {name: value.clone() for name, value in trainer.reward_model.reference.state_dict().items()}
    policy = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    for _ in range(40):
        rewards = trainer.reward_model.score_and_learn(rollout, mask, outcomes, torch.tensor(32))
    totals = rewards.sum(1)
    assert ((totals > 0) == (outcomes > 0.5)).float().mean() > 0.9
    for before, model in ((reference, trainer.reward_model.reference), (policy, trainer.model)):
        for name, value in model.state_dict().items():
            assert torch.equal(value, before[name]), name


def test_one_step_is_the_gradient_of_cross_entropy(policy, batch):
    """Chunks add up to the mean over scored sequences, and unscored ones do not count."""
    trainer, rollout = batch(advantage_estimator="prime")
    mask = rollout["completion_mask"]
    outcomes = trainer._rewards_per_func[:, 0].clone()
    outcomes[3] = torch.nan
    models = []
    for size in (32, 5):
        model = ImplicitRewardModel(
            trainer.model, trainer._completion_log_probs, beta=0.5, learning_rate=1e-3, batch_size=size
        )
        model.optimizer = torch.optim.SGD(model.parameters, lr=1.0)
        before = [parameter.detach().clone() for parameter in model.parameters]
        model.score_and_learn(rollout, mask, outcomes, torch.tensor(31))
        models.append([after.detach() - start for after, start in zip(model.parameters, before, strict=True)])
    keep = torch.arange(32) != 3
    model = ImplicitRewardModel(
        trainer.model, trainer._completion_log_probs, beta=0.5, learning_rate=1e-3, batch_size=32
    )
    totals = (
        0.5 * mask * (model.log_probs(model.model, rollout) - model.log_probs(model.reference, rollout).detach())
    ).sum(1)[keep]
    torch.nn.functional.binary_cross_entropy(totals.sigmoid(), outcomes[keep]).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters, 1.0)
    for whole, chunked, parameter in zip(*models, model.parameters, strict=True):
        torch.testing.assert_close(whole, -parameter.grad, atol=1e-6, rtol=1e-3)
        torch.testing.assert_close(chunked, -parameter.grad, atol=1e-6, rtol=1e-3)
    assert max(step.abs().max() for step in models[0]) > 1e-4


def test_process_rewards_reach_the_advantages(batch):
    trainer, rollout = batch(advantage_estimator="prime", prime_learning_rate=1e-3)
    assert torch.equal(rollout["advantages"], rollout["advantages"][:, :1] * rollout["completion_mask"])
    again = trainer._generate_and_score_completions([trainer.train_dataset[row // 4] for row in range(32)])
    spread = torch.where(again["completion_mask"] != 0, again["advantages"], torch.nan)
    assert (spread - spread[:, :1]).nan_to_num().abs().max() > 1e-3


def test_refuses_rewards_that_are_no_outcomes(make):
    trainer = make(
        advantage_estimator="prime", reward=lambda completions, **_: [2.0 * (len(text) > 3) for text in completions]
    )
    with pytest.raises(ConfigError, match=r"outcomes between 0 and 1, but a reward is 2.0: use a reward function"):
        trainer.train()


def test_refuses_sharded_policies(make, monkeypatch):
    start = GRPOTrainer.__init__

    def sharded(self, *args, **kwargs):
        start(self, *args, **kwargs)
        self.is_fsdp_enabled = True

    monkeypatch.setattr(GRPOTrainer, "__init__", sharded)
    make()
    with pytest.raises(ConfigError, match=r"advantage_estimator='prime'.*use DDP"):
        make(advantage_estimator="prime")
