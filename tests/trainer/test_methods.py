"""What the methods do to a batch: which tokens, what loss, what gradient, whatever the split."""

import math

import pytest
import torch
from peft import LoraConfig
from trl import GRPOTrainer

from repro.losses import clip_cov_loss, kl_cov_loss
from repro.ops import token_covariance
from repro.trainer import CovGRPOTrainer
from repro.trainer.aggregate import aggregate, loss_mask

from .conftest import history, parameters

KL_COV = {"entropy_control": "kl_cov", "entropy_control_fraction": 0.04}
CLIP_COV = {
    "entropy_control": "clip_cov",
    "entropy_control_fraction": 0.04,
    "clip_cov_low": 0.0,
    "clip_cov_high": 2.0,
}
METHODS = pytest.mark.parametrize("method", [KL_COV, CLIP_COV], ids=["kl_cov", "clip_cov"])


def covariances(log_probs, advantages, mask) -> dict[tuple[int, int], float]:
    """Eq. 10 with Python floats: {(row, position): covariance} of the unmasked tokens."""
    places = [tuple(place) for place in mask.nonzero().tolist()]
    log_prob = {place: log_probs[place].item() for place in places}
    advantage = {place: advantages[place[0]].item() for place in places}
    mean_log_prob, mean_advantage = (math.fsum(v.values()) / len(places) for v in (log_prob, advantage))
    return {place: (log_prob[place] - mean_log_prob) * (advantage[place] - mean_advantage) for place in places}


def places(selected) -> set[tuple[int, int]]:
    return {tuple(place) for place in selected.nonzero().tolist()}


def gradients(trainer, loss) -> dict[str, torch.Tensor]:
    trainer.model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters()}


def assert_same_gradients(found, expected, rel=1e-4):
    scale = max(gradient.abs().max() for gradient in expected.values())
    assert scale > 0
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=rel, atol=rel * scale.item(), msg=name)


def test_kl_cov_selects_the_largest_of_the_rollout_on_old_log_probs(batch):
    _, rollout = batch(**KL_COV)
    mask = rollout["completion_mask"]
    cov = covariances(rollout["old_per_token_logps"], rollout["advantages"], mask)
    quota = int(0.04 * mask.sum())
    assert quota > 3
    assert places(rollout["cov_selected"]) == set(sorted(cov, key=cov.get, reverse=True)[:quota])


def test_clip_cov_draws_from_the_band_and_again_otherwise(batch):
    trainer, rollout = batch(**CLIP_COV)
    mask, old, advantages = (rollout[name] for name in ("completion_mask", "old_per_token_logps", "advantages"))
    cov = covariances(old, advantages, mask)
    band = {place for place, value in cov.items() if 0 < value < 2}
    quota = int(0.04 * mask.sum())
    first = places(rollout["cov_selected"])
    assert len(first) == quota < len(band)
    assert first < band
    second = places(trainer._select(old, old, advantages, mask, mask.sum()).selected)
    assert second < band and len(second) == quota and second != first


def test_kl_cov_loss_is_that_of_the_pure_function(batch):
    trainer, rollout = batch(**KL_COV)
    loss = trainer._compute_loss(trainer.model, rollout)
    found = gradients(trainer, loss)
    log_probs = trainer._completion_log_probs(trainer.model, rollout)
    expected, metrics = kl_cov_loss(
        log_probs,
        rollout["old_per_token_logps"],
        rollout["advantages"],
        rollout["completion_mask"],
        fraction=0.04,
        selected=rollout["cov_selected"],
    )
    assert metrics["penalty/mean"] > 0
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert_same_gradients(found, gradients(trainer, expected))
    logged = trainer.monitor.collect()[0]
    for name in ("covariance/mean", "selected/count", "selected/fraction", "penalty/mean", "ratio/mean"):
        assert logged[name] == pytest.approx(metrics[name].item(), rel=1e-4), name


def test_clip_cov_loss_is_that_of_the_pure_function(batch):
    trainer, rollout = batch(**CLIP_COV)
    loss = trainer._compute_loss(trainer.model, rollout)
    found = gradients(trainer, loss)
    log_probs = trainer._completion_log_probs(trainer.model, rollout)
    expected, metrics = clip_cov_loss(
        log_probs,
        rollout["old_per_token_logps"],
        rollout["advantages"],
        rollout["completion_mask"],
        fraction=0.04,
        selected=rollout["cov_selected"],
    )
    assert metrics["clipped/fraction"] > 0
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert_same_gradients(found, gradients(trainer, expected))
    logged = trainer.monitor.collect()[0]
    assert logged["ratio/mean"] == pytest.approx(metrics["ratio/mean"].item(), rel=1e-4)


def test_whole_loss_with_its_own_selection_is_that_of_the_pure_function(batch):
    trainer, rollout = batch(**KL_COV, entropy_control_scope="step")
    loss = trainer._compute_loss(trainer.model, rollout)
    log_probs = trainer._completion_log_probs(trainer.model, rollout)
    expected, _ = kl_cov_loss(
        log_probs, rollout["old_per_token_logps"], rollout["advantages"], rollout["completion_mask"], fraction=0.04
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_step_scope_selects_on_current_log_probs(batch):
    trainer, rollout = batch(**KL_COV, entropy_control_scope="step", token_sample_every=1)
    trainer._compute_loss(trainer.model, rollout)
    log_probs = trainer._completion_log_probs(trainer.model, rollout)
    cov = covariances(log_probs, rollout["advantages"], rollout["completion_mask"])
    old_cov = covariances(rollout["old_per_token_logps"], rollout["advantages"], rollout["completion_mask"])
    quota = int(0.04 * len(cov))
    expected = set(sorted(cov, key=cov.get, reverse=True)[:quota])
    tokens = trainer.sampled_tokens()
    chosen = tokens[tokens["selected"]]
    assert set(zip(chosen["sequence"], chosen["position"], strict=True)) == expected
    assert expected != set(sorted(old_cov, key=old_cov.get, reverse=True)[:quota])


def test_clip_cov_never_draws_what_ppo_clips(batch):
    # Over the whole band, so that all that may be drawn is drawn.
    settings = CLIP_COV | {"entropy_control_fraction": 1.0, "allow_large_fraction": True, "ratio_clip": "epsilon"}
    trainer, rollout = batch(**settings, entropy_control_scope="step", token_sample_every=1)
    trainer._compute_loss(trainer.model, rollout)
    ratio = (trainer._completion_log_probs(trainer.model, rollout) - rollout["old_per_token_logps"]).exp()
    advantages = rollout["advantages"].unsqueeze(1).expand_as(ratio)
    clipped = ((ratio > 1.2) & (advantages > 0)) | ((ratio < 0.8) & (advantages < 0))
    cov = token_covariance(
        trainer._completion_log_probs(trainer.model, rollout), advantages, rollout["completion_mask"]
    )
    band = (cov > 0) & (cov < 2) & (rollout["completion_mask"] != 0)
    tokens = trainer.sampled_tokens()
    drawn = tokens[tokens["selected"]]
    assert set(zip(drawn["sequence"], drawn["position"], strict=True)) == places(band & ~clipped)
    assert (band & clipped).any()


def test_clip_cov_gives_selected_tokens_no_gradient(batch):
    """The gradient equals that of the loss in which the selected tokens are constants."""
    trainer, rollout = batch(**CLIP_COV, ratio_clip="none")
    found = gradients(trainer, trainer._compute_loss(trainer.model, rollout))
    log_probs = trainer._completion_log_probs(trainer.model, rollout)
    held = torch.where(rollout["cov_selected"], log_probs.detach(), log_probs)
    terms = -(held - rollout["old_per_token_logps"]).exp() * rollout["advantages"].unsqueeze(1)
    mask = rollout["completion_mask"]
    assert_same_gradients(found, gradients(trainer, (terms * mask).sum() / mask.sum()))


def test_kl_cov_has_no_gradient_on_policy(batch):
    """Where the policy is the one that sampled, the penalty and its gradient are exactly 0: why that is refused."""
    trainer, rollout = batch(**KL_COV)
    rollout["old_per_token_logps"] = trainer._completion_log_probs(trainer.model, rollout).detach()
    with_penalty = gradients(trainer, trainer._compute_loss(trainer.model, rollout))
    assert trainer.monitor.collect()[0]["penalty/mean"] == 0
    without = gradients(trainer, GRPOTrainer._compute_loss(trainer, trainer.model, rollout))
    for name, gradient in without.items():
        assert torch.equal(with_penalty[name], gradient)


@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "bnpo", "dr_grpo"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_aggregate_is_trls_normalisation(make, loss_type, accumulation):
    """On-policy TRL's loss is its normalisation of minus the advantages, which may be per token."""
    trainer = make(loss_type=loss_type, gradient_accumulation_steps=accumulation)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = accumulation
    rollout = trainer._generate_and_score_completions([trainer.train_dataset[row // 4] for row in range(32)])
    del rollout["old_per_token_logps"]
    part = {name: value[:8] if value.ndim else value for name, value in rollout.items()}
    part["advantages"] = torch.randn(part["completion_ids"].shape)
    expected = GRPOTrainer._compute_loss(trainer, trainer.model, part)
    found = aggregate(
        -part["advantages"],
        loss_mask(part),
        loss_type,
        tokens_per_rollout=part["num_items_in_batch"],
        accumulation=accumulation,
        steps_per_generation=4,
        processes=1,
        max_completion_length=8,
    )
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_tool_tokens_are_neither_selected_nor_penalised(batch):
    trainer, rollout = batch(**KL_COV, entropy_control_scope="step", token_sample_every=1)
    everything = places(rollout["completion_mask"])
    rollout["tool_mask"] = torch.ones_like(rollout["completion_mask"])
    rollout["tool_mask"][:, 1] = 0
    trainer._compute_loss(trainer.model, rollout)
    tokens = trainer.sampled_tokens()
    assert set(zip(tokens["sequence"], tokens["position"], strict=True)) == {p for p in everything if p[1] != 1}
    assert trainer.monitor.collect()[0]["selected/pool"] == len(tokens)


# One rollout of 32 sequences for every two optimizer steps, in ever smaller micro-batches.
SPLITS = {1: (32, 1), 2: (16, 2), 4: (8, 4)}


def split_run(train, accumulation, **overrides) -> CovGRPOTrainer:
    size, steps = SPLITS[accumulation]
    return train(
        per_device_train_batch_size=size,
        gradient_accumulation_steps=accumulation,
        steps_per_generation=steps,
        num_iterations=2,
        optim="sgd",
        learning_rate=1.0,
        **overrides,
    )


@METHODS
@pytest.mark.parametrize("scope", ["rollout", "step"])
@pytest.mark.parametrize("loss_type", ["dapo", "grpo"])
def test_same_training_however_the_batch_is_split(train, method, scope, loss_type):
    """Losses, gradients and every metric of ours; two optimizer steps per rollout, two rollouts."""
    settings = method | {"entropy_control_scope": scope, "loss_type": loss_type}
    whole = split_run(train, 1, **settings)
    assert history(whole)[-1]["selected/count"] > 3
    if method is KL_COV:
        assert history(whole)[-1]["penalty/mean"] > 0
    for accumulation in (2, 4):
        split = split_run(train, accumulation, **settings)
        for expected, found in zip(history(whole), history(split), strict=True):
            for name, value in expected.items():
                if name in ("loss", "grad_norm") or name.split("/")[0] in ("selected", "covariance", "penalty"):
                    assert found[name] == pytest.approx(value, rel=2e-4, abs=2e-6, nan_ok=True), (accumulation, name)
        for name, value in parameters(whole).items():
            torch.testing.assert_close(parameters(split)[name], value, rtol=1e-3, atol=1e-5)


@METHODS
def test_micro_scope_depends_on_the_split(train, method):
    settings = method | {"entropy_control_scope": "micro"}
    whole, split = history(split_run(train, 1, **settings)), history(split_run(train, 4, **settings))
    assert whole[0]["selected/pool"] == pytest.approx(4 * split[0]["selected/pool"])
    assert whole[-1]["loss"] != pytest.approx(split[-1]["loss"], rel=1e-3)


def test_same_seed_is_bitwise_equal_and_another_is_not(train):
    first, second, other = (history(train(**CLIP_COV, seed=seed)) for seed in (1, 1, 2))
    assert first == second
    assert first != other


def test_on_policy_rollout_scope_is_the_step(train):
    settings = CLIP_COV | {"steps_per_generation": 2, "gradient_accumulation_steps": 2}
    rollout = history(train(**settings))
    step = history(train(**settings, entropy_control_scope="step"))
    assert rollout == step
    assert rollout[0]["selected/count"] > 0
    assert "ratio/mean" not in rollout[0]


@pytest.mark.parametrize(
    ("overrides", "low_high"),
    [
        ({}, (0.2, 0.2)),
        ({"epsilon_high": 0.28}, (0.2, 0.28)),
        ({"ratio_clip": "none"}, (math.inf, math.inf)),
        ({"epsilon": None}, (math.inf, math.inf)),
        (KL_COV, (math.inf, math.inf)),
        (KL_COV | {"ratio_clip": "epsilon"}, (0.2, 0.2)),
        (CLIP_COV, (1.0, 1.0)),
        (CLIP_COV | {"ratio_clip": "epsilon", "epsilon": 0.1, "epsilon_high": 0.3}, (0.1, 0.3)),
        (CLIP_COV | {"ratio_clip": "none"}, (math.inf, math.inf)),
    ],
)
def test_clip_range(make, overrides, low_high):
    trainer = make(**overrides)
    assert (trainer.epsilon_low, trainer.epsilon_high) == low_high


def test_unclipped_loss_is_the_plain_ratio(batch):
    trainer, rollout = batch(ratio_clip="none")
    loss = trainer._compute_loss(trainer.model, rollout)
    ratio = (trainer._completion_log_probs(trainer.model, rollout) - rollout["old_per_token_logps"]).exp()
    mask = rollout["completion_mask"]
    expected = -(ratio * rollout["advantages"].unsqueeze(1) * mask).sum() / mask.sum()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert (loss - batch()[0]._compute_loss(trainer.model, rollout)).abs() > 1e-3


def test_warns_once_of_a_fraction_under_one_token(make):
    trainer = make(**KL_COV | {"entropy_control_fraction": 0.002}, max_steps=8)
    with pytest.warns(UserWarning) as caught:
        trainer.train()
    messages = [str(warning.message) for warning in caught if "entropy_control_fraction" in str(warning.message)]
    pool = int(history(trainer)[0]["selected/pool"])
    assert len(messages) == 1
    assert (
        f"entropy_control_fraction=0.002 of the {pool} tokens of a selection is {0.002 * pool:.2g} tokens"
        in messages[0]
    )
    count = history(trainer)[0]["selected/count"]
    assert f"entropy_control_minimum=1 decides, a fraction of {1 / pool:.2g}, and {count:.0f} of the" in messages[0]


def test_minimum_zero_selects_nothing_there(make):
    trainer = make(**KL_COV | {"entropy_control_fraction": 0.002, "entropy_control_minimum": 0})
    with pytest.warns(UserWarning, match="nothing is selected"):
        trainer.train()
    assert [entry["selected/count"] for entry in history(trainer)] == [0, 0, 0, 0]
    assert history(trainer)[0]["selected/covariance"] is None


def test_adapters(make):
    trainer = make(**KL_COV, peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    before = parameters(trainer)
    trainer.train()
    changed = {name for name, value in parameters(trainer).items() if not torch.equal(value, before[name])}
    assert changed and all("lora_" in name for name in changed)
    assert history(trainer)[-1]["penalty/mean"] > 0
    assert history(trainer)[-1]["selected/count"] > 0
