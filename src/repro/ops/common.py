"""What every implementation of the operators shares: argument checks, the quota, the draw's random keys, ranks."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

KEY_MASK = 0xFFFFFFFF
WEIGHT_BITS = 36
"""Of the largest weight in `whole_weights`: sums are exact up to 2^27 tokens, and a weight counts from 3e-11 of it."""


def compute_dtype(*tensors: Tensor | None) -> torch.dtype:
    """float32, or float64 where an input is float64: the dtype in which every implementation computes."""
    return torch.float64 if any(t is not None and t.dtype == torch.float64 for t in tensors) else torch.float32


def accumulator_dtype(device: torch.device) -> torch.dtype:
    """dtype of the sums behind a mean.

    float64 makes the float32 mean independent of the order of summation, hence of how tokens are split over ranks
    and of the memory layout. MPS has no float64: there the order can show in the last bit.
    """
    return torch.float32 if device.type == "mps" else torch.float64


def check_tensors(**tensors: Tensor | None) -> None:
    """Raise TypeError naming what is no tensor."""
    for name, value in tensors.items():
        if value is not None and not isinstance(value, Tensor):
            module = type(value).__module__
            remedy = "torch.from_numpy(...)" if module == "numpy" else "torch.as_tensor(...)"
            raise TypeError(f"{name} is a {module}.{type(value).__name__}: pass a torch tensor, by {remedy}")


def broadcast_advantages(log_probs: Tensor, advantages: Tensor) -> Tensor:
    """`advantages` in the shape of `log_probs`: per token, or per sequence (`[B]` or `[B, 1]`), then repeated."""
    check_tensors(log_probs=log_probs, advantages=advantages)
    if advantages.ndim == log_probs.ndim - 1:
        advantages = advantages.unsqueeze(-1)
    if advantages.ndim != log_probs.ndim or any(
        a not in (1, t) for a, t in zip(advantages.shape, log_probs.shape, strict=True)
    ):
        raise ValueError(
            f"advantages of shape {tuple(advantages.shape)} do not fit log_probs of shape {tuple(log_probs.shape)}: "
            "pass one per token [B, T] or one per sequence [B] or [B, 1]"
        )
    return advantages.expand(log_probs.shape)


def check_same_shape(**tensors: Tensor | None) -> None:
    """Raise ValueError naming every shape unless all tensors have one shape, TypeError for what is no tensor."""
    check_tensors(**tensors)
    shapes = {name: tuple(t.shape) for name, t in tensors.items() if t is not None}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"shapes differ: {listed}; pass tensors with one entry per token in the same layout")


def check_quota(fraction: float, minimum: int) -> tuple[int, int]:
    """`fraction` as a ratio of integers (numerator, denominator), after checking it and `minimum`.

    The ratio is the closest one with a denominator of at most 10^9, so that 0.29 means 29/100 and
    floor(0.29 * 100) is 29 (float arithmetic gives 28) and the quota is exact integer arithmetic on the device.
    """
    if isinstance(fraction, bool) or not 0 <= fraction <= 1:
        raise ValueError(f"fraction is {fraction!r}: pass a fraction of the tokens between 0 and 1 (0.002 is 0.2 %)")
    if isinstance(minimum, bool) or not isinstance(minimum, int) or minimum < 0:
        raise ValueError(f"minimum is {minimum!r}: pass a number of tokens, 0 or more")
    ratio = Fraction(float(fraction)).limit_denominator(10**9)
    return ratio.numerator, ratio.denominator


def host_quota(tokens: int, ratio: tuple[int, int], minimum: int) -> int:
    """max(minimum, floor(fraction * tokens)), at most `tokens`, for a number of tokens known to the host."""
    return min(tokens, max(minimum, tokens * ratio[0] // ratio[1]))


def device_quota(tokens: Tensor, ratio: tuple[int, int], minimum: int) -> Tensor:
    """max(minimum, floor(fraction * tokens)) for an int64 0-d tensor; exact up to 2^33 tokens."""
    return torch.clamp(torch.div(tokens * ratio[0], ratio[1], rounding_mode="floor"), min=minimum)


def whole_weights(weight: Tensor, keep: Tensor, group: ProcessGroup | None) -> Tensor:
    """Weights times a power of two, rounded to whole numbers (int64) of up to 2^WEIGHT_BITS; 0 where not `keep`.

    The power follows from the largest weight of all ranks. Sums of whole numbers are exact, so they do not depend on
    how tokens are split over ranks or laid out.
    """
    wide = torch.where(keep, weight.to(accumulator_dtype(weight.device)), 0.0)
    largest = torch.cat([wide.flatten(), wide.new_zeros(1)]).amax()
    if group is not None:
        dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=group)
    return torch.ldexp(wide, WEIGHT_BITS - torch.frexp(largest).exponent).round().long()


def share_of(total: Tensor, ratio: tuple[int, int]) -> Tensor:
    """The least whole number that is a fraction of `total` (int64) or more, in integer arithmetic."""
    whole = torch.div(total, ratio[1], rounding_mode="floor")
    rest = (total - whole * ratio[1]) * ratio[0]
    return whole * ratio[0] + torch.div(rest + ratio[1] - 1, ratio[1], rounding_mode="floor")


def may_read_values(*tensors: Tensor) -> bool:
    """Whether looking at a value on the host is free: eager mode on the CPU.

    Elsewhere it would synchronise with the device or break the compiled graph, so there nothing is raised about
    values.
    """
    return not torch.compiler.is_compiling() and all(t.device.type == "cpu" for t in tensors)


def raise_not_finite(count: int, what: str = "covariance value(s) are NaN or infinite") -> None:
    """Raise the ValueError for `count` values at unmasked tokens by which nothing can be selected."""
    raise ValueError(
        f"{count} unmasked {what}: no selection is defined; look for the first NaN or infinity in log_probs and "
        "advantages, or mask those tokens"
    )


def sum_over_ranks(tensor: Tensor, group: ProcessGroup | None) -> Tensor:
    """Sum of `tensor` over the ranks of `group`, in place; the tensor itself where there is no group."""
    if group is not None:
        dist.all_reduce(tensor, group=group)
    return tensor


def sum_of_earlier_ranks(tensor: Tensor, group: ProcessGroup | None) -> Tensor:
    """Sum of `tensor` over the ranks of `group` that come before this one."""
    if group is None:
        return torch.zeros_like(tensor)
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, tensor.contiguous(), group=group)
    return sum(parts[: dist.get_rank(group)], torch.zeros_like(tensor))


def draw_seed(device: torch.device, generator: torch.Generator | None, group: ProcessGroup | None) -> Tensor:
    """Two random 32-bit words (int64 `[2]` on `device`) from `generator`: on several ranks, those of the first rank.

    Every rank advances its own generator, so that the streams of ranks stay aligned.
    """
    if generator is not None and generator.device.type != device.type:
        raise ValueError(
            f"generator is on {generator.device} but the tokens are on {device}: "
            f"make it with torch.Generator(device={device.type!r})"
        )
    seed = torch.randint(0, 2**32, (2,), device=device, generator=generator)
    if group is not None:
        dist.broadcast(seed, src=dist.get_global_rank(group, 0), group=group)
    return seed


def _mix(x: Tensor) -> Tensor:
    """A bijection of 32-bit words (held in int64) in which every input bit reaches every output bit.

    Constants of https://github.com/skeeto/hash-prospector (lowest bias found for two multiplications).
    """
    x = ((x ^ (x >> 16)) * 0x21F0AAAD) & KEY_MASK
    x = ((x ^ (x >> 15)) * 0xD35A2D97) & KEY_MASK
    return x ^ (x >> 15)


def draw_keys(ordinal: Tensor, seed: Tensor) -> Tensor:
    """Random keys in [1, 2^32) (int64) for candidates 0, 1, 2, ... of the whole batch, fixed by `seed`.

    A counter-based hash, so that a candidate's key depends on its place among all candidates of all ranks and not on
    the rank that holds it: the draw is the same set for any split and any padding. For a given seed the map is
    one-to-one on 32-bit ordinals, but that 0 (which marks what is not a candidate) joins 1: ties hardly ever occur.
    """
    key = _mix(_mix((ordinal + seed[0]) & KEY_MASK) ^ seed[1])
    return key.clamp(min=1)
