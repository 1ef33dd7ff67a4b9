"""The two losses: the recorded cases of verl's, hand-made tables, and what must hold of gradients."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from repro import ops
from repro.losses import clip_cov_loss, kl_cov_loss, kl_cov_penalty, policy_gradient_terms

GOLDEN = Path(__file__).parent / "golden"
CASES = json.loads((GOLDEN / "cases.json").read_text())


def golden(name: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / name) as arrays:
        return {key: torch.from_numpy(np.asarray(value)) for key, value in arrays.items()}


def batch(rows: int = 6, columns: int = 40) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    log_probs = -(torch.rand(rows, columns, generator=generator) ** 3) * 6
    old = log_probs + 0.4 * torch.randn(rows, columns, generator=generator)
    advantages = torch.randn(rows, 1, generator=generator).expand(rows, columns)
    return log_probs, old, advantages, torch.rand(rows, columns, generator=generator) < 0.8


def gradient(loss: Tensor, log_probs: Tensor) -> Tensor:
    return torch.autograd.grad(loss, log_probs)[0]


# The recorded cases


@pytest.mark.parametrize("name", CASES)
def test_kl_cov_is_the_recorded_one(name: str) -> None:
    case, data = CASES[name], golden(name)
    log_probs = data["log_prob"].requires_grad_()
    loss, metrics = kl_cov_loss(
        log_probs,
        data["old_log_prob"],
        data["advantages"],
        data["mask"],
        fraction=case["kl_cov_fraction"],
        coef=case["kl_coef"],
    )
    assert torch.allclose(loss, data["kl_cov_loss"], rtol=1e-6, atol=1e-7)
    assert torch.allclose(gradient(loss, log_probs), data["kl_cov_grad"], rtol=1e-5, atol=1e-8)
    assert int(metrics["selected/count"]) == int(data["kl_cov_count"])
    # The penalty shows in the recorded gradient: there it differs from -A r / N.
    plain = -data["advantages"] * torch.exp(log_probs.detach() - data["old_log_prob"]) * data["mask"] / case["tokens"]
    recorded = (data["kl_cov_grad"] - plain).abs() > 1e-6 * plain.abs().max()
    selected = ops.select_top(data["cov"], data["mask"], case["kl_cov_fraction"])
    assert torch.equal(selected, recorded)


@pytest.mark.parametrize("name", CASES)
def test_clip_cov_is_the_recorded_one(name: str) -> None:
    case, data = CASES[name], golden(name)
    keep = data["mask"] != 0
    log_probs = data["log_prob"].requires_grad_()
    settings = {
        "fraction": case["clip_cov_fraction"],
        "low": case["cov_low"],
        "high": case["cov_high"],
        "epsilon_low": case["clip_eps_low"],
        "epsilon_high": case["clip_eps_high"],
    }
    inputs = data["old_log_prob"], data["advantages"], data["mask"]
    _, clipped = policy_gradient_terms(
        log_probs.detach(),
        *inputs[:2],
        epsilon_low=case["clip_eps_low"],
        epsilon_high=case["clip_eps_high"],
    )
    recorded = keep & ~clipped & (data["clip_cov_grad"] == 0) & (data["advantages"] != 0)
    assert int(recorded.sum()) == int(data["clip_cov_count"])
    loss, metrics = clip_cov_loss(log_probs, *inputs, **settings, selected=recorded)
    assert torch.allclose(loss, data["clip_cov_loss"], rtol=1e-6, atol=1e-7)
    assert torch.allclose(gradient(loss, log_probs), data["clip_cov_grad"], rtol=1e-5, atol=1e-8)
    # Draws of its own: as many, and over all of them each of the recorded candidates and nothing else.
    _, metrics = clip_cov_loss(log_probs, *inputs, **settings)
    assert int(metrics["selected/count"]) == int(data["clip_cov_count"])
    cov = ops.token_covariance(log_probs, data["advantages"], data["mask"])
    assert torch.allclose(cov[keep], data["cov"][keep], rtol=1e-5, atol=1e-6)
    everything = ops.select_band(cov, data["mask"], 1.0, case["cov_low"], case["cov_high"], exclude=clipped)
    assert torch.equal(everything, data["clip_cov_candidates"] != 0)
    _, metrics = clip_cov_loss(log_probs, *inputs, **{**settings, "fraction": 1.0})
    assert int(metrics["selected/count"]) == int(data["clip_cov_candidates"].sum())


# Tables


def test_kl_cov_of_a_table() -> None:
    # Ratios 1, 2, 1/2 of the unmasked tokens, advantages 1, 1, -2; the second is selected: |ln 2| / 2 on top.
    old = torch.tensor([[-1.0, -2.0, -3.0, -1.0]])
    log_probs = (old + torch.tensor([[0.0, math.log(2.0), -math.log(2.0), 9.0]])).requires_grad_()
    advantages = torch.tensor([[1.0, 1.0, -2.0, 100.0]])
    mask, selected = torch.tensor([[1, 1, 1, 0]]), torch.tensor([[0, 1, 0, 1]])
    loss, metrics = kl_cov_loss(log_probs, old, advantages, mask, fraction=0.1, coef=0.5, selected=selected)
    assert loss.item() == pytest.approx((-1 - 2 + 1 + 0.5 * math.log(2.0)) / 3)
    # d/d log pi of -A r is -A r; of the penalty, its sign times the coefficient.
    expected = torch.tensor([[-1.0, -2.0 + 0.5, 1.0, 0.0]]) / 3
    assert torch.allclose(gradient(loss, log_probs), expected, atol=1e-6)
    assert metrics["selected/count"] == 1 and metrics["selected/fraction"].item() == pytest.approx(1 / 3)
    assert metrics["penalty/mean"].item() == pytest.approx(0.5 * math.log(2.0) / 3)
    assert metrics["ratio/mean"].item() == pytest.approx(3.5 / 3)
    # Log-probabilities -1, -2 + ln 2, -3 - ln 2: mean -2. Advantages: mean 0. Covariances 1, ln 2, 2 (1 + ln 2).
    assert metrics["covariance/mean"].item() == pytest.approx((1 + math.log(2) + 2 + 2 * math.log(2)) / 3)
    assert metrics["covariance/selected"].item() == pytest.approx(math.log(2.0))


def test_clip_cov_of_a_table() -> None:
    # Ratios 1, 2, 1/2, 2, clipped to [0.8, 1.2], and advantages 1, 1, -1, -1: terms -1, -1.2 and 0.8 (both clipped), 2.
    old = torch.tensor([[-1.0, -2.0, -3.0, -4.0]])
    log_probs = (old + math.log(2.0) * torch.tensor([[0.0, 1.0, -1.0, 1.0]])).requires_grad_()
    advantages, mask = torch.tensor([[1.0, 1.0, -1.0, -1.0]]), torch.ones(1, 4)
    epsilons = {"epsilon_low": 0.2, "epsilon_high": 0.2}
    nothing = torch.zeros(1, 4)
    loss, metrics = clip_cov_loss(log_probs, old, advantages, mask, fraction=0.1, selected=nothing, **epsilons)
    assert loss.item() == pytest.approx((-1 - 1.2 + 0.8 + 2) / 4)
    assert metrics["clipped/fraction"] == 0.5
    assert torch.allclose(gradient(loss, log_probs), torch.tensor([[-1.0, 0.0, 0.0, 2.0]]) / 4)
    # The last taken out still counts in the mean.
    last = torch.tensor([[0, 0, 0, 1]])
    loss, metrics = clip_cov_loss(log_probs, old, advantages, mask, fraction=0.1, selected=last, **epsilons)
    assert loss.item() == pytest.approx((-1 - 1.2 + 0.8) / 4)
    assert torch.allclose(gradient(loss, log_probs), torch.tensor([[-1.0, 0.0, 0.0, 0.0]]) / 4)
    assert metrics["selected/count"] == 1
    # A clipped token is never drawn, although its covariance is in the band.
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        _, metrics = clip_cov_loss(
            log_probs, old, advantages, mask, fraction=1.0, low=-9.0, high=9.0, generator=generator, **epsilons
        )
        assert metrics["selected/count"] == 2


def test_the_terms_of_each_kind_of_clip() -> None:
    ratio = torch.tensor([[0.5, 1.0, 2.0]])
    for advantage in (1.0, -1.0):
        table = {
            (None, None): ([0.5, 1.0, 2.0], [0, 0, 0]),
            (0.2, 0.2): ([0.5, 1.0, 1.2], [0, 0, 1]) if advantage > 0 else ([0.8, 1.0, 2.0], [1, 0, 0]),
            (None, 0.2): ([0.5, 1.0, 1.2], [0, 0, 1]) if advantage > 0 else ([0.5, 1.0, 2.0], [0, 0, 0]),
            (0.2, None): ([0.5, 1.0, 2.0], [0, 0, 0]) if advantage > 0 else ([0.8, 1.0, 2.0], [1, 0, 0]),
            (1.0, 1.0): ([0.5, 1.0, 2.0], [0, 0, 0]),
        }
        for (low, high), (effective, clipped) in table.items():
            terms, where = policy_gradient_terms(
                ratio.log(), torch.zeros(1, 3), torch.tensor([advantage]), epsilon_low=low, epsilon_high=high
            )
            assert torch.allclose(terms, -advantage * torch.tensor([effective])), (advantage, low, high)
            assert where.tolist() == [[bool(c) for c in clipped]]


# What must hold


def test_on_policy_the_penalty_has_no_gradient() -> None:
    log_probs, _, advantages, mask = batch()
    log_probs.requires_grad_()
    penalised, _ = kl_cov_loss(log_probs, log_probs.detach(), advantages, mask, fraction=0.5, coef=10.0)
    plain, _ = kl_cov_loss(log_probs, log_probs.detach(), advantages, mask, fraction=0.0, minimum=0)
    assert torch.equal(penalised, plain)
    assert torch.equal(gradient(penalised, log_probs), gradient(plain, log_probs))


def test_nothing_selected_is_the_plain_objective() -> None:
    log_probs, old, advantages, mask = batch()
    log_probs.requires_grad_()
    expected = torch.where(mask, -advantages * torch.exp(log_probs - old), 0.0).sum() / mask.sum()
    kl, _ = kl_cov_loss(log_probs, old, advantages, mask, fraction=0.0, minimum=0)
    free = {"epsilon_low": None, "epsilon_high": None}
    clip, metrics = clip_cov_loss(log_probs, old, advantages, mask, fraction=0.0, minimum=0, **free)
    assert torch.equal(kl, expected) and torch.equal(clip, expected)
    assert metrics["clipped/fraction"] == 0 and metrics["covariance/selected"] == 0


def test_selection_is_that_of_the_operators() -> None:
    log_probs, old, advantages, mask = batch()
    cov = ops.token_covariance(log_probs, advantages, mask)
    loss, metrics = kl_cov_loss(log_probs, old, advantages, mask, fraction=0.1)
    selected = ops.select_top(cov, mask, 0.1)
    expected, _ = kl_cov_loss(log_probs, old, advantages, mask, fraction=0.5, selected=selected)
    assert torch.equal(loss, expected)
    assert metrics["covariance/selected"].item() == pytest.approx(cov[selected].mean().item())
    settings = {"low": 0.1, "high": 1.0, "epsilon_low": 0.2, "epsilon_high": 0.3}
    _, clipped = policy_gradient_terms(log_probs, old, advantages, epsilon_low=0.2, epsilon_high=0.3)
    drawn = ops.select_band(cov, mask, 0.05, 0.1, 1.0, exclude=clipped, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    loss, _ = clip_cov_loss(log_probs, old, advantages, mask, fraction=0.05, generator=generator, **settings)
    expected, _ = clip_cov_loss(log_probs, old, advantages, mask, fraction=0.5, selected=drawn, **settings)
    assert torch.equal(loss, expected) and drawn.sum() == mask.sum() // 20


@pytest.mark.parametrize("method", [kl_cov_loss, clip_cov_loss])
@pytest.mark.parametrize("garbage", [float("nan"), -float("inf"), float("inf")])
def test_masked_places_reach_neither_loss_nor_gradient(method, garbage: float) -> None:
    log_probs, old, advantages, mask = batch()
    clean = log_probs.clone().requires_grad_()
    expected, _ = method(clean, old, advantages, mask, fraction=0.1, **seeded(method))
    dirty = torch.where(mask, log_probs, garbage).requires_grad_()
    loss, metrics = method(
        dirty,
        torch.where(mask, old, garbage),
        torch.where(mask, advantages, garbage),
        mask,
        fraction=0.1,
        **seeded(method),
    )
    assert torch.equal(loss, expected)
    assert torch.equal(gradient(loss, dirty), gradient(expected, clean))
    assert not gradient(method(clean, old, advantages, mask, fraction=0.1)[0], clean)[~mask].any()
    assert all(torch.isfinite(metric) and not metric.requires_grad and metric.ndim == 0 for metric in metrics.values())


def seeded(method) -> dict[str, torch.Generator]:
    return {"generator": torch.Generator().manual_seed(0)} if method is clip_cov_loss else {}


@pytest.mark.parametrize("method", [kl_cov_loss, clip_cov_loss])
def test_all_masked_is_zero(method) -> None:
    log_probs, old, advantages, mask = batch()
    log_probs.requires_grad_()
    loss, metrics = method(log_probs, old, advantages, torch.zeros_like(mask), fraction=0.1)
    assert loss == 0 and not gradient(loss, log_probs).any()
    assert metrics["selected/count"] == 0


@pytest.mark.parametrize("method", [kl_cov_loss, clip_cov_loss])
def test_what_is_not_finite_raises(method) -> None:
    log_probs, old, advantages, mask = batch()
    log_probs[mask.nonzero()[0].tolist()[0], mask.nonzero()[0].tolist()[1]] = float("nan")
    with pytest.raises(ValueError, match=f"{int(mask.sum())} unmasked"):
        method(log_probs, old, advantages, mask, fraction=0.1)


@pytest.mark.parametrize("method", [kl_cov_loss, clip_cov_loss])
def test_gradients_in_float64(method) -> None:
    log_probs, old, advantages, mask = (t.double() if t.is_floating_point() else t for t in batch(2, 6))
    selected = torch.tensor([[0, 1, 0, 1, 0, 0], [1, 0, 0, 0, 0, 1]])
    log_probs.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda leaf: method(leaf, old, advantages, mask, fraction=0.1, selected=selected)[0], (log_probs,)
    )


def test_the_penalty_alone() -> None:
    log_probs, old = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-3.0, -1.0]])
    assert kl_cov_penalty(log_probs, old, torch.tensor([[1, 1]]), 0.5).tolist() == [[1.0, 0.5]]
    assert kl_cov_penalty(log_probs, old, torch.tensor([[False, True]])).tolist() == [[0.0, 1.0]]


def test_errors_name_the_shapes() -> None:
    log_probs, old, advantages, mask = batch()
    with pytest.raises(ValueError, match=r"old_log_probs \(6, 39\)"):
        kl_cov_loss(log_probs, old[:, 1:], advantages, mask, fraction=0.1)
    with pytest.raises(ValueError, match=r"selected \(5, 40\)"):
        clip_cov_loss(log_probs, old, advantages, mask, fraction=0.1, selected=mask[1:])
    with pytest.raises(ValueError, match=r"advantages of shape \(6, 39\)"):
        kl_cov_loss(log_probs, old, advantages[:, 1:], mask, fraction=0.1)
