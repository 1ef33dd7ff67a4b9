"""KL-Cov on other tokens than the method's: as many, and which."""

import pytest
import torch

from repro.losses import kl_cov_penalty
from repro.ops import token_covariance
from repro.trainer import CovGRPOTrainer

from .conftest import history
from .test_methods import KL_COV, places

# 2 sequences of 5 tokens, the last of the second masked: 9 tokens, A 1 and -1, mean A 1/9.
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])
LOG_PROBS = torch.tensor([[-5.0, -0.1, -4.0, -0.2, -3.0], [-1.0, -6.0, -0.5, -2.0, torch.nan]])
ADVANTAGES = torch.tensor([1.0, -1.0])
THIRD = KL_COV | {"entropy_control_fraction": 1 / 3, "allow_large_fraction": True}
# Mean log p is -21.8 / 9 = -2.42. Covariance, by how far log p is above it where A > 0 and below it where A < 0:
# (0, 1) 2.06, (0, 3) 1.97, (0, 4) -0.51, ... and (1, 1) 3.98, (1, 3) -0.47, (1, 0) -1.58, (1, 2) -2.14.
CHOSEN = {
    "covariance": {(1, 1), (0, 1), (0, 3)},
    "positive_advantage": {(0, 1), (0, 3), (0, 4)},
    "negative_advantage": {(1, 1), (1, 3), (1, 0)},
    "rare_failing": {(1, 1), (1, 3), (1, 0)},
}


def select(trainer, log_probs=LOG_PROBS, advantages=ADVANTAGES, mask=MASK):
    return trainer._select(log_probs, log_probs, advantages, mask, mask.sum())


@pytest.mark.parametrize("tokens", CHOSEN)
@pytest.mark.parametrize("scope", ["rollout", "micro"])
def test_which_tokens_by_hand(make, tokens, scope):
    """A third of 9 tokens is 3, also of the 5 (4) of them that are candidates."""
    trainer = make(**THIRD, entropy_control_tokens=tokens, entropy_control_scope=scope)
    selection = select(trainer)
    assert places(selection.selected) == CHOSEN[tokens]
    torch.testing.assert_close(selection.covariance, token_covariance(LOG_PROBS, ADVANTAGES, MASK))


def test_rare_failing_is_not_the_largest_covariance(make):
    """Advantages per token: of two failing tokens the rarer one counts, not the one of the larger |A|."""
    advantages = torch.tensor([[1.0, 1.0, -0.1, 1.0, -3.0], [1.0, 1.0, 1.0, 1.0, 0.0]])
    one = KL_COV | {"entropy_control_fraction": 1e-9}
    for tokens, expected in {"rare_failing": (0, 2), "negative_advantage": (0, 4)}.items():
        assert places(select(make(**one, entropy_control_tokens=tokens), advantages=advantages).selected) == {expected}


@pytest.mark.parametrize("tokens", ["positive_advantage", "negative_advantage", "rare_failing"])
@pytest.mark.parametrize("device_branch", [False, True])
def test_too_few_candidates_are_all_taken(make, monkeypatch, tokens, device_branch):
    from repro.ops import torch_ops

    if device_branch:
        monkeypatch.setattr(torch_ops, "may_read_values", lambda *tensors: False)
    sign = 1.0 if tokens == "positive_advantage" else -1.0
    trainer = make(**THIRD, entropy_control_tokens=tokens)
    advantages = torch.zeros(2, 5)
    assert not select(trainer, advantages=advantages).selected.any()
    advantages[0, 0] = advantages[0, 3] = advantages[1, 4] = sign  # the last is masked
    assert places(select(trainer, advantages=advantages).selected) == {(0, 0), (0, 3)}


def test_random_tokens_are_uniform(make):
    """Of 9 tokens 3, each in a third of 900 draws: 300 times, with a standard deviation of 14."""
    trainer = make(**THIRD, entropy_control_tokens="random")
    draws = torch.stack([select(trainer).selected for _ in range(900)])
    assert (draws.sum((1, 2)) == 3).all()
    times = draws.sum(0)
    assert times[1, 4] == 0
    assert times[MASK != 0].min() > 240
    assert times.max() < 360


def test_random_tokens_come_from_the_trainers_generator(make):
    first, again = (make(**THIRD, entropy_control_tokens="random", seed=3) for _ in range(2))
    other = make(**THIRD, entropy_control_tokens="random", seed=4)
    drawn = [[places(select(trainer).selected) for _ in range(5)] for trainer in (first, again, other)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({frozenset(chosen) for chosen in drawn[0]}) > 1


@pytest.mark.parametrize("tokens", ["random", "positive_advantage", "negative_advantage", "rare_failing"])
@pytest.mark.parametrize("scope", ["rollout", "step", "micro"])
def test_training_selects_as_many_and_penalises_them(train, tokens, scope):
    run = KL_COV | {"entropy_control_scope": scope, "gradient_accumulation_steps": 2}
    expected, found = history(train(**run)), history(train(**run, entropy_control_tokens=tokens))
    # Of the same policy: the first rollout, of two steps, or else the first step.
    same = slice(2 if scope == "rollout" else 1)
    count, reference = (sum(entry["selected/count"] for entry in logs[same]) for logs in (found, expected))
    assert count == reference > 1
    if tokens != "random":
        assert found[0]["selected/positive_advantage"] == (tokens == "positive_advantage")
    total, largest = (
        sum(entry["selected/covariance"] * entry["selected/count"] for entry in logs[same])
        for logs in (found, expected)
    )
    # In a step this small the tokens of largest covariance can all be of failing responses.
    assert total < largest if tokens == "random" else total <= largest
    assert max(entry["penalty/mean"] for entry in found) > 0


def test_penalty_is_on_the_chosen_tokens(batch):
    trainer, rollout = batch(**KL_COV, entropy_control_tokens="rare_failing")
    mask, old = rollout["completion_mask"], rollout["old_per_token_logps"]
    failing = {place: old[place].item() for place in places(mask) if rollout["advantages"][place[0]] < 0}
    quota = int(0.04 * mask.sum())
    assert places(rollout["cov_selected"]) == set(sorted(failing, key=failing.get)[:quota])
    trainer._compute_loss(trainer.model, rollout)
    log_probs = trainer._completion_log_probs(trainer.model, rollout)
    penalty = kl_cov_penalty(log_probs, old, rollout["cov_selected"]).sum() / mask.sum()
    assert trainer.monitor.collect()[0]["penalty/mean"] == pytest.approx(penalty.item(), rel=1e-4)


def test_method_is_named_covariance(train):
    assert history(train(**KL_COV)) == history(train(**KL_COV, entropy_control_tokens="covariance"))
    assert isinstance(train(CovGRPOTrainer, **KL_COV).control.coef, float)
