"""Covariance over the vocabulary against the naive formula, the products alone, and TRL's fused heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.harness import Comparison, Method
from repro import ops

# Rows whose float64 result the gate computes, and how far from it float32 may be, in nats.
GATE_ROWS = 64
TOLERANCE = 2e-3


def naive(hidden: Tensor, weight: Tensor, next_hidden: Tensor, next_weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The formula on whole [N, V] logits, in float32."""
    logits, next_logits = (hidden @ weight.T).float(), (next_hidden @ next_weight.T).float()
    log_probs, next_log_probs = torch.log_softmax(logits, -1), torch.log_softmax(next_logits, -1)
    probs, change = log_probs.exp(), next_logits - logits
    entropy = -(probs * log_probs).sum(-1)
    cov = (probs * log_probs * change).sum(-1) + entropy * (probs * change).sum(-1)
    return cov, entropy, -(next_log_probs.exp() * next_log_probs).sum(-1)


def comparisons(
    rows: int, width: int, vocabulary: int, device: torch.device, dtype: torch.dtype, *, with_peers: bool = True
) -> Iterator[Comparison]:
    """`linear_vocab_covariance` between two close policies, and `vocab_covariance` on logits that exist.

    Without peers only our implementation of the first, to try settings.
    """
    generator = torch.Generator(device=device).manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, device=device, generator=generator)

    # Logits with a standard deviation of 2: a policy of some nats, as a language model's.
    hidden, weight = draw(rows, width), 2 * draw(vocabulary, width) / width**0.5
    next_hidden = (hidden + 0.02 * draw(rows, width)).to(dtype)
    next_weight = (weight * (1 + 0.02 * draw(vocabulary, 1))).to(dtype)
    hidden, weight = hidden.to(dtype), weight.to(dtype)
    inputs = hidden, weight, next_hidden, next_weight
    size = f"N={rows} H={width} V={vocabulary}"
    name = str(dtype).removeprefix("torch.")
    flops = 4.0 * rows * width * vocabulary
    exact = ops.linear_vocab_covariance(
        hidden[:GATE_ROWS].double(), weight, next_hidden[:GATE_ROWS].double(), next_weight, implementation="reference"
    )

    def close(tolerance: float, *wanted: Tensor) -> Callable[[tuple[Tensor, ...]], None]:
        def check(results: tuple[Tensor, ...]) -> None:
            for got, expected in zip(results, wanted, strict=True):
                error = (got[: len(expected)] - expected).abs().max().item()
                assert error <= tolerance, f"off by {error:.2e}"

        return check

    def products() -> tuple[Tensor, Tensor]:
        return hidden @ weight.T, next_hidden @ next_weight.T

    # Half-precision logits are rounded at up to 2^-8 of about 8.
    rounding = TOLERANCE if dtype == torch.float32 else 5e-2
    ours = Method("ours", lambda: ops.linear_vocab_covariance(*inputs), close(TOLERANCE, *exact), flops=flops)
    if not with_peers:
        yield Comparison("linear_vocab_covariance", size, name, (ours,))
        return
    methods = (
        ours,
        Method("naive [N, V]", lambda: naive(*inputs), close(rounding, *exact), flops=flops),
        Method("two products alone", products, lambda results: None, flops=flops),
        *trl_heads(inputs, close(rounding, exact[1])),
    )
    yield Comparison("linear_vocab_covariance", size, name, methods)

    logits, change = products()
    change = change - logits
    expected = ops.vocab_covariance(logits[:GATE_ROWS].double(), change[:GATE_ROWS], implementation="reference")

    def on_logits() -> tuple[Tensor]:
        return (ops.vocab_covariance(logits, change),)

    def naive_on_logits() -> tuple[Tensor]:
        log_probs, x = torch.log_softmax(logits.float(), -1), change.float()
        probs = log_probs.exp()
        return ((probs * log_probs * x).sum(-1) - (probs * log_probs).sum(-1) * (probs * x).sum(-1),)

    read = 2.0 * logits.nbytes
    yield Comparison(
        "vocab_covariance",
        size,
        name,
        (
            Method("ours", on_logits, close(TOLERANCE, expected), moved=read),
            Method("naive [N, V]", naive_on_logits, close(TOLERANCE, expected), moved=read),
        ),
    )


def trl_heads(inputs: tuple[Tensor, ...], check: Callable[[tuple[Tensor, ...]], None]) -> list[Method]:
    """TRL's passes: one policy's log-probability and entropy; two policies' divergence and the first's entropy."""
    try:
        from trl.kernels.chunked_divergence import ChunkedDivergenceFunction
        from trl.kernels.chunked_logprob import ChunkedLogProbFunction
    except ImportError:
        return []
    hidden, weight, next_hidden, next_weight = inputs
    targets = torch.zeros(len(hidden), dtype=torch.long, device=hidden.device)

    def one() -> tuple[Tensor]:
        _, entropy, *_ = ChunkedLogProbFunction.apply(hidden, weight, None, targets, 1.0, 8192, None, 1.0, ("entropy",))
        return (entropy,)

    def two() -> tuple[Tensor]:
        _, entropy = ChunkedDivergenceFunction.apply(hidden, weight, None, next_hidden, next_weight, None, 1.0)
        return (entropy,)

    return [Method("TRL, one policy's entropy", one, check), Method("TRL, two policies' divergence", two, check)]
