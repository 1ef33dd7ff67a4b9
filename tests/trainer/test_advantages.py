"""Advantage estimators against tables worked by hand, loops, and TRL's own where it has them."""

import math

import pytest
import torch
from trl import RLOOConfig

from repro.trainer.advantages import prime, reinforce_plus_plus, rloo, whiten

from .conftest import FixedRLOOTrainer, history
from .test_methods import CLIP_COV, KL_COV

NAN = math.nan


def test_rloo_by_hand():
    """Group 1, 0, 0, 1: others' means 1/3, 2/3, 2/3, 1/3. Group 1, 1, 1, 1: all 0."""
    found = rloo(torch.tensor([1.0, 0, 0, 1, 1, 1, 1, 1]), 4)
    assert found.tolist() == pytest.approx([2 / 3, -2 / 3, -2 / 3, 2 / 3, 0, 0, 0, 0])


def test_rloo_leaves_out_what_is_unscored():
    """1, -, 0: each has one other; alone: nothing to compare with."""
    assert rloo(torch.tensor([1.0, NAN, 0.0, NAN, 1.0, NAN]), 3).tolist() == pytest.approx([1, 0, -1, 0, 0, 0])


def test_whiten_by_hand():
    """Values 1, 3 with weights 3, 1: mean 1.5, variance (3 * 0.25 + 2.25) / 3 = 1."""
    found = whiten(torch.tensor([1.0, 3.0, NAN]), torch.tensor([3.0, 1.0, 0.0]))
    assert found.tolist() == pytest.approx([-0.5, 1.5, 0.0])


def test_reinforce_plus_plus_is_whitening_over_tokens():
    """As verl: the reward at every token of its sequence, minus the mean over tokens, by the unbiased deviation."""
    rewards, lengths = torch.tensor([1.0, 0.0, 0.0, 1.0]), torch.tensor([2, 5, 3, 1])
    tokens = torch.repeat_interleave(rewards, lengths)
    expected = (rewards - tokens.mean()) / tokens.std()
    assert reinforce_plus_plus(rewards, lengths).tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_reinforce_plus_plus_without_spread_or_score():
    assert reinforce_plus_plus(torch.ones(3), torch.tensor([2, 5, 3])).tolist() == [0, 0, 0]
    found = reinforce_plus_plus(torch.tensor([1.0, NAN, 0.0]), torch.tensor([2, 50, 2]))
    assert found[1] == 0 and found[0] == -found[2] > 0


def prime_by_loops(process, outcome, mask, n):
    """Eq. 5 of arXiv:2502.01456 token by token, then whitening."""
    rows, length = process.shape
    values = {}
    for i in range(rows):
        others = [j for j in range(i - i % n, i - i % n + n) if j != i]
        means = [sum(process[j, s] for s in range(length) if mask[j, s]) / sum(mask[j]) for j in others]
        r_base = sum(means) / len(others)
        o_base = sum(outcome[j] for j in others) / len(others)
        for t in range(length):
            if mask[i, t]:
                to_go = sum(process[i, s] - r_base for s in range(t, length) if mask[i, s])
                values[i, t] = float(to_go + outcome[i] - o_base)
    tokens = torch.tensor(list(values.values()), dtype=torch.float64)
    result = torch.zeros(rows, length, dtype=torch.float64)
    for (i, t), value in values.items():
        result[i, t] = (value - tokens.mean()) / tokens.std()
    return result


def test_prime_is_its_equation():
    draw = torch.Generator().manual_seed(0)
    process = torch.randn(8, 6, generator=draw, dtype=torch.float64)
    outcome = torch.randint(0, 2, (8,), generator=draw).double()
    mask = torch.arange(6) < torch.randint(1, 7, (8, 1), generator=draw)
    poisoned = torch.where(mask, process, NAN)
    found = prime(poisoned, outcome, mask, 4)
    torch.testing.assert_close(found, prime_by_loops(process, outcome, mask, 4), atol=1e-6, rtol=1e-6)
    assert (found[~mask] == 0).all()


def test_prime_without_process_rewards_is_whitened_rloo():
    outcome, mask = torch.tensor([1.0, 0, 0, 0]), torch.tensor([[1, 1], [1, 0], [1, 1], [1, 1]])
    found = prime(torch.zeros(4, 2), outcome, mask, 4)
    expected = whiten(rloo(outcome, 4).unsqueeze(1).expand(4, 2), mask.float())
    torch.testing.assert_close(found, expected)


def test_prime_leaves_out_what_is_unscored():
    process = torch.tensor([[1.0], [5.0], [2.0], [7.0]])
    found = prime(process, torch.tensor([1.0, NAN, 0.0, NAN]), torch.ones(4, 1), 4)
    # Two scored: process 1 - 2 and 2 - 1, outcomes 1 and -1: both 0 after centring.
    assert found.flatten().tolist() == pytest.approx([0, 0, 0, 0], abs=1e-6)
    found = prime(process, torch.tensor([0.0, NAN, 1.0, NAN]), torch.ones(4, 1), 4)
    # -1 - 1 and 1 + 1: whitened by the unbiased deviation of -2 and 2.
    assert found.flatten().tolist() == pytest.approx([-math.sqrt(0.5), 0, math.sqrt(0.5), 0], rel=1e-5)


@pytest.mark.parametrize("estimator", ["rloo", "reinforce++", "prime"])
def test_estimators_in_the_trainer(batch, estimator):
    """The rollout's advantages are the function of its rewards; PRIME starts without process rewards."""
    trainer, rollout = batch(advantage_estimator=estimator)
    rewards = trainer._rewards_per_func[:, 0]
    assert 0 < rewards.mean() < 1
    mask = rollout["completion_mask"]
    expected = {
        "rloo": lambda: rloo(rewards, 4),
        "reinforce++": lambda: reinforce_plus_plus(rewards, mask.sum(1)),
        "prime": lambda: prime(torch.zeros(mask.shape), rewards, mask, 4),
    }[estimator]()
    torch.testing.assert_close(rollout["advantages"], expected)
    logged = torch.tensor(list(trainer._logs["advantages"]))
    torch.testing.assert_close(logged, expected if expected.ndim == 1 else expected.mean(1))


def test_rloo_is_trls(train):
    """TRL's own RLOO trainer has the same advantages of the same rewards."""
    theirs = train(FixedRLOOTrainer, RLOOConfig, beta=0.0, normalize_advantages=False, max_steps=1)
    ours = train(advantage_estimator="rloo", max_steps=1)
    assert list(theirs._logs["advantages"]) == pytest.approx(list(ours._logs["advantages"]), abs=1e-6)


@pytest.mark.parametrize("estimator", ["rloo", "reinforce++", "prime"])
@pytest.mark.parametrize("control", ["none", "clip_cov", "kl_cov"])
def test_every_estimator_trains_with_every_method(train, estimator, control):
    overrides = {"none": {}, "kl_cov": KL_COV, "clip_cov": CLIP_COV}[control]
    if estimator == "prime":
        overrides = overrides | {"prime_learning_rate": 1e-3}
    logs = history(train(advantage_estimator=estimator, max_steps=8, **overrides))
    assert len(logs) == 8 and all(math.isfinite(entry["loss"]) and entry["grad_norm"] > 0 for entry in logs[:4])
    if control != "none":
        assert logs[0]["selected/count"] > 0
