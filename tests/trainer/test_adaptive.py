"""The controller of KL-Cov's weight: where it moves, how far, and that it is not there when it is off."""

import math
from itertools import pairwise

import pytest
import torch

from .conftest import history, parameters
from .test_methods import KL_COV, split_run

ADAPTIVE = KL_COV | {"kl_cov_adaptive": True}


def step(trainer, entropy: float) -> None:
    trainer.control.after_step({"entropy/token_mean": torch.tensor(entropy)})


def test_rises_under_the_target_and_falls_above_it_by_hand(make):
    """Gain 0.1, target 0.5, H 0.25: exp(0.1 x 0.25 / 0.5) = exp(0.05); H 1: exp(0.1 x -1)."""
    trainer = make(**ADAPTIVE, kl_cov_gain=0.1, entropy_target=0.5, kl_cov_coef=2.0)
    step(trainer, 0.25)
    assert trainer.control.coef.item() == pytest.approx(2 * math.exp(0.05))
    step(trainer, 0.5)
    assert trainer.control.coef.item() == pytest.approx(2 * math.exp(0.05))
    step(trainer, 1.0)
    assert trainer.control.coef.item() == pytest.approx(2 * math.exp(0.05 - 0.1))


def test_stays_between_its_bounds(make):
    trainer = make(**ADAPTIVE, kl_cov_gain=1.0, entropy_target=0.5, kl_cov_coef_min=0.25, kl_cov_coef_max=4.0)
    for entropy, expected in ((0.0, math.e), (0.0, 4.0), (0.0, 4.0), (50.0, 0.25), (50.0, 0.25), (0.0, 0.25 * math.e)):
        step(trainer, entropy)
        assert trainer.control.coef.item() == pytest.approx(expected)


@pytest.mark.parametrize(("target", "direction"), [(8.0, 1), (0.5, -1)])
def test_training_moves_it_by_the_entropy_of_each_step(train, target, direction):
    gain = 0.2
    logs = history(train(**ADAPTIVE, entropy_target=target, kl_cov_gain=gain, kl_cov_coef_min=0.01))
    assert logs[0]["kl_cov/coefficient"] == 1.0
    for before, after in pairwise(logs):
        factor = math.exp(gain * (target - before["entropy/token_mean"]) / target)
        assert (factor - 1) * direction > 0
        expected = max(0.01, before["kl_cov/coefficient"] * factor)
        assert after["kl_cov/coefficient"] == pytest.approx(expected, rel=1e-4)


def test_penalty_has_the_moved_weight(batch):
    """The weight is a tensor that the graph of the step keeps: moving it leaves that step's gradient as it was."""
    trainer, rollout = batch(**ADAPTIVE, kl_cov_coef=2.0, entropy_target=1.0, kl_cov_gain=0.1)
    loss = trainer._compute_loss(trainer.model, rollout)
    moved = trainer.control.coef.item()
    assert moved < 2.0
    loss.backward()
    again = trainer._compute_loss(trainer.model, rollout)
    first, second = trainer.monitor.collect()
    assert first["kl_cov/coefficient"] == 2.0 and second["kl_cov/coefficient"] == moved
    assert second["penalty/mean"] == pytest.approx(first["penalty/mean"] * moved / 2.0, rel=1e-5)
    assert (loss - again).item() == pytest.approx(first["penalty/mean"] - second["penalty/mean"], rel=1e-3)


@pytest.mark.parametrize("scope", ["rollout", "step"])
def test_same_control_however_the_batch_is_split(train, scope):
    settings = ADAPTIVE | {"entropy_control_scope": scope, "entropy_target": 4.0, "kl_cov_gain": 0.5}
    whole, split = (history(split_run(train, accumulation, **settings)) for accumulation in (1, 4))
    for expected, found in zip(whole, split, strict=True):
        assert found["kl_cov/coefficient"] == pytest.approx(expected["kl_cov/coefficient"], rel=1e-4)
    assert whole[-1]["kl_cov/coefficient"] != pytest.approx(1.0, rel=0.01)


def test_weight_held_at_its_start_is_plain_kl_cov_bit_for_bit(train):
    plain = train(**KL_COV, kl_cov_coef=0.7)
    held = train(**ADAPTIVE, kl_cov_coef=0.7, kl_cov_coef_min=0.7, kl_cov_coef_max=0.7)
    expected, found = history(plain), history(held)
    assert [entry.pop("kl_cov/coefficient") for entry in found] == pytest.approx([0.7] * 4)
    assert found == expected
    for name, value in parameters(plain).items():
        assert torch.equal(parameters(held)[name], value), name


def test_off_logs_no_weight(train):
    assert not [name for name in history(train(**KL_COV))[0] if name.startswith("kl_cov/")]
