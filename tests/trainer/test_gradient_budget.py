"""Selections of equal removed gradient: each token's norm, the share that is reached, and what becomes of the loss."""

import copy

import pytest
import torch
from peft import LoraConfig
from trl import GRPOTrainer

from repro.ops import token_covariance
from repro.policies import buckets
from repro.runs.bucketed import BucketedForward
from repro.trainer import CovGRPOTrainer
from repro.trainer.methods.pool import SELECTORS
from repro.trainer.moments import take_moments

from .conftest import FixedRollouts, history, parameters
from .test_methods import CLIP_COV, gradients, places, split_run

SHARE = 0.1
GRADIENT = {"entropy_control_budget": "gradient", "entropy_control_fraction": SHARE}
DROP = {"entropy_control": "clip_cov", **GRADIENT}
PENALTY = {"entropy_control": "kl_cov", **GRADIENT}


def norms_by_autograd(trainer, rollout) -> torch.Tensor:
    """Norm of the gradient of TRL's policy loss with respect to each token's logits, ``[B, T]``."""
    tokens = torch.cat([rollout["prompt_ids"], rollout["completion_ids"]], dim=1)
    attention = torch.cat([rollout["prompt_mask"], rollout["completion_mask"]], dim=1)
    length = rollout["completion_ids"].size(1)
    logits = trainer.model(tokens, attention_mask=attention).logits[:, -length - 1 : -1].detach().requires_grad_()
    log_probs = torch.log_softmax(logits, -1).gather(-1, rollout["completion_ids"].unsqueeze(-1)).squeeze(-1)
    ratio, advantages = (log_probs - rollout["old_per_token_logps"]).exp(), rollout["advantages"].unsqueeze(1)
    clipped = ratio.clamp(1 - trainer.epsilon_low, 1 + trainer.epsilon_high)
    mask = rollout["completion_mask"]
    (torch.minimum(ratio * advantages, clipped * advantages) * mask).sum().backward()
    return logits.grad.norm(dim=-1)


@pytest.mark.parametrize("clip", ["epsilon", "none"])
def test_share_that_is_removed_is_measured_by_autograd(batch, clip):
    """Of the loss's own gradient, and the shortest beginning of the order by covariance that reaches the share."""
    trainer, rollout = batch(**PENALTY, entropy_control_scope="step", ratio_clip=clip, token_sample_every=1)
    norms, mask = norms_by_autograd(trainer, rollout), rollout["completion_mask"]
    spread = (rollout["advantages"] != 0).unsqueeze(1)
    assert ((norms == 0) & (mask != 0) & spread).any() == (clip == "epsilon")
    trainer._compute_loss(trainer.model, rollout)
    sampled = trainer.sampled_tokens()
    chosen = sampled[sampled["selected"]]
    selected = list(zip(chosen["sequence"], chosen["position"], strict=True))
    share = sum(norms[place].item() for place in selected) / (norms * mask).sum().item()
    assert SHARE <= share < SHARE + norms.max().item() / norms.sum().item()
    assert trainer.monitor.collect()[0]["selected/gradient_share"] == pytest.approx(share, rel=1e-5)
    log_probs = trainer._completion_log_probs(trainer.model, rollout)
    cov = token_covariance(log_probs, rollout["advantages"], mask)
    order = sorted(places((mask != 0) & (norms > 0)), key=lambda place: -cov[place].item())
    assert set(selected) == set(order[: len(selected)])
    assert share - norms[order[len(selected) - 1]].item() / norms.sum().item() < SHARE


def test_rollout_scope_shares_the_gradient_at_the_sampling_policy(batch):
    """There the ratio is 1; the step's own share, which is logged, is of the current policy and differs."""
    trainer, rollout = batch(**DROP, entropy_control_tokens="high_entropy")
    sampling = dict(rollout)
    asked = trainer._with_moments(
        trainer.model,
        torch.cat([rollout["prompt_ids"], rollout["completion_ids"]], dim=1),
        torch.cat([rollout["prompt_mask"], rollout["completion_mask"]], dim=1),
        rollout["completion_ids"].size(1),
        compute_entropy=True,
    )
    entropies = asked[1].entropies
    # The fixture's old policy differs in its log-probabilities alone, so its entropies are the current ones.
    mask = rollout["completion_mask"]
    chosen = places(rollout["cov_selected"])
    carrying = {place for place in places(mask) if rollout["advantages"][place[0]] != 0}
    order = sorted(carrying, key=lambda place: (-entropies[place].item(), place))
    assert chosen == set(order[: len(chosen)])
    assert 0 < len(chosen) < 0.3 * len(carrying)
    trainer._compute_loss(trainer.model, rollout)
    norms = norms_by_autograd(trainer, sampling)
    share = (norms * rollout["cov_selected"]).sum() / norms.sum()
    assert trainer.monitor.collect()[0]["selected/gradient_share"] == pytest.approx(share.item(), rel=1e-5)
    assert share.item() != pytest.approx(SHARE, rel=1e-3)


def test_dropped_tokens_have_no_gradient(batch):
    """The gradient is that of the loss in which the selected tokens are constants."""
    trainer, rollout = batch(**DROP, entropy_control_tokens="covariance", ratio_clip="none")
    found = gradients(trainer, trainer._compute_loss(trainer.model, rollout))
    log_probs = trainer._completion_log_probs(trainer.model, rollout)
    held = torch.where(rollout["cov_selected"], log_probs.detach(), log_probs)
    terms = -(held - rollout["old_per_token_logps"]).exp() * rollout["advantages"].unsqueeze(1)
    mask = rollout["completion_mask"]
    expected = gradients(trainer, (terms * mask).sum() / mask.sum())
    scale = max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-4 * scale.item(), msg=name)


@pytest.mark.parametrize("tokens", ["method", *SELECTORS])
def test_all_criteria_remove_as_much(train, tokens):
    """On-policy of the step's own gradient: the share, and less than its largest token's part more."""
    method = DROP | {"steps_per_generation": 1, "per_device_train_batch_size": 32, "max_steps": 2}
    band = {"clip_cov_low": -50.0, "clip_cov_high": 50.0} if tokens == "method" else {}
    logs = history(train(**method, **band, entropy_control_tokens=tokens))
    for entry in logs:
        assert SHARE <= entry["selected/gradient_share"] < SHARE + 0.04
        assert 3 <= entry["selected/count"] < 0.5 * entry["selected/pool"]


def test_too_few_candidates_are_all_taken(train):
    """Half of the gradient is of failing responses, so nine tenths cannot be reached with them."""
    run = DROP | {"entropy_control_fraction": 0.9, "entropy_control_tokens": "negative_advantage", "max_steps": 1}
    (entry,) = history(train(**run, entropy_control_scope="step"))
    assert 0.2 < entry["selected/gradient_share"] < 0.8 and entry["selected/positive_advantage"] == 0


@pytest.mark.parametrize("scope", ["rollout", "step", "micro"])
def test_where_there_is_no_gradient_nothing_is_selected(train, scope):
    def level(completions, **_):
        return [1.0] * len(completions)

    for entry in history(train(**PENALTY, reward=level, max_steps=2, entropy_control_scope=scope)):
        assert entry["selected/count"] == 0 and entry["selected/pool"] > 0
        assert entry["selected/gradient_share"] is None and entry["loss"] == 0


@pytest.mark.parametrize("method", [PENALTY | {"entropy_control_tokens": "steer"}, DROP | CLIP_COV], ids=["kl", "clip"])
@pytest.mark.parametrize("scope", ["rollout", "step"])
def test_same_training_however_the_batch_is_split(train, method, scope):
    run = method | GRADIENT | {"entropy_control_scope": scope}
    whole, split = (split_run(train, accumulation, **run) for accumulation in (1, 4))
    for expected, found in zip(history(whole), history(split), strict=True):
        assert expected["selected/count"] > 2
        for name, value in expected.items():
            if name in ("loss", "grad_norm") or name.split("/")[0] in ("selected", "covariance", "penalty"):
                assert found[name] == pytest.approx(value, rel=2e-4, abs=2e-6, nan_ok=True), name
    for name, value in parameters(whole).items():
        torch.testing.assert_close(parameters(split)[name], value, rtol=1e-3, atol=1e-5)


# What the forward pass has to give


def test_the_forward_pass_is_the_same_to_the_bit(make):
    plain, ours = make(), make(**DROP)
    tokens = torch.randint(3, 12, (4, 10), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(tokens)
    forward = GRPOTrainer._get_per_token_logps_and_entropies
    log_probs, entropies, _ = forward(plain, plain.model, tokens, mask, 6, compute_entropy=True)
    found, stacked, _ = forward(ours, ours.model, tokens, mask, 6, compute_entropy=True)
    moments = take_moments(stacked)
    assert torch.equal(found, log_probs) and torch.equal(moments.entropies, entropies)
    assert moments.entropies.requires_grad
    distributions = torch.softmax(plain.model(tokens).logits[:, -7:-1], -1)
    torch.testing.assert_close(moments.log_sum_sq_probs, distributions.square().sum(-1).log())
    # As TRL asks for it, by the trainer's own method.
    asked, given, _ = ours._get_per_token_logps_and_entropies(ours.model, tokens, mask, 6, compute_entropy=True)
    assert torch.equal(asked, log_probs) and torch.equal(given, entropies)
    assert ours._get_per_token_logps_and_entropies(ours.model, tokens, mask, 6)[1] is None


def test_a_copy_of_the_policy_computes_with_its_own_weights(make):
    trainer = make(**DROP)
    tokens = torch.arange(3, 11).view(1, 8)
    before = trainer._with_moments(trainer.model, tokens, torch.ones_like(tokens), 4, compute_entropy=True)[0]
    other = copy.deepcopy(trainer.model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    moved = trainer._with_moments(other, tokens, torch.ones_like(tokens), 4, compute_entropy=True)[0]
    again = trainer._with_moments(trainer.model, tokens, torch.ones_like(tokens), 4, compute_entropy=True)[0]
    assert torch.equal(before[0], again[0]) and not torch.equal(before[0], moved[0])


class Bucketed(FixedRollouts, CovGRPOTrainer, BucketedForward):
    pass


@pytest.mark.parametrize("scope", ["rollout", "step"])
def test_buckets_of_length_change_nothing(train, monkeypatch, scope):
    settings = PENALTY | {"entropy_control_tokens": "steer", "entropy_control_scope": scope, "max_steps": 2}
    expected = history(train(**settings))
    monkeypatch.setattr(buckets, "SHORT", 4)
    monkeypatch.setattr(buckets, "WIDTH", 3)
    for entry, reference in zip(history(train(Bucketed, **settings)), expected, strict=True):
        for name in ("loss", "entropy/token_mean", "selected/count", "selected/gradient_share", "selected/covariance"):
            assert entry[name] == pytest.approx(reference[name], rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize(
    "more",
    [
        {"peft_config": LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"), "beta": 0.01},
        {"advantage_estimator": "prime", "prime_learning_rate": 1e-3},
        {"filter_groups": True, "use_adaptive_entropy": True, "entropy_target": 2.0},
        {"gradient_checkpointing": True, "gradient_accumulation_steps": 2, "entropy_control_scope": "step"},
    ],
    ids=["adapters and a reference", "prime", "filtered groups and an entropy bonus", "checkpointing"],
)
def test_goes_with(train, more):
    logs = history(train(CovGRPOTrainer if "filter_groups" in more else Bucketed, **PENALTY, **more, max_steps=3))
    for entry in logs:
        assert entry["selected/count"] > 0 and 0 < entry["selected/gradient_share"] < 0.5
    assert all(entry["loss"] == entry["loss"] for entry in logs)
