"""A token's gradient norm and the selection by a share of it: autograd, hand-made tables, every way to compute."""

import math
from collections.abc import Iterator
from fractions import Fraction

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from repro import ops
from repro.losses import policy_gradient_coefficients, policy_gradient_terms
from repro.ops.common import share_of

from .test_tokens import WAYS, batches, one_rank, places, way

__all__ = ["one_rank"]


@pytest.fixture(params=WAYS)
def kwargs(request: pytest.FixtureRequest, one_rank: dist.ProcessGroup) -> Iterator[dict]:
    with way(request.param) as chosen:
        yield chosen


# The norm


def moments(logits: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
    log_probs = torch.log_softmax(logits, -1)
    return log_probs.gather(-1, token_ids.unsqueeze(-1)).squeeze(-1), torch.logsumexp(2 * log_probs, -1)


def test_norm_of_a_table() -> None:
    # pi = (1/2, 1/4, 1/4), y the first: onehot - pi = (1/2, -1/4, -1/4), norm sqrt(3/8). Coefficients -2, 0.
    log_probs, log_sum_sq = torch.tensor([0.5, 0.5]).log(), torch.tensor([3 / 8, 3 / 8]).log()
    norm = ops.token_gradient_norm(log_probs, log_sum_sq, torch.tensor([-2.0, 0.0]))
    torch.testing.assert_close(norm, torch.tensor([2 * math.sqrt(3 / 8), 0.0]))


@pytest.mark.parametrize("epsilons", [(math.inf, math.inf, None), (0.2, 0.28, None), (0.2, 0.2, 1.5), (1.0, 1.0, None)])
@pytest.mark.parametrize("spread", [0.1, 2.0, 8.0])
def test_norm_is_that_of_autograd(epsilons: tuple, spread: float) -> None:
    low, high, delta = epsilons
    draw = torch.Generator().manual_seed(0)
    logits = (spread * torch.randn(20, 30, 17, generator=draw)).double().requires_grad_()
    token_ids = torch.randint(17, (20, 30), generator=draw)
    advantages = torch.randn(20, 1, generator=draw).double()
    log_probs, log_sum_sq = moments(logits, token_ids)
    old = log_probs.detach() + 0.5 * torch.randn(20, 30, generator=draw)
    ratio = (log_probs - old).exp()
    # TRL's loss: the ratio is bounded by delta before the minimum is taken.
    bounded = ratio if delta is None else ratio.clamp(max=delta)
    objective = torch.minimum(bounded * advantages, ratio.clamp(1 - low, 1 + high) * advantages)
    objective.sum().backward()
    expected = logits.grad.norm(dim=-1)
    coefficients = policy_gradient_coefficients(
        log_probs.detach(), old, advantages, epsilon_low=low, epsilon_high=high, delta=delta
    )
    found = ops.token_gradient_norm(log_probs.detach(), log_sum_sq.detach(), coefficients)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    assert (expected == 0).any() == (low < math.inf)
    in_float32 = ops.token_gradient_norm(*(t.detach().float() for t in (log_probs, log_sum_sq, coefficients)))
    torch.testing.assert_close(in_float32.double(), expected, rtol=1e-3, atol=1e-4)


def test_norm_of_sure_tokens_keeps_its_digits() -> None:
    """1 - pi(y) from 1e-1 to 1e-6, the rest on one token or many: within sqrt(2), and 1e-3 while there are digits.

    A logarithm of a sum over a vocabulary has an error of some 1e-6 in float32, far above what the sum is of then.
    """
    for others in (1, 1000):
        for missing in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
            rest = torch.full((others,), missing / others, dtype=torch.float64)
            probs = torch.cat([torch.tensor([1 - missing], dtype=torch.float64), rest])
            exact = math.sqrt(missing**2 + (rest**2).sum())
            log_prob, log_sum_sq = probs[0].log().float(), probs.square().sum().log().float()
            for error in (-2e-6, 0.0, 2e-6):
                norm = ops.token_gradient_norm(log_prob, log_sum_sq + error, torch.tensor(1.0)).item()
                assert exact / math.sqrt(2) < 1.001 * norm and norm < 1.001 * math.sqrt(2) * exact, (missing, error)
                if missing >= 1e-2 and error == 0:
                    assert norm == pytest.approx(exact, rel=1e-3)
    assert ops.token_gradient_norm(torch.tensor(0.0), torch.tensor(0.0), torch.tensor(3.0)) == 0


def test_coefficients_are_what_the_clip_leaves() -> None:
    # Ratios 1.5, 1.5, 0.5, 0.5 with A 1, -1, 1, -1: a clip to [0.8, 1.2] is active on the first and the last.
    old, advantages = torch.zeros(1, 4), torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    log_probs = torch.tensor([[1.5, 1.5, 0.5, 0.5]]).log()
    clipped = policy_gradient_coefficients(log_probs, old, advantages, epsilon_low=0.2, epsilon_high=0.2)
    torch.testing.assert_close(clipped, torch.tensor([[0.0, -1.5, 0.5, 0.0]]))
    free = policy_gradient_coefficients(log_probs, old, advantages, epsilon_low=math.inf, epsilon_high=math.inf)
    terms, _ = policy_gradient_terms(log_probs, old, advantages)
    assert torch.equal(free, -terms)
    bounded = policy_gradient_coefficients(log_probs, old, advantages, epsilon_low=0.2, epsilon_high=0.2, delta=1.3)
    torch.testing.assert_close(bounded, torch.tensor([[0.0, 0.0, 0.5, 0.0]]))


# The selection

# 2 sequences of 4 tokens, the last masked: weights 1, 2, 3, 0 and 4, 5, 5, in all 20.
SCORE = torch.tensor([[9.0, 3.0, 5.0, 8.0], [7.0, 1.0, 5.0, math.nan]])
WEIGHT = torch.tensor([[1.0, 2.0, 3.0, 0.0], [4.0, 5.0, 5.0, math.nan]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
# By score: 0 (weight 1), 3 (0), 4 (4), 2 (3) before 6 (5) at the same score, 1 (2), 5 (5). Sums 1, 5, 8, 13, 15, 20.
TABLE = [
    (0.0, set()),
    (0.01, {0}),  # one token exceeds it
    (0.05, {0}),  # reached exactly
    (0.051, {0, 4}),
    (0.25, {0, 4}),
    (0.4, {0, 4, 2}),
    (0.41, {0, 4, 2, 6}),
    (0.65, {0, 4, 2, 6}),
    (0.75, {0, 4, 2, 6, 1}),
    (1.0, {0, 4, 2, 6, 1, 5}),
]


@pytest.mark.parametrize(("share", "expected"), TABLE)
def test_share_of_a_table(kwargs: dict, share: float, expected: set[int]) -> None:
    assert places(ops.select_share(SCORE, WEIGHT, MASK, share, **kwargs)) == expected


def test_a_share_of_decimals_is_exact(kwargs: dict) -> None:
    """0.07 of 100 equal tokens is 7: in floating point 0.07 * 100 is above 7, and an eighth would be taken."""
    score, weight = torch.arange(100.0).view(4, 25), torch.full((4, 25), 0.1)
    for hundredths in (7, 14, 28, 29, 55, 56, 57, 58):
        chosen = ops.select_share(score, weight, torch.ones(4, 25), hundredths / 100, **kwargs)
        assert places(chosen) == set(range(100 - hundredths, 100))


def test_the_share_of_a_sum_is_rounded_up_in_whole_numbers() -> None:
    for total, ratio in ((10, (1, 3)), (9, (1, 3)), (0, (1, 2)), (2**62 + 1, (999_999_999, 10**9)), (7, (1, 1))):
        assert int(share_of(torch.tensor(total), ratio)) == -(-total * ratio[0] // ratio[1])


def test_who_may_not_be_taken_counts_in_the_whole(kwargs: dict) -> None:
    """Candidates carry 6 of 20: a quarter is 5 of the 20, and half of it they cannot reach."""
    score = torch.where(torch.tensor([[True] * 3 + [False], [False] * 4]), SCORE, -math.inf)
    assert places(ops.select_share(score, WEIGHT, MASK, 0.25, **kwargs)) == {0, 1, 2}
    assert places(ops.select_share(score, WEIGHT, MASK, 0.2, **kwargs)) == {0, 2}
    assert places(ops.select_share(score, WEIGHT, MASK, 0.5, **kwargs)) == {0, 1, 2}


def test_no_weight_no_token_no_selection(kwargs: dict) -> None:
    assert not ops.select_share(SCORE, torch.zeros(2, 4), MASK, 0.5, **kwargs).any()
    assert not ops.select_share(SCORE, WEIGHT, torch.zeros(2, 4), 1.0, **kwargs).any()
    assert ops.select_share(torch.ones(3, 0), torch.ones(3, 0), torch.ones(3, 0), 0.5, **kwargs).shape == (3, 0)


@pytest.mark.parametrize("what", ["score", "weight", "negative"])
def test_what_is_broken_is_not_selected_by(what: str, one_rank: dist.ProcessGroup) -> None:
    score, weight = SCORE.clone(), WEIGHT.clone()
    if what == "score":
        score[0, 1] = math.nan
    else:
        weight[0, 1] = math.inf if what == "weight" else -1.0
    for name in WAYS:
        with way(name) as kwargs:
            if name == "static":
                assert not ops.select_share(score, weight, MASK, 0.5, **kwargs).any()
                continue
            with pytest.raises(ValueError, match="1 unmasked score"):
                ops.select_share(score, weight, MASK, 0.5, **kwargs)


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="fraction is 1.5"):
        ops.select_share(SCORE, WEIGHT, MASK, 1.5)
    with pytest.raises(ValueError, match="shapes differ: score"):
        ops.select_share(SCORE, WEIGHT[:1], MASK, 0.5)
    with pytest.raises(ValueError, match="shapes differ: log_probs"):
        ops.token_gradient_norm(SCORE, WEIGHT[:1], SCORE)


@given(batch=batches(), share=st.sampled_from([0.0, 0.003, 0.2, 1 / 3, 0.5, 0.9, 1.0]), seed=st.integers(0, 99))
def test_share_is_the_shortest_beginning_that_reaches_it(batch: tuple, share: float, seed: int) -> None:
    """In every way the same set, and the definition once more with fractions."""
    score, mask = batch
    draw = torch.Generator().manual_seed(seed)
    # Whole numbers and their powers of two, so that the definition's sums are those of floating point.
    weight = torch.randint(0, 9, score.shape, generator=draw).float() * 2.0**-20
    ratio = Fraction(share).limit_denominator(10**9)
    kept = [i for i, keep in enumerate(mask.flatten().tolist()) if keep]
    weights = [Fraction(w) for w in weight.flatten().tolist()]
    scores = score.flatten().tolist()
    target, reached, expected = ratio * sum(weights[i] for i in kept), Fraction(0), set()
    for i in sorted(kept, key=lambda i: (-scores[i], i)):
        if reached < target and weights[i]:
            expected.add(i)
        reached += weights[i]
    for name in ("reference", "torch"):
        assert places(ops.select_share(score, weight, mask, share, implementation=name)) == expected, name


def test_random_order_is_uniform_and_the_generators() -> None:
    """Equal weights, a third of 9 candidates: each in a third of 900 draws, 300 times with a deviation of 14."""
    candidates = torch.tensor([[True] * 5 + [False], [True] * 4 + [False] * 2])
    draw = torch.Generator().manual_seed(0)
    weight, times = torch.ones(2, 6), torch.zeros(2, 6)
    for _ in range(900):
        scores = ops.draw_scores(candidates, generator=draw)
        assert (scores > -math.inf).equal(candidates)
        chosen = ops.select_share(scores, weight, candidates, 1 / 3)
        assert chosen.sum() == 3
        times += chosen
    assert times[candidates].min() > 240 and times.max() < 360
    first, again, other = (
        ops.draw_scores(candidates, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    with pytest.raises(ValueError, match="generator is on"):
        ops.draw_scores(candidates.to("meta"), generator=torch.Generator())
