"""What the Triton kernels must do, on a GPU or under Triton's interpreter. Run by test_kernels.py, which says where."""

import os
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from repro import ops
from repro.ops.triton import tokens, vocabulary

# NumPy's, inside Triton's interpreter, where NaN and infinity meet.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a kernel leaves unwritten is NaN, or a large negative integer."""
    empty: Callable[..., Tensor] = torch.empty

    def poisoned_empty(*args, **kwargs) -> Tensor:
        tensor = empty(*args, **kwargs)
        if tensor.dtype == torch.uint8:
            return tensor.fill_(255)
        return tensor.fill_(float("nan") if tensor.is_floating_point() else -(2**30) + 17)

    monkeypatch.setattr(torch, "empty", poisoned_empty)


@pytest.fixture(params=[(64, 3), (256, 1024)], ids=["many blocks each", "one block each"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few small programs, so that small inputs span several of them and several blocks of each."""
    monkeypatch.setattr(tokens, "BLOCK", request.param[0])
    monkeypatch.setattr(tokens, "MAX_PROGRAMS", request.param[1])


def batch(tokens: int, levels: int, kept: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities with ties, advantages and a mask, with NaN where masked."""
    generator = torch.Generator().manual_seed(seed)
    log_probs = -torch.randint(0, levels, (tokens,), generator=generator) / 3.0
    advantages = torch.randint(-2, 3, (tokens,), generator=generator) / 2.0
    mask = torch.rand(tokens, generator=generator) < kept
    log_probs[~mask] = advantages[~mask] = float("nan")
    return log_probs.to(DEVICE), advantages.to(DEVICE), mask.to(DEVICE)


def generator() -> torch.Generator:
    return torch.Generator(device=DEVICE).manual_seed(7)


@pytest.mark.parametrize(
    ("count", "levels", "kept"),
    [(1, 4, 1.0), (64, 4, 0.7), (65, 4, 0.7), (65, 1, 1.0), (65, 4, 0.0), (500, 10**6, 0.9), (500, 4, 0.7)],
)
def test_tokens_equal_the_definition(blocks: None, count: int, levels: int, kept: float) -> None:
    log_probs, advantages, mask = batch(count, levels, kept)
    cov = ops.token_covariance(log_probs, advantages, mask, implementation="triton")
    assert torch.equal(cov, ops.token_covariance(log_probs, advantages, mask, implementation="reference"))
    assert not cov[~mask].any()
    for fraction, minimum, exclude in ((0.002, 1, None), (0.1, 0, cov > 0.1), (1.0, 1, None)):
        top = ops.select_top(cov, mask, fraction, minimum=minimum, implementation="triton")
        expected = ops.select_top(cov, mask, fraction, minimum=minimum, implementation="reference")
        assert torch.equal(top, expected)
        drawn, expected = (
            ops.select_band(
                cov,
                mask,
                fraction,
                -0.3,
                0.3,
                exclude=exclude,
                minimum=minimum,
                generator=generator(),
                implementation=name,
            )
            for name in ("triton", "reference")
        )
        assert torch.equal(drawn, expected)


@pytest.mark.parametrize(
    ("dtype", "mask_dtype"),
    [(torch.float16, torch.int64), (torch.bfloat16, torch.float32), (torch.float32, torch.bool)],
)
def test_dtypes_and_layouts(blocks: None, dtype: torch.dtype, mask_dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    log_probs = (-torch.rand(17, 9, generator=generator)).to(dtype).to(DEVICE)
    advantages = torch.randn(17, 1, generator=generator).to(dtype).to(DEVICE)
    mask = (torch.rand(17, 9, generator=generator) < 0.8).to(mask_dtype).to(DEVICE)
    expected = ops.token_covariance(log_probs, advantages, mask, implementation="reference")
    turned = log_probs.T.contiguous().T
    cov = ops.token_covariance(turned, advantages, mask.T.contiguous().T, implementation="triton")
    assert torch.equal(cov, expected)
    half = cov.to(dtype)
    selected = ops.select_top(half.T.contiguous().T, mask, 0.1, implementation="triton")
    assert torch.equal(selected, ops.select_top(half, mask, 0.1, implementation="reference"))


def test_order_of_extreme_values() -> None:
    tiny, huge = 1.4e-45, 3.4028234e38
    cov = torch.tensor([-huge, huge, -tiny, tiny, 0.0, -1.0, 1.0, -0.0], device=DEVICE)
    # -0.0, the last, is equal to the 0.0 before it.
    order = [1, 6, 3, 4, 7, 2, 5, 0]
    for count in range(9):
        selected = ops.select_top(cov, torch.ones_like(cov), 0.0, minimum=count, implementation="triton")
        assert set(selected.nonzero().flatten().tolist()) == set(order[:count])


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_propagates_and_selects_nothing(blocks: None, broken: float) -> None:
    log_probs, advantages, mask = batch(200, 10**6, 0.9)
    cov = ops.token_covariance(log_probs, advantages, mask, implementation="triton")
    cov[mask.nonzero()[70]] = broken
    assert not ops.select_top(cov, mask, 0.5, implementation="triton").any()
    assert not ops.select_band(cov, mask, 0.5, -9.0, 9.0, implementation="triton").any()
    log_probs[mask.nonzero()[3]] = broken
    cov = ops.token_covariance(log_probs, advantages, mask, implementation="triton")
    assert not torch.isfinite(cov[mask]).any() and not cov[~mask].any()


def test_nothing_at_all() -> None:
    empty = torch.zeros(0, 3, device=DEVICE)
    assert ops.token_covariance(empty, empty, empty, implementation="triton").shape == (0, 3)
    assert ops.select_top(empty, empty, 0.5, implementation="triton").shape == (0, 3)
    assert ops.select_band(empty, empty, 0.5, 0.0, 1.0, implementation="triton").shape == (0, 3)


@pytest.fixture(params=[(64, 5, 150), (32, 1000, 32), (2048, 8192, 8192)], ids=["ragged", "narrow", "as shipped"])
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(("BLOCK", "ROWS", "COLUMNS"), request.param, strict=True):
        monkeypatch.setattr(vocabulary, name, value)


def heads(rows: int, columns: int, scale: float, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(rows, 16, generator=generator) * scale, torch.randn(columns, 16, generator=generator)
    next_hidden = hidden + 0.1 * torch.randn(rows, 16, generator=generator)
    next_weight = weight + 0.1 * torch.randn(columns, 16, generator=generator)
    return [t.to(DEVICE, dtype) for t in (hidden, weight, next_hidden, next_weight)]


@pytest.mark.parametrize(
    ("dtype", "scale", "softcap", "biased"),
    [
        (torch.float32, 0.0, None, False),
        (torch.float32, 10.0, None, True),
        (torch.float32, 0.5, 20.0, True),
        (torch.bfloat16, 0.5, 20.0, False),
        (torch.bfloat16, 10.0, None, True),
        (torch.float16, 0.5, None, False),
    ],
)
def test_heads_are_no_worse_than_plain_torch(
    tiles: None, dtype: torch.dtype, scale: float, softcap: float | None, biased: bool
) -> None:
    inputs = heads(12, 301, scale, dtype)
    bias = torch.randn(301, generator=torch.Generator().manual_seed(1)).to(DEVICE, dtype) if biased else None
    settings = {"temperature": 0.7, "softcap": softcap}
    fast = ops.linear_vocab_covariance(*inputs, bias=bias, next_bias=bias, **settings, implementation="triton")
    plain = ops.linear_vocab_covariance(*inputs, bias=bias, next_bias=bias, **settings, implementation="reference")
    wide = None if bias is None else bias.double()
    truth = ops.linear_vocab_covariance(
        *(t.double() for t in inputs), bias=wide, next_bias=wide, **settings, implementation="reference"
    )
    # Slack: products of logits of up to 16 * scale are rounded at float32's eps.
    slack = 64 * 1.2e-7 * (1 + 16 * scale) / 0.7
    for got, expected, exact in zip(fast, plain, truth, strict=True):
        assert (got - exact).abs().max() <= 2 * (expected - exact).abs().max() + slack


def test_vocabulary_edges(tiles: None) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(333, 9, generator=generator).T.to(DEVICE) * 4
    x = torch.randn(9, 333, generator=generator).to(DEVICE)
    logits[0], logits[0, 3] = -torch.inf, 2.0
    logits[1, :200], x[1, :200] = -torch.inf, float("nan")
    logits[2, 5] = logits[3, 332] = float("nan")
    logits[4], logits[5, 7], x[6, 9] = -torch.inf, torch.inf, float("nan")
    cov = ops.vocab_covariance(logits, x, temperature=2.0, implementation="triton")
    expected = ops.vocab_covariance(logits, x, temperature=2.0, implementation="reference")
    assert cov.isnan().tolist() == [False, False, True, True, True, True, True, False, False]
    assert torch.allclose(cov, expected, atol=1e-6, equal_nan=True)
    # Far below zero, where a tail counted as logits of 0 would drown everything.
    low = ops.vocab_covariance(logits[7:] - 400.0, x[7:], implementation="triton")
    assert torch.allclose(low, ops.vocab_covariance(logits[7:], x[7:], implementation="reference"), atol=1e-3)
    mask = ~cov.isnan()
    kept = ops.vocab_covariance(logits, x, temperature=2.0, mask=mask, implementation="triton")
    assert torch.equal(kept, torch.where(mask, cov, 0.0))


def test_results_repeat_bit_for_bit(blocks: None) -> None:
    log_probs, advantages, mask = batch(500, 10**6, 0.9)
    inputs = heads(12, 301, 1.0, torch.float32)
    first, second = (
        [
            ops.token_covariance(log_probs, advantages, mask, implementation="triton"),
            *ops.linear_vocab_covariance(*inputs, implementation="triton"),
        ]
        for _ in range(2)
    )
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


@pytest.mark.skipif(INTERPRETED, reason="needs CUDA")
def test_default_on_cuda_is_triton_without_a_synchronisation() -> None:
    log_probs, advantages, mask = batch(50_000, 10**6, 0.9)
    inputs = heads(300, 301, 1.0, torch.bfloat16)

    def everything() -> list[Tensor]:
        cov = ops.token_covariance(log_probs, advantages, mask)
        return [
            cov,
            ops.select_top(cov, mask, 0.002),
            ops.select_band(cov, mask, 0.002, -0.3, 0.3, exclude=cov > 0.2),
            ops.vocab_covariance(inputs[1], inputs[3], temperature=0.7),
            *ops.linear_vocab_covariance(*inputs, softcap=20.0),
        ]

    everything()
    torch.cuda.synchronize()
    for implementation in ("triton", "torch"):
        with ops.implementation(implementation):
            everything()
            torch.cuda.set_sync_debug_mode("error")
            try:
                results = everything()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        expected = ops.select_top(results[0], mask, 0.002, implementation="reference")
        assert torch.equal(results[1], expected)
        assert int(results[2].sum()) == int(mask.sum()) // 500


@pytest.mark.skipif(INTERPRETED, reason="needs CUDA")
def test_cuda_graph_replays_on_new_inputs() -> None:
    log_probs, advantages, mask = batch(50_000, 10**6, 0.9)
    ops.select_band(ops.token_covariance(log_probs, advantages, mask), mask, 0.01, -0.3, 0.3)
    ops.select_top(log_probs, mask, 0.01)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        cov = ops.token_covariance(log_probs, advantages, mask)
        top = ops.select_top(cov, mask, 0.01)
        band = ops.select_band(cov, mask, 0.01, -0.3, 0.3)
    draws = []
    for seed in (1, 2):
        for tensor, fresh in zip((log_probs, advantages, mask), batch(50_000, 10**6, 0.9, seed), strict=True):
            tensor.copy_(fresh)
        graph.replay()
        expected = ops.token_covariance(log_probs, advantages, mask, implementation="reference")
        assert torch.equal(cov, expected)
        assert torch.equal(top, ops.select_top(expected, mask, 0.01, implementation="reference"))
        assert int(band.sum()) == int(mask.sum()) // 100
        draws.append(band.clone())
    assert not torch.equal(*draws)


@pytest.mark.skipif(INTERPRETED, reason="needs CUDA")
def test_compiles_on_cuda_without_a_graph_break() -> None:
    log_probs, advantages, mask = batch(50_000, 10**6, 0.9)

    @torch.compile(fullgraph=True)
    def select(log_probs: Tensor, advantages: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        cov = ops.token_covariance(log_probs, advantages, mask)
        return cov, ops.select_top(cov, mask, 0.01), ops.select_band(cov, mask, 0.01, -0.3, 0.3)

    cov, top, band = select(log_probs, advantages, mask)
    expected = ops.token_covariance(log_probs, advantages, mask, implementation="reference")
    assert torch.equal(cov, expected)
    assert torch.equal(top, ops.select_top(expected, mask, 0.01, implementation="reference"))
    assert int(band.sum()) == int(mask.sum()) // 100
