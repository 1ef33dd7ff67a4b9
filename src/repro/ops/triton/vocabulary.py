"""Vocabulary covariance in Triton: one online kernel, one program per row.

The heads' products are torch's own (cuBLAS), a tile of both policies' logits at a time into two buffers that are used
again; the kernel folds the tile into eight running moments per row. A kernel that also did the products would have to
hold two accumulators, which in a Hopper register file leaves room for tiles of 128 x 128, and so reads more bytes per
FLOP from L2 than cuBLAS does with its larger ones: more than writing a tile and reading it again costs.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# A tile of logits is at most ROWS x COLUMNS float32, and there are two: 512 MiB.
ROWS = 8192
COLUMNS = 8192
BLOCK = 2048
WARPS = 8
# Running moments per row: top, weight, mean of z, mean of x, product; then top, weight, mean of the next policy.
MOMENTS = 8


@triton.jit
def _logits(ptrs, bias_ptrs, valid, inverse_temperature, softcap, BIAS: tl.constexpr, SOFTCAP: tl.constexpr):
    z = tl.load(ptrs, mask=valid, other=0.0).to(tl.float32)
    if BIAS:
        z += tl.load(bias_ptrs, mask=valid, other=0.0).to(tl.float32)
    if SOFTCAP:
        z = softcap * (2 * tl.sigmoid(2 * z / softcap) - 1)
    return tl.where(valid, z * inverse_temperature, -float("inf"))


@triton.jit
def _block_moments(z, valid, old_top, old_weight, old_mean):
    """Weights of a block relative to the new maximum, and the merged top, weight and mean, with what merging needs."""
    # max drops NaN; the sum brings it back through the weights.
    top = tl.maximum(old_top, tl.max(z, axis=0))
    # While a row holds nothing but -inf its weights are all zero, and any finite number serves as its maximum.
    top = tl.where(top == -float("inf"), -1.0e38, top)
    step = tl.where(old_weight == 0.0, 0.0, old_top - top)
    centred = z - top
    probs = tl.where(valid, tl.exp(centred), 0.0)
    # exp underflows far above this bound: only -inf times a probability of 0 is changed, from NaN to 0.
    centred = tl.where(centred < -1.0e4, -1.0e4, centred)
    weight = tl.sum(probs, axis=0)
    divisor = tl.where(weight == 0.0, 1.0, weight)
    scale = tl.exp(step)
    rescaled = old_weight * scale
    total = rescaled + weight
    share = weight / tl.where(total == 0.0, 1.0, total)
    mean = tl.sum(probs * centred, axis=0) / divisor
    gap = mean - (old_mean + step)
    return probs, centred, mean, divisor, scale, rescaled, share, gap, top, total, old_mean + step + gap * share


@triton.jit
def _fold_kernel(
    z_ptr,
    x_ptr,
    bias_ptr,
    next_bias_ptr,
    moments_ptr,
    rows,
    columns,
    z_row,
    z_column,
    x_row,
    x_column,
    inverse_temperature,
    softcap,
    NEXT: tl.constexpr,
    BIAS: tl.constexpr,
    NEXT_BIAS: tl.constexpr,
    SOFTCAP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Fold `columns` logits of one row, and x, into its moments.

    With NEXT what `x_ptr` holds is the next policy's logits: x is their change, and they get moments of their own.
    """
    row = tl.program_id(0).to(tl.int64)
    # Before torch 2.15 torch.compile passes Python floats as float64.
    inverse_temperature = tl.cast(inverse_temperature, tl.float32)
    softcap = tl.cast(softcap, tl.float32)
    state = moments_ptr + row
    top = tl.load(state)
    weight = tl.load(state + rows)
    mean_z = tl.load(state + 2 * rows)
    mean_x = tl.load(state + 3 * rows)
    product = tl.load(state + 4 * rows)
    next_top = tl.load(state + 5 * rows)
    next_weight = tl.load(state + 6 * rows)
    next_mean = tl.load(state + 7 * rows)
    for start in range(0, columns, BLOCK):
        at = (start + tl.arange(0, BLOCK)).to(tl.int64)
        valid = at < columns
        z = _logits(
            z_ptr + row * z_row + at * z_column, bias_ptr + at, valid, inverse_temperature, softcap, BIAS, SOFTCAP
        )
        x_ptrs = x_ptr + row * x_row + at * x_column
        if NEXT:
            next_z = _logits(x_ptrs, next_bias_ptr + at, valid, inverse_temperature, softcap, NEXT_BIAS, SOFTCAP)
            _, _, _, _, _, _, _, _, next_top, next_weight, next_mean = _block_moments(
                next_z, valid, next_top, next_weight, next_mean
            )
            x = next_z - z
        else:
            x = tl.load(x_ptrs, mask=valid, other=0.0).to(tl.float32)
        probs, centred, block_mean, divisor, scale, rescaled, share, gap, top, weight, mean_z = _block_moments(
            z, valid, top, weight, mean_z
        )
        x = tl.where(probs == 0.0, 0.0, x)
        block_mean_x = tl.sum(probs * x, axis=0) / divisor
        gap_x = block_mean_x - mean_x
        within = tl.sum(probs * (centred - block_mean) * (x - block_mean_x), axis=0)
        product = product * scale + within + gap * gap_x * share * rescaled
        mean_x += gap_x * share
    tl.store(state, top)
    tl.store(state + rows, weight)
    tl.store(state + 2 * rows, mean_z)
    tl.store(state + 3 * rows, mean_x)
    tl.store(state + 4 * rows, product)
    tl.store(state + 5 * rows, next_top)
    tl.store(state + 6 * rows, next_weight)
    tl.store(state + 7 * rows, next_mean)


def _new_moments(rows: int, device: torch.device) -> Tensor:
    moments = torch.zeros((MOMENTS, rows), dtype=torch.float32, device=device)
    moments[0::5] = -torch.inf
    return moments


def _fold(
    z: Tensor,
    x: Tensor,
    moments: Tensor,
    temperature: float,
    softcap: float | None,
    bias: Tensor | None,
    next_bias: Tensor | None,
    following: bool,
) -> None:
    rows, columns = z.shape
    if rows == 0:
        return
    _fold_kernel[(rows,)](
        z,
        x,
        z if bias is None else bias,
        z if next_bias is None else next_bias,
        moments,
        rows,
        columns,
        *z.stride(),
        *x.stride(),
        1.0 / temperature,
        0.0 if softcap is None else float(softcap),
        NEXT=following,
        BIAS=bias is not None,
        NEXT_BIAS=next_bias is not None,
        SOFTCAP=softcap is not None,
        BLOCK=BLOCK,
        num_warps=WARPS,
    )


def _covariance(moments: Tensor) -> Tensor:
    return moments[4] / moments[1]


def _entropy(weight: Tensor, mean: Tensor) -> Tensor:
    return weight.log() - mean


def vocab_covariance(logits: Tensor, x: Tensor, temperature: float) -> Tensor:
    columns = logits.shape[-1]
    z, flat_x = logits.reshape(-1, columns), x.reshape(-1, columns)
    moments = _new_moments(len(z), z.device)
    _fold(z, flat_x, moments, temperature, None, None, None, following=False)
    return _covariance(moments).view(logits.shape[:-1])


def _product(hidden: Tensor, weight: Tensor, out: Tensor) -> Tensor:
    """hidden @ weight.T in float32 in the buffer `out`; what half-precision inputs give is not rounded."""
    shape = (len(hidden), len(weight))
    tile = out[: shape[0] * shape[1]].view(shape)
    dtype = torch.promote_types(hidden.dtype, weight.dtype)
    hidden, weight = hidden.to(dtype), weight.to(dtype)
    if dtype == torch.float32:
        return torch.mm(hidden, weight.T, out=tile)
    if hidden.device.type == "cuda":
        return torch.mm(hidden, weight.T, out_dtype=torch.float32, out=tile)
    return torch.mm(hidden.float(), weight.float().T, out=tile)


def linear_vocab_covariance(
    hidden: Tensor,
    weight: Tensor,
    next_hidden: Tensor,
    next_weight: Tensor,
    bias: Tensor | None,
    next_bias: Tensor | None,
    temperature: float,
    softcap: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    shape = hidden.shape[:-1]
    flat, next_flat = hidden.reshape(-1, hidden.shape[-1]), next_hidden.reshape(-1, next_hidden.shape[-1])
    tokens, vocabulary = len(flat), len(weight)
    results = torch.empty((3, tokens), dtype=torch.float32, device=hidden.device)
    buffers = torch.empty((2, min(tokens, ROWS) * min(vocabulary, COLUMNS)), dtype=torch.float32, device=hidden.device)
    for first in range(0, tokens, ROWS):
        rows = slice(first, min(first + ROWS, tokens))
        moments = _new_moments(rows.stop - rows.start, hidden.device)
        for left in range(0, vocabulary, COLUMNS):
            tile = slice(left, min(left + COLUMNS, vocabulary))
            _fold(
                _product(flat[rows], weight[tile], buffers[0]),
                _product(next_flat[rows], next_weight[tile], buffers[1]),
                moments,
                temperature,
                softcap,
                None if bias is None else bias[tile].contiguous(),
                None if next_bias is None else next_bias[tile].contiguous(),
                following=True,
            )
        results[0, rows] = _covariance(moments)
        results[1, rows] = _entropy(moments[1], moments[2])
        results[2, rows] = _entropy(moments[6], moments[7])
    cov, entropy, next_entropy = results.view(3, *shape)
    return cov, entropy, next_entropy
