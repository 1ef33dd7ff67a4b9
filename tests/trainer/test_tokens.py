"""KL-Cov on other tokens than the method's: as many, and which."""

import math

import pytest
import torch

from repro.losses import kl_cov_penalty
from repro.ops import token_covariance
from repro.trainer import CovGRPOTrainer
from repro.trainer.methods.pool import SELECTORS
from repro.trainer.moments import Moments

from .conftest import history
from .test_methods import KL_COV, places

# 2 sequences of 5 tokens, the last of the second masked: 9 tokens, A 1 and -1, mean A 1/9.
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])
LOG_PROBS = torch.tensor([[-5.0, -0.1, -4.0, -0.2, -3.0], [-1.0, -6.0, -0.5, -2.0, torch.nan]])
ADVANTAGES = torch.tensor([1.0, -1.0])
THIRD = KL_COV | {"entropy_control_fraction": 1 / 3, "allow_large_fraction": True}
ENTROPIES = torch.tensor([[0.5, 3.0, 0.1, 1.0, 0.2], [2.0, 0.3, 2.5, 0.4, torch.nan]])
# Mean log p is -21.8 / 9 = -2.42. Covariance, by how far log p is above it where A > 0 and below it where A < 0:
# (0, 1) 2.06, (0, 3) 1.97, (0, 4) -0.51, ... and (1, 1) 3.98, (1, 3) -0.47, (1, 0) -1.58, (1, 2) -2.14.
CHOSEN = {
    "covariance": {(1, 1), (0, 1), (0, 3)},
    "positive_advantage": {(0, 1), (0, 3), (0, 4)},
    "negative_advantage": {(1, 1), (1, 3), (1, 0)},
    "rare_failing": {(1, 1), (1, 3), (1, 0)},
    "high_entropy": {(0, 1), (1, 2), (1, 0)},
    # |(1 - p)(log p + H)|, |A| and the ratio being 1: (0, 0) .9933 x 4.5 = 4.5, (0, 1) .10 x 2.9 = .28,
    # (0, 2) .98 x 3.9 = 3.8, (0, 4) .95 x 2.8 = 2.7, (1, 1) .9975 x 5.7 = 5.7, (1, 3) .86 x 1.6 = 1.4.
    "steer": {(1, 1), (0, 0), (0, 2)},
}


def select(trainer, log_probs=LOG_PROBS, advantages=ADVANTAGES, mask=MASK):
    # Where a distribution is not asked for, its sum of squares counts for nothing.
    moments = Moments(ENTROPIES, 2 * log_probs) if trainer.args.needs_moments else None
    return trainer._select(log_probs, log_probs, advantages, mask, mask.sum(), moments)


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


def test_random_positive_tokens_are_uniform_among_those(make):
    trainer = make(**THIRD, entropy_control_tokens="random_positive")
    draws = torch.stack([select(trainer).selected for _ in range(600)])
    assert (draws.sum((1, 2)) == 3).all() and not draws[:, 1].any()
    # 3 of 5, 600 times: 360 of each, with a standard deviation of 12.
    times = draws.sum(0)[0]
    assert times.min() > 310 and times.max() < 410


@pytest.mark.parametrize("tokens", [*CHOSEN, "random"])
def test_clip_cov_drops_other_tokens_but_those_that_ppo_clips(make, tokens):
    """A ratio of 3 is out of [0, 2]: with A > 0 that token has no gradient, with A < 0 it has."""
    trainer = make(
        entropy_control="clip_cov",
        entropy_control_tokens=tokens,
        entropy_control_fraction=1 / 3,
        allow_large_fraction=True,
    )
    old = LOG_PROBS.clone()
    old[0, 1] -= math.log(3.0)
    old[1, 1] -= math.log(3.0)
    moments = Moments(ENTROPIES, 2 * LOG_PROBS) if trainer.args.needs_moments else None
    chosen = [places(trainer._select(LOG_PROBS, old, ADVANTAGES, MASK, MASK.sum(), moments).selected) for _ in "12345"]
    assert not any((0, 1) in selected for selected in chosen)
    if tokens == "random":
        assert all(len(selected) == 3 for selected in chosen) and len(set(map(frozenset, chosen))) > 1
    else:
        # The next in each order takes the place of the one that is left out.
        following = {"covariance": (1, 3), "positive_advantage": (0, 2), "high_entropy": (0, 3)}
        expected = CHOSEN[tokens] - {(0, 1)} | ({following[tokens]} if (0, 1) in CHOSEN[tokens] else set())
        assert all(selected == expected for selected in chosen)


def test_steer_counts_the_ratio(make):
    """|A r (1 - p)(log p + H)|: at a third of the ratio (0, 0) falls from 4.5 to 1.5, under (0, 4)'s 2.7."""
    trainer = make(**THIRD, entropy_control_tokens="steer")
    old = LOG_PROBS.clone()
    old[0, 0] += math.log(3.0)
    chosen = trainer._select(LOG_PROBS, old, ADVANTAGES, MASK, MASK.sum(), Moments(ENTROPIES, 2 * LOG_PROBS))
    assert places(chosen.selected) == {(1, 1), (0, 2), (0, 4)}


def test_random_tokens_come_from_the_trainers_generator(make):
    first, again = (make(**THIRD, entropy_control_tokens="random", seed=3) for _ in range(2))
    other = make(**THIRD, entropy_control_tokens="random", seed=4)
    drawn = [[places(select(trainer).selected) for _ in range(5)] for trainer in (first, again, other)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({frozenset(chosen) for chosen in drawn[0]}) > 1


@pytest.mark.parametrize("tokens", [name for name in SELECTORS if name != "covariance"])
@pytest.mark.parametrize("scope", ["rollout", "step", "micro"])
def test_training_selects_as_many_and_penalises_them(train, tokens, scope):
    run = KL_COV | {"entropy_control_scope": scope, "gradient_accumulation_steps": 2}
    expected, found = history(train(**run)), history(train(**run, entropy_control_tokens=tokens))
    # Of the same policy: the first rollout, of two steps, or else the first step.
    same = slice(2 if scope == "rollout" else 1)
    count, reference = (sum(entry["selected/count"] for entry in logs[same]) for logs in (found, expected))
    assert count == reference > 1
    sign = {"random_positive": 1, "positive_advantage": 1, "negative_advantage": 0, "rare_failing": 0}
    if tokens in sign:
        assert found[0]["selected/positive_advantage"] == sign[tokens]
    total, largest = (
        sum((entry["selected/covariance"] or 0) * entry["selected/count"] for entry in logs[same])
        for logs in (found, expected)
    )
    # In a step this small the tokens of largest covariance can all be of failing responses.
    assert total <= largest if tokens in ("negative_advantage", "rare_failing", "steer") else total < largest
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


def test_the_methods_own_tokens_are_the_largest_covariance(train):
    assert history(train(**KL_COV)) == history(train(**KL_COV, entropy_control_tokens="covariance"))
    assert isinstance(train(CovGRPOTrainer, **KL_COV).control.coef, float)
