"""Token covariance and exact selection in Triton.

The selection is a radix search from the top byte of a 32-bit key. Every program counts the bytes of one contiguous
range of tokens into a row of `counts`; the sum of the rows (over ranks too) tells the byte of the threshold, and with
it which tokens are still undecided when the next byte is counted. After four bytes the threshold is known, and the rows
of the last count say how many tokens equal to it come before each program's range, which decides ties by flat index.
Key 0 stands for a token that cannot be selected.

Counts travel in rows of COUNTERS integers: 256 bytes, then the unmasked tokens and the unmasked non-finite ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from repro.ops.common import (
    draw_seed,
    sum_of_earlier_ranks,
    sum_over_ranks,
)

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

BLOCK = 2048
# At most this many programs: enough for every multiprocessor of a large GPU several times over, and few enough that a
# program reads one number of each of the others in one block.
MAX_PROGRAMS = 1024
WARPS = 8
COUNTERS = 258
_COUNTERS = tl.constexpr(COUNTERS)


def _grid(tokens: int) -> tuple[int, int]:
    """Number of programs, and of blocks that each of them takes one after another."""
    blocks = max(1, triton.cdiv(tokens, BLOCK))
    per_program = triton.cdiv(blocks, MAX_PROGRAMS)
    return triton.cdiv(blocks, per_program), per_program


def _flat(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(-1)


def _flat_mask(mask: Tensor) -> Tensor:
    return _flat(mask if mask.dtype == torch.bool else mask != 0).view(torch.uint8)


@triton.jit
def _sums_kernel(x_ptr, y_ptr, mask_ptr, partial_ptr, tokens, per_program, BLOCK: tl.constexpr):
    program = tl.program_id(0)
    start = program.to(tl.int64) * per_program * BLOCK
    x_sum = tl.zeros((BLOCK,), tl.float64)
    y_sum = tl.zeros((BLOCK,), tl.float64)
    count = tl.zeros((BLOCK,), tl.float64)
    for block in range(per_program):
        at = start + block * BLOCK + tl.arange(0, BLOCK)
        keep = tl.load(mask_ptr + at, mask=at < tokens, other=0) != 0
        x_sum += tl.load(x_ptr + at, mask=keep, other=0.0).to(tl.float64)
        y_sum += tl.load(y_ptr + at, mask=keep, other=0.0).to(tl.float64)
        count += keep.to(tl.float64)
    tl.store(partial_ptr + program * 3, tl.sum(x_sum, axis=0))
    tl.store(partial_ptr + program * 3 + 1, tl.sum(y_sum, axis=0))
    tl.store(partial_ptr + program * 3 + 2, tl.sum(count, axis=0))


@triton.jit
def _covariance_kernel(x_ptr, y_ptr, mask_ptr, totals_ptr, out_ptr, tokens, BLOCK: tl.constexpr):
    count = tl.maximum(tl.load(totals_ptr + 2), 1.0)
    x_mean = (tl.load(totals_ptr) / count).to(tl.float32)
    y_mean = (tl.load(totals_ptr + 1) / count).to(tl.float32)
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    keep = tl.load(mask_ptr + at, mask=at < tokens, other=0) != 0
    x = tl.load(x_ptr + at, mask=keep, other=0.0).to(tl.float32)
    y = tl.load(y_ptr + at, mask=keep, other=0.0).to(tl.float32)
    tl.store(out_ptr + at, tl.where(keep, (x - x_mean) * (y - y_mean), 0.0), mask=at < tokens)


def token_covariance(log_probs: Tensor, advantages: Tensor, mask: Tensor, group: ProcessGroup | None) -> Tensor:
    cov = torch.empty(log_probs.shape, dtype=torch.float32, device=log_probs.device)
    tokens = cov.numel()
    x, y, keep = _flat(log_probs), _flat(advantages), _flat_mask(mask)
    programs, per_program = _grid(tokens)
    partial = torch.empty((programs, 3), dtype=torch.float64, device=cov.device)
    _sums_kernel[(programs,)](x, y, keep, partial, tokens, per_program, BLOCK=BLOCK, num_warps=WARPS)
    totals = sum_over_ranks(partial.sum(0), group)
    _covariance_kernel[(max(1, triton.cdiv(tokens, BLOCK)),)](
        x, y, keep, totals, cov, tokens, BLOCK=BLOCK, num_warps=WARPS
    )
    return cov


@triton.jit
def _ordered(x):
    """32-bit unsigned keys in the order of the float32 `x`, equal where they are equal (-0.0 and 0.0)."""
    bits = tl.where(x == 0.0, 0.0, x).to(tl.int32, bitcast=True)
    return (bits ^ ((bits >> 31) | -2147483648)).to(tl.uint32, bitcast=True)


@triton.jit
def _not_finite(x):
    return (x.to(tl.int32, bitcast=True) & 0x7F800000) == 0x7F800000


@triton.jit
def _mix(x):
    x = (x ^ (x >> 16)) * 0x21F0AAAD
    x = (x ^ (x >> 15)) * 0xD35A2D97
    return x ^ (x >> 15)


@triton.jit
def _store_counts(row_ptr, histogram, unmasked, broken):
    bins = tl.arange(0, 256)
    tl.store(row_ptr + bins, histogram)
    tl.store(row_ptr + 256, unmasked)
    tl.store(row_ptr + 257, broken)


@triton.jit
def _top_keys_kernel(cov_ptr, mask_ptr, key_ptr, counts_ptr, tokens, per_program, BLOCK: tl.constexpr):
    """Keys of every token and the count of their top bytes."""
    program = tl.program_id(0)
    start = program.to(tl.int64) * per_program * BLOCK
    histogram = tl.zeros((256,), tl.int32)
    unmasked = 0
    broken = 0
    for block in range(per_program):
        at = start + block * BLOCK + tl.arange(0, BLOCK)
        keep = tl.load(mask_ptr + at, mask=at < tokens, other=0) != 0
        cov = tl.load(cov_ptr + at, mask=keep, other=0.0).to(tl.float32)
        key = tl.where(keep, _ordered(cov), 0)
        tl.store(key_ptr + at, key.to(tl.int32, bitcast=True), mask=at < tokens)
        histogram += tl.histogram((key >> 24).to(tl.int32), 256, mask=keep)
        unmasked += tl.sum(keep.to(tl.int32), axis=0)
        broken += tl.sum((keep & _not_finite(cov)).to(tl.int32), axis=0)
    _store_counts(counts_ptr + program * _COUNTERS, histogram, unmasked, broken)


@triton.jit
def _load_candidates(cov_ptr, mask_ptr, exclude_ptr, at, tokens, low, high, EXCLUDE: tl.constexpr):
    keep = tl.load(mask_ptr + at, mask=at < tokens, other=0) != 0
    cov = tl.load(cov_ptr + at, mask=keep, other=0.0).to(tl.float32)
    candidate = keep & (cov > low) & (cov < high)
    if EXCLUDE:
        candidate = candidate & (tl.load(exclude_ptr + at, mask=keep, other=0) == 0)
    return keep, cov, candidate


@triton.jit
def _candidates_kernel(
    cov_ptr,
    mask_ptr,
    exclude_ptr,
    partial_ptr,
    tokens,
    per_program,
    low,
    high,
    EXCLUDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Number of candidates in each program's range."""
    program = tl.program_id(0)
    start = program.to(tl.int64) * per_program * BLOCK
    count = 0
    for block in range(per_program):
        at = start + block * BLOCK + tl.arange(0, BLOCK)
        _, _, candidate = _load_candidates(cov_ptr, mask_ptr, exclude_ptr, at, tokens, low, high, EXCLUDE)
        count += tl.sum(candidate.to(tl.int32), axis=0)
    tl.store(partial_ptr + program, count)


@triton.jit
def _band_keys_kernel(
    cov_ptr,
    mask_ptr,
    exclude_ptr,
    partial_ptr,
    earlier_ptr,
    seed_ptr,
    key_ptr,
    counts_ptr,
    tokens,
    per_program,
    low,
    high,
    EXCLUDE: tl.constexpr,
    BLOCK: tl.constexpr,
    PROGRAMS: tl.constexpr,
):
    """Random keys of the candidates, by their place among the candidates of all ranks, and the count of top bytes."""
    program = tl.program_id(0)
    start = program.to(tl.int64) * per_program * BLOCK
    others = tl.arange(0, PROGRAMS)
    before = tl.sum(tl.load(partial_ptr + others, mask=others < program, other=0), axis=0).to(tl.int64)
    before += tl.load(earlier_ptr)
    first_word = tl.load(seed_ptr).to(tl.uint32)
    second_word = tl.load(seed_ptr + 1).to(tl.uint32)
    histogram = tl.zeros((256,), tl.int32)
    unmasked = 0
    broken = 0
    for block in range(per_program):
        at = start + block * BLOCK + tl.arange(0, BLOCK)
        keep, cov, candidate = _load_candidates(cov_ptr, mask_ptr, exclude_ptr, at, tokens, low, high, EXCLUDE)
        ordinal = before + tl.cumsum(candidate.to(tl.int32), axis=0) - 1
        key = _mix(_mix(ordinal.to(tl.uint32) + first_word) ^ second_word)
        key = tl.where(candidate, tl.where(key == 0, 1, key), 0)
        tl.store(key_ptr + at, key.to(tl.int32, bitcast=True), mask=at < tokens)
        histogram += tl.histogram((key >> 24).to(tl.int32), 256, mask=candidate)
        unmasked += tl.sum(keep.to(tl.int32), axis=0)
        broken += tl.sum((keep & _not_finite(cov)).to(tl.int32), axis=0)
        before += tl.sum(candidate.to(tl.int32), axis=0)
    _store_counts(counts_ptr + program * _COUNTERS, histogram, unmasked, broken)


@triton.jit
def _descend(totals_ptr, numerator, denominator, minimum, LEVELS: tl.constexpr):
    """The first LEVELS bytes of the threshold, how many to take among the keys that begin with them, and the quota."""
    bins = tl.arange(0, 256)
    unmasked = tl.load(totals_ptr + 256)
    quota = tl.maximum(tl.cast(minimum, tl.int64), unmasked * numerator // denominator)
    quota = tl.where(tl.load(totals_ptr + 257) == 0, quota, 0)
    quota = tl.minimum(quota, tl.sum(tl.load(totals_ptr + bins), axis=0))
    prefix = tl.full((), 0, tl.uint32)
    remaining = quota
    for level in tl.static_range(LEVELS):
        counts = tl.load(totals_ptr + level * _COUNTERS + bins)
        higher = tl.sum(counts, axis=0) - tl.cumsum(counts, axis=0)
        here = (higher < remaining) & (remaining <= higher + counts)
        prefix = prefix * 256 + tl.sum(tl.where(here, bins, 0), axis=0).to(tl.uint32)
        remaining -= tl.sum(tl.where(here, higher, 0), axis=0)
    return prefix, remaining, quota


@triton.jit
def _digits_kernel(
    key_ptr,
    totals_ptr,
    counts_ptr,
    tokens,
    per_program,
    numerator,
    denominator,
    minimum,
    LEVEL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Count of byte LEVEL (0 is the top one) of the keys that begin with the threshold's first LEVEL bytes."""
    program = tl.program_id(0)
    start = program.to(tl.int64) * per_program * BLOCK
    prefix, _, _ = _descend(totals_ptr, numerator, denominator, minimum, LEVEL)
    histogram = tl.zeros((256,), tl.int32)
    for block in range(per_program):
        at = start + block * BLOCK + tl.arange(0, BLOCK)
        key = tl.load(key_ptr + at, mask=at < tokens, other=0).to(tl.uint32, bitcast=True)
        undecided = (key != 0) & ((key >> (32 - 8 * LEVEL)) == prefix)
        # Few blocks hold an undecided key after the first byte or two: the others need no histogram.
        if tl.sum(undecided.to(tl.int32), axis=0) > 0:
            digit = (key >> (24 - 8 * LEVEL)) & 255
            histogram += tl.histogram(digit.to(tl.int32), 256, mask=undecided)
    _store_counts(counts_ptr + program * _COUNTERS, histogram, 0, 0)


@triton.jit
def _select_kernel(
    key_ptr,
    totals_ptr,
    counts_ptr,
    earlier_ptr,
    out_ptr,
    tokens,
    per_program,
    numerator,
    denominator,
    minimum,
    BLOCK: tl.constexpr,
    PROGRAMS: tl.constexpr,
):
    """The mask: keys above the threshold, and the first of those equal to it."""
    program = tl.program_id(0)
    start = program.to(tl.int64) * per_program * BLOCK
    threshold, remaining, quota = _descend(totals_ptr, numerator, denominator, minimum, 4)
    last = (threshold & 255).to(tl.int32)
    others = tl.arange(0, PROGRAMS)
    level_before = tl.load(counts_ptr + others * _COUNTERS + last, mask=others < program, other=0)
    before = tl.sum(level_before, axis=0).to(tl.int64) + tl.load(earlier_ptr + last)
    for block in range(per_program):
        at = start + block * BLOCK + tl.arange(0, BLOCK)
        key = tl.load(key_ptr + at, mask=at < tokens, other=0).to(tl.uint32, bitcast=True)
        level = key == threshold
        rank = before + tl.cumsum(level.to(tl.int32), axis=0)
        chosen = ((key > threshold) | (level & (rank <= remaining))) & (quota > 0)
        tl.store(out_ptr + at, chosen.to(tl.uint8), mask=at < tokens)
        before += tl.sum(level.to(tl.int32), axis=0)


def _largest(keys: Tensor, counts: Tensor, ratio: tuple[int, int], minimum: int, group: ProcessGroup | None) -> Tensor:
    """Mask of the largest `keys`, of which `counts` holds each program's count of top bytes."""
    tokens = keys.numel()
    programs, per_program = _grid(tokens)
    totals = torch.empty((4, COUNTERS), dtype=torch.int64, device=keys.device)
    totals[0] = sum_over_ranks(counts.sum(0), group)
    for level in range(1, 4):
        _digits_kernel[(programs,)](
            keys, totals, counts, tokens, per_program, *ratio, minimum, LEVEL=level, BLOCK=BLOCK, num_warps=WARPS
        )
        local = counts.sum(0)
        earlier = sum_of_earlier_ranks(local, group) if level == 3 else None
        totals[level] = sum_over_ranks(local, group)
    selected = torch.empty(tokens, dtype=torch.uint8, device=keys.device)
    _select_kernel[(programs,)](
        keys,
        totals,
        counts,
        earlier,
        selected,
        tokens,
        per_program,
        *ratio,
        minimum,
        BLOCK=BLOCK,
        PROGRAMS=triton.next_power_of_2(programs),
        num_warps=WARPS,
    )
    return selected.view(torch.bool)


def select_top(cov: Tensor, mask: Tensor, ratio: tuple[int, int], minimum: int, group: ProcessGroup | None) -> Tensor:
    tokens = cov.numel()
    programs, per_program = _grid(tokens)
    keys = torch.empty(tokens, dtype=torch.int32, device=cov.device)
    counts = torch.empty((programs, COUNTERS), dtype=torch.int32, device=cov.device)
    _top_keys_kernel[(programs,)](
        _flat(cov), _flat_mask(mask), keys, counts, tokens, per_program, BLOCK=BLOCK, num_warps=WARPS
    )
    return _largest(keys, counts, ratio, minimum, group).view(cov.shape)


def select_band(
    cov: Tensor,
    mask: Tensor,
    ratio: tuple[int, int],
    low: float,
    high: float,
    exclude: Tensor | None,
    minimum: int,
    generator: torch.Generator | None,
    group: ProcessGroup | None,
) -> Tensor:
    tokens = cov.numel()
    seed = draw_seed(cov.device, generator, group)
    programs, per_program = _grid(tokens)
    values, keep = _flat(cov), _flat_mask(mask)
    excluded = keep if exclude is None else _flat_mask(exclude)
    partial = torch.empty(programs, dtype=torch.int32, device=cov.device)
    settings = {"EXCLUDE": exclude is not None, "BLOCK": BLOCK, "num_warps": WARPS}
    _candidates_kernel[(programs,)](
        values, keep, excluded, partial, tokens, per_program, float(low), float(high), **settings
    )
    earlier = sum_of_earlier_ranks(partial.sum(), group)
    keys = torch.empty(tokens, dtype=torch.int32, device=cov.device)
    counts = torch.empty((programs, COUNTERS), dtype=torch.int32, device=cov.device)
    _band_keys_kernel[(programs,)](
        values,
        keep,
        excluded,
        partial,
        earlier,
        seed,
        keys,
        counts,
        tokens,
        per_program,
        float(low),
        float(high),
        PROGRAMS=triton.next_power_of_2(programs),
        **settings,
    )
    return _largest(keys, counts, ratio, minimum, group).view(cov.shape)
