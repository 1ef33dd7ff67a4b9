r"""Covariance operators: tensors in, tensors out.

Entropy change and covariance (Cui et al. 2025, arXiv:2505.22617). Over the tokens of a batch (Eq. 10),

    cov_i = (log pi(y_i) - mean_j log pi(y_j)) * (A_i - mean_j A_j),

the quantity by which KL-Cov takes its top fraction and Clip-Cov draws from a band; and over the vocabulary (Lemma 1),

    H(pi') - H(pi)  ~  -Cov_{a ~ pi}(log pi(a), z'(a) - z(a)),     z = logits.

A token's gradient (`token_gradient_norm`) has a closed form too, and `select_share` takes tokens in the order of any
score until they carry a share of it. Every operator of covariance has three implementations behind one function:

- `reference`: the definition, in the plainest torch, up to float64;
- `torch`: fast on the CPU, and for any device;
- `triton`: CUDA kernels.

The device decides (`triton` for CUDA tensors up to float32 where Triton is installed, else `torch`); `implementation=`
or the context `implementation(...)` forces one. Where we differ from the published code:

1. Means, quotas and selections run over every unmasked token of every rank of `group`, not over one micro-batch of one
   rank. `group=None` is this process alone; pass `torch.distributed.group.WORLD` for all ranks.
2. Ties go to the lowest flat index, ranks one after another, so the set does not depend on the layout or the split.
3. Nothing is copied to the CPU: on CUDA no call synchronises, and shapes are static, so that the operators can be
   captured in CUDA graphs and compiled without a graph break.

What is no torch tensor (a NumPy array, say) raises TypeError, naming the argument.

NaN and infinity: masked places are never read, whatever stands there. `token_covariance` and the vocabulary covariances
propagate: one NaN log-probability makes every covariance of the batch NaN, one NaN logit its row. A selection from
covariances of which an unmasked one is NaN or infinite raises ValueError in eager mode on the CPU; on other devices and
in compiled graphs, where raising would need a synchronisation, it selects nothing (the loss of such a batch is NaN).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from repro.ops import reference, torch_ops
from repro.ops.common import (
    accumulator_dtype,
    broadcast_advantages,
    check_quota,
    check_same_shape,
    check_tensors,
    compute_dtype,
    draw_keys,
    draw_seed,
    sum_of_earlier_ranks,
)
from repro.ops.gradients import token_gradient_norm

if TYPE_CHECKING:
    from types import ModuleType

    from torch.distributed import ProcessGroup

__all__ = [
    "draw_scores",
    "implementation",
    "linear_vocab_covariance",
    "select_band",
    "select_share",
    "select_top",
    "token_covariance",
    "token_gradient_norm",
    "vocab_covariance",
]

IMPLEMENTATIONS = ("reference", "torch", "triton")

_HAS_TRITON = importlib.util.find_spec("triton") is not None
_forced: str | None = None


@contextmanager
def implementation(name: str) -> Iterator[None]:
    """Force one implementation, `"reference"`, `"torch"` or `"triton"`, for every operator called inside.

    Process-wide, not per thread. An operator's own `implementation=` goes before it.
    """
    global _forced
    _check_name(name)
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


def _check_name(name: str) -> None:
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"implementation is {name!r}: choose one of {', '.join(IMPLEMENTATIONS)}")


def _choose(name: str | None, *tensors: Tensor | None) -> ModuleType:
    """The module that implements the operators for these tensors."""
    given = [t for t in tensors if t is not None]
    devices = {str(t.device) for t in given}
    if len(devices) > 1:
        raise ValueError(f"tensors are on {', '.join(sorted(devices))}: move them to one device")
    name = name or _forced
    if name is None:
        on_cuda = given[0].device.type == "cuda" and torch.version.cuda is not None
        name = "triton" if on_cuda and _HAS_TRITON and compute_dtype(*given) == torch.float32 else "torch"
    _check_name(name)
    if name == "reference":
        return reference
    if name == "torch":
        return torch_ops
    if not _HAS_TRITON:
        raise ModuleNotFoundError("the triton implementation needs Triton: pip install triton, or use 'torch'")
    if compute_dtype(*given) == torch.float64:
        raise ValueError("the triton implementation computes in float32: use 'torch' or 'reference' for float64")
    from repro.ops import triton

    triton.check_device(given[0].device)
    return triton


@torch.no_grad()
def token_covariance(
    log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    group: ProcessGroup | None = None,
    implementation: str | None = None,
) -> Tensor:
    """Covariance of each token's log-probability with its advantage, in nats times units of advantage.

        cov_i = (log pi(y_i) - mean_j log pi(y_j)) * (A_i - mean_j A_j)        (Eq. 10)

    The means run over the unmasked tokens of all ranks of `group`, summed in float64.

    Args:
        log_probs: log pi(y_i) in nats, `[B, T]`, any float dtype.
        advantages: `[B, T]`, or one per sequence: `[B]` or `[B, 1]`.
        mask: `[B, T]`, bool or 0/1; what stands at masked places is never read, NaN included.
        group: ranks whose tokens are one batch; None for this process alone.
        implementation: `"reference"`, `"torch"` or `"triton"`; None lets the device decide.

    Returns:
        `[B, T]`, float32 (float64 where an input is), 0 where masked. No gradient. NaN and infinity propagate.

    Raises:
        ValueError: where shapes or devices do not fit.
    """
    advantages = broadcast_advantages(log_probs, advantages)
    check_same_shape(log_probs=log_probs, mask=mask)
    chosen = _choose(implementation, log_probs, advantages, mask)
    return chosen.token_covariance(log_probs, advantages, mask, group)


@torch.no_grad()
def select_top(
    cov: Tensor,
    mask: Tensor,
    fraction: float,
    *,
    minimum: int = 1,
    group: ProcessGroup | None = None,
    implementation: str | None = None,
) -> Tensor:
    """KL-Cov's set (Eq. 13): the tokens with the largest covariance.

    Exactly max(minimum, floor(fraction * N)) of the N unmasked tokens of all ranks of `group` (all N where there are
    fewer), the lowest flat index first among equals, earlier ranks before later ones. `fraction` is read as the
    closest ratio with a denominator up to 10^9, so floor(0.29 * 100) is 29.

    Args:
        cov: `[B, T]`, any float dtype; finite where unmasked.
        mask: `[B, T]`, bool or 0/1.
        fraction: fraction of the unmasked tokens (0.002 is 0.2 %).
        minimum: tokens to select at least; the published code's floor of 1.
        group: ranks whose tokens are one batch; None for this process alone. What they exchange does not grow with N.
        implementation: `"reference"`, `"torch"` or `"triton"`; None lets the device decide.

    Returns:
        bool `[B, T]`.

    Raises:
        ValueError: where shapes, devices, `fraction` or `minimum` do not fit; in eager mode on the CPU also where an
            unmasked covariance is NaN or infinite (elsewhere nothing is selected then).
    """
    check_same_shape(cov=cov, mask=mask)
    ratio = check_quota(fraction, minimum)
    return _choose(implementation, cov, mask).select_top(cov, mask, ratio, minimum, group)


@torch.no_grad()
def select_band(
    cov: Tensor,
    mask: Tensor,
    fraction: float,
    low: float,
    high: float,
    *,
    exclude: Tensor | None = None,
    minimum: int = 1,
    generator: torch.Generator | None = None,
    group: ProcessGroup | None = None,
    implementation: str | None = None,
) -> Tensor:
    """Clip-Cov's draw (Eq. 11): tokens drawn uniformly without replacement among those with low < cov < high.

    max(minimum, floor(fraction * N)) tokens, N counting all unmasked tokens and not only the candidates; all candidates
    where there are fewer. Every candidate gets a random key, a hash of two words drawn from the generator and of its
    place among the candidates of all ranks, and the largest keys are drawn. So for one state of the generator (on
    several ranks: the first rank's) the draw is the same set for any split over ranks, any padding and every
    implementation on the same device.

    Args:
        cov: `[B, T]`, any float dtype; finite where unmasked.
        mask: `[B, T]`, bool or 0/1.
        fraction: fraction of the unmasked tokens (0.0002 is 0.02 %).
        low, high: bounds of the covariance, both strict.
        exclude: `[B, T]`, bool or 0/1: tokens never to draw (the published code excludes those that PPO clips).
        minimum: tokens to draw at least.
        generator: on the device of `cov`; None for that device's default one. A compiled graph takes only None.
        group: ranks whose tokens are one batch; None for this process alone. What they exchange does not grow with N.
        implementation: `"reference"`, `"torch"` or `"triton"`; None lets the device decide.

    Returns:
        bool `[B, T]`.

    Raises:
        ValueError: as `select_top`, and where `low` exceeds `high` or `generator` is on another device.
    """
    check_same_shape(cov=cov, mask=mask, exclude=exclude)
    ratio = check_quota(fraction, minimum)
    if not low <= high:
        raise ValueError(f"low is {low} and high is {high}: pass bounds with low <= high")
    chosen = _choose(implementation, cov, mask, exclude)
    return chosen.select_band(cov, mask, ratio, low, high, exclude, minimum, generator, group)


@torch.no_grad()
def select_share(
    score: Tensor,
    weight: Tensor,
    mask: Tensor,
    share: float,
    *,
    group: ProcessGroup | None = None,
    implementation: str | None = None,
) -> Tensor:
    """The tokens of largest score that it takes to carry a share of a weight, such as of the gradient's norm.

    Tokens are taken from the largest score on, the lowest flat index first among equals and earlier ranks before later
    ones, until their weights sum to `share` times the weight of all unmasked tokens of all ranks of `group`. The last
    one taken reaches the share, so that a single token can exceed it. Weights are summed as whole numbers: the set is
    the same for any split over ranks and any padding. `share` is read as a ratio, as `select_top` reads its fraction.

    Args:
        score: `[B, T]`, any float dtype. -inf is never taken, though its weight is part of the whole.
        weight: `[B, T]`, 0 or more; a token of weight 0 is never taken.
        mask: `[B, T]`, bool or 0/1.
        share: between 0 and 1.
        group: ranks whose tokens are one batch; None for this process alone. What they exchange does not grow with N.
        implementation: `"reference"`, `"torch"` or `"triton"` (torch's); None lets the device decide.

    Returns:
        bool `[B, T]`: nothing where no token has a weight, and all that may be taken where they do not reach the share.

    Raises:
        ValueError: where shapes, devices or `share` do not fit; in eager mode on the CPU also where an unmasked score
            is NaN or +inf, or a weight negative or not finite (elsewhere nothing is selected then).
    """
    check_same_shape(score=score, weight=weight, mask=mask)
    ratio = check_quota(share, 0)
    return _choose(implementation, score, weight, mask).select_share(score, weight, mask, ratio, group)


@torch.no_grad()
def draw_scores(
    candidates: Tensor, *, generator: torch.Generator | None = None, group: ProcessGroup | None = None
) -> Tensor:
    """Random scores, by which `select_share` takes candidates in a uniformly random order.

    A candidate's score is a hash of two words drawn from the generator and of its place among the candidates of all
    ranks, as in `select_band`: the same order for any split over ranks and any padding.

    Args:
        candidates: bool `[B, T]`.
        generator: on the device of `candidates`; None for that device's default one. Of several ranks the first one's
            counts.
        group: ranks whose candidates are in one order; None for this process alone.

    Returns:
        `[B, T]`, float64 (float32 on a device without it); -inf where no candidate is.

    Raises:
        ValueError: where `generator` is on another device.
    """
    seed = draw_seed(candidates.device, generator, group)
    flat = candidates.reshape(-1)
    before = sum_of_earlier_ranks(flat.sum(), group)
    keys = draw_keys(flat.cumsum(0) - 1 + before, seed).to(accumulator_dtype(candidates.device))
    return torch.where(flat, keys, -torch.inf).view(candidates.shape)


@torch.no_grad()
def vocab_covariance(
    logits: Tensor,
    x: Tensor,
    *,
    temperature: float = 1.0,
    mask: Tensor | None = None,
    implementation: str | None = None,
) -> Tensor:
    """Cov_{a ~ pi}(log pi(a), x(a)) over the vocabulary, pi = softmax(logits / temperature), in nats times units of x.

    One pass over tiles of the vocabulary with a running maximum; no temporary of the size of `logits`.

    Args:
        logits: `[..., V]`, any float dtype. -inf is a token of probability 0, which contributes nothing whatever its x.
        x: `[..., V]`: advantages, or changes of logits.
        temperature: divides the logits, not `x`.
        mask: `[...]`, bool or 0/1: rows to return; the others are 0, and may hold NaN.
        implementation: `"reference"`, `"torch"` or `"triton"`; None lets the device decide.

    Returns:
        `[...]`, float32 (float64 where an input is). No gradient. NaN where a row holds NaN, +inf or only -inf.

    Raises:
        ValueError: where shapes, devices or `temperature` do not fit.
    """
    check_same_shape(logits=logits, x=x)
    _check_temperature(temperature)
    _check_rows(mask, logits.shape[:-1])
    cov = _choose(implementation, logits, x, mask).vocab_covariance(logits, x, temperature)
    return cov if mask is None else torch.where(mask != 0, cov, 0.0)


@torch.no_grad()
def linear_vocab_covariance(
    hidden: Tensor,
    weight: Tensor,
    next_hidden: Tensor,
    next_weight: Tensor,
    *,
    bias: Tensor | None = None,
    next_bias: Tensor | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    mask: Tensor | None = None,
    implementation: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Lemma 1's covariance between two policies, from hidden states and the heads' weights; no logits are kept.

        Cov_{a ~ pi}(log pi(a), z'(a) - z(a)),    z = softcap * tanh((W h + bias) / softcap) / temperature,

    and z' from the next policy likewise: the entropy change from pi to pi' is about minus this. Both entropies come
    from the same pass over tiles of the vocabulary. The order of bias, cap and temperature is that of the heads in
    transformers followed by sampling; scale `hidden` for heads that scale their logits.

    Args:
        hidden, next_hidden: `[..., H]` of the two policies at the same tokens, any float dtype.
        weight, next_weight: `[V, H]` (`lm_head.weight`); the same V, while H may differ.
        bias, next_bias: `[V]` or None.
        temperature: sampling temperature of both policies.
        softcap: `final_logit_softcapping` of the model's config; None for none.
        mask: `[...]`, bool or 0/1: rows to return; the others are 0, and may hold NaN.
        implementation: `"reference"`, `"torch"` or `"triton"`; None lets the device decide.

    Returns:
        (cov, entropy, next_entropy), each `[...]` in nats, float32 (float64 where an input is). No gradient. NaN and
        infinity propagate within their row.

    Raises:
        ValueError: where shapes, devices, `temperature` or `softcap` do not fit.
    """
    check_tensors(hidden=hidden, weight=weight, next_hidden=next_hidden, next_weight=next_weight)
    check_tensors(bias=bias, next_bias=next_bias)
    for name, h, w, b in (("", hidden, weight, bias), ("next_", next_hidden, next_weight, next_bias)):
        if w.ndim != 2 or h.shape[-1:] != w.shape[1:] or (b is not None and b.shape != w.shape[:1]):
            shapes = f"{name}hidden {tuple(h.shape)}, {name}weight {tuple(w.shape)}"
            shapes += f", {name}bias {tuple(b.shape)}" if b is not None else ""
            raise ValueError(f"shapes do not fit: {shapes}; pass hidden [..., H], weight [V, H] and bias [V]")
    if hidden.shape[:-1] != next_hidden.shape[:-1] or len(weight) != len(next_weight):
        raise ValueError(
            f"the policies differ in tokens or vocabulary: {tuple(hidden.shape[:-1])} and "
            f"{tuple(next_hidden.shape[:-1])} tokens, {len(weight)} and {len(next_weight)} entries; pass the same"
        )
    _check_temperature(temperature)
    if softcap is not None and not softcap > 0:
        raise ValueError(f"softcap is {softcap}: pass a positive number, or None for no cap")
    _check_rows(mask, hidden.shape[:-1])
    chosen = _choose(implementation, hidden, weight, next_hidden, next_weight, bias, next_bias, mask)
    results = chosen.linear_vocab_covariance(
        hidden, weight, next_hidden, next_weight, bias, next_bias, temperature, softcap
    )
    if mask is None:
        return results
    cov, entropy, next_entropy = (torch.where(mask != 0, result, 0.0) for result in results)
    return cov, entropy, next_entropy


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}: pass a positive number (greedy decoding has no covariance)")


def _check_rows(mask: Tensor | None, rows: torch.Size) -> None:
    check_tensors(mask=mask)
    if mask is not None and mask.shape != rows:
        raise ValueError(f"mask of shape {tuple(mask.shape)} does not fit rows of shape {tuple(rows)}")
