"""Fast torch implementations, for the CPU and for any device without Triton.

Three ways lead to the set with the largest keys, and all give the same set:

- eager on the CPU, where reading a value is free: groups of tokens whose maximum is too small are dropped at once, and
  `torch.topk` sees only what is left (`_top_eager`);
- on a device or in a compiled graph: `torch.topk` with the largest quota that the shape allows, then the device picks
  the threshold, so that shapes are static and nothing synchronises (`_largest`);
- over several ranks: a radix search, one byte of the key at a time, that sums one histogram of 256 counts over the
  ranks for each byte (`_largest_over_ranks`).

The vocabulary covariance walks over tiles of the logits and merges the moments of tiles (Chan, Golub and LeVeque 1979),
scaled to the running maximum as in an online softmax.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from repro.ops.common import (
    accumulator_dtype,
    compute_dtype,
    device_quota,
    draw_keys,
    draw_seed,
    host_quota,
    may_read_values,
    raise_not_finite,
    share_of,
    sum_of_earlier_ranks,
    sum_over_ranks,
    whole_weights,
)

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

# Tokens per chunk of the covariance on the CPU: the scratch stays in cache, and is long enough to share among threads.
CHUNK = 2**18
# Tokens per group in `_top_eager`: the gathered candidates are about quota * GROUP tokens.
GROUP = 32
# Logits per tile: at these sizes a tile and its temporaries stay in a core's cache and the product is still efficient.
TILE_ROWS = 256
TILE_COLUMNS = 4096


def token_covariance(log_probs: Tensor, advantages: Tensor, mask: Tensor, group: ProcessGroup | None) -> Tensor:
    dtype = compute_dtype(log_probs, advantages)
    if may_read_values(log_probs) and log_probs.numel():
        cov = _covariance_in_chunks(log_probs, advantages, mask, dtype, group)
        if cov is not None:
            return cov
    keep = mask != 0
    x = torch.where(keep, log_probs.to(dtype), 0.0)
    y = torch.where(keep, advantages.to(dtype), 0.0)
    wide = accumulator_dtype(log_probs.device)
    totals = torch.stack([x.sum(dtype=wide), y.sum(dtype=wide), keep.sum().to(wide)])
    mean_log_prob, mean_advantage = _means(totals, dtype, group)
    return x.sub_(mean_log_prob).mul_(y.sub_(mean_advantage)).masked_fill_(~keep, 0.0)


def _means(totals: Tensor, dtype: torch.dtype, group: ProcessGroup | None) -> Tensor:
    """The two means over all ranks from this rank's sums and its number of tokens."""
    sum_over_ranks(totals, group)
    return (totals[:2] / totals[2].clamp(min=1)).to(dtype)


def _covariance_in_chunks(
    log_probs: Tensor, advantages: Tensor, mask: Tensor, dtype: torch.dtype, group: ProcessGroup | None
) -> Tensor | None:
    """The covariance by products with the mask, which are several times faster than `where`.

    None where a masked value may be NaN or infinite, since 0 times it is not 0; nothing is exchanged among ranks then.
    The first touch of a page costs as much as the arithmetic on it, so that besides the result there is only one chunk
    of scratch, and in the first pass the result holds the mask.
    """
    length = max(1, CHUNK * len(log_probs) // log_probs.numel())
    cov = torch.empty(log_probs.shape, dtype=dtype, device=log_probs.device)
    chunks = list(
        zip(*(t.split(length) for t in (log_probs, advantages, mask, cov)), strict=True),
    )
    wide = torch.empty(chunks[0][0].shape, dtype=accumulator_dtype(log_probs.device), device=log_probs.device)
    scratch = wide.view(-1).view(dtype)[: wide.numel()].view(wide.shape)
    totals = [0.0, 0.0, 0.0]
    for x, y, m, out in chunks:
        # The detour over bytes is four times faster than the conversion from bool.
        out.copy_(m.view(torch.uint8) if m.dtype == torch.bool else m)
        products = wide[: len(x)]
        totals[0] += float(torch.mul(x, out, out=products).sum())
        totals[1] += float(torch.mul(y, out, out=products).sum())
        # float32 counts exactly, and faster, up to 2^24.
        totals[2] += float(out.sum(dtype=dtype if out.numel() < 2**24 else wide.dtype))
    if not all(map(math.isfinite, totals)):
        return None
    means = _means(torch.tensor(totals, dtype=wide.dtype, device=cov.device), dtype, group)
    for x, y, _, out in chunks:
        for values, mean in zip((x, y), means, strict=True):
            out.mul_(torch.sub(values.to(dtype), mean, out=scratch[: len(x)]))
    # Another rank's NaN comes in through the means.
    return cov if torch.isfinite(means).all() else cov.masked_fill_(mask == 0, 0.0)


def select_top(cov: Tensor, mask: Tensor, ratio: tuple[int, int], minimum: int, group: ProcessGroup | None) -> Tensor:
    keys = cov.to(compute_dtype(cov)).reshape(-1)
    keep = mask.reshape(-1)
    if group is None and may_read_values(keys):
        return _top_eager(keys, keep, ratio, minimum).view(cov.shape)
    quota = _checked_quota(keys, keep, ratio, minimum, group)
    keep = keep != 0
    if group is not None:
        return _largest_over_ranks(_ordered(keys), keep, quota, group).view(cov.shape)
    limit = host_quota(keys.numel(), ratio, minimum)
    return _largest(torch.where(keep, keys, -torch.inf), keep, quota, limit).view(cov.shape)


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
    values = cov.to(compute_dtype(cov)).reshape(-1)
    keep = mask.reshape(-1)
    quota = _checked_quota(values, keep, ratio, minimum, group)
    candidates = (keep != 0) & (values > low) & (values < high)
    if exclude is not None:
        candidates &= (exclude == 0).reshape(-1)
    seed = draw_seed(cov.device, generator, group)
    if isinstance(quota, int) and group is None:
        places = candidates.nonzero().squeeze(1)
        keys = draw_keys(torch.arange(len(places), device=cov.device), seed)
        drawn = places[keys.topk(min(quota, len(places))).indices]
        return torch.zeros_like(candidates).index_fill_(0, drawn, True).view(cov.shape)
    before = sum_of_earlier_ranks(candidates.sum(), group)
    keys = draw_keys(candidates.cumsum(0) - 1 + before, seed)
    if group is not None:
        selected = _largest_over_ranks((keys - 2**31).int(), candidates, quota, group)
    else:
        limit = host_quota(values.numel(), ratio, minimum)
        selected = _largest(torch.where(candidates, keys, 0), candidates, quota, limit)
    return selected.view(cov.shape)


def select_share(
    score: Tensor, weight: Tensor, mask: Tensor, ratio: tuple[int, int], group: ProcessGroup | None
) -> Tensor:
    keys = score.to(compute_dtype(score)).reshape(-1)
    keep = (mask != 0).reshape(-1)
    flat = weight.reshape(-1)
    broken = (keep & (keys.isnan() | (keys == torch.inf) | ~flat.isfinite() | (flat < 0))).sum()
    broken = sum_over_ranks(broken, group)
    if may_read_values(keys) and int(broken):
        raise_not_finite(int(broken), "score(s) are NaN or inf, or their weight(s) negative, NaN or infinite")
    weights = whole_weights(flat, keep & (broken == 0), group)
    target = share_of(sum_over_ranks(weights.sum(), group), ratio)
    eligible = (weights > 0) & (keys > -torch.inf)
    if group is not None:
        return _first_over_ranks(_ordered(keys), eligible, weights * eligible, target, group).view(score.shape)
    order = torch.where(eligible, keys, -torch.inf).sort(descending=True, stable=True).indices
    taken = (weights * eligible)[order]
    chosen = (taken > 0) & (taken.cumsum(0) - taken < target)
    return torch.zeros_like(eligible).scatter(0, order, chosen).view(score.shape)


def _checked_quota(
    values: Tensor, keep: Tensor, ratio: tuple[int, int], minimum: int, group: ProcessGroup | None
) -> int | Tensor:
    """Tokens to select: an int where values may be read (a NaN or an infinity then raises), else on the device.

    On the device the quota is 0 where an unmasked value is NaN or infinite.
    """
    tokens = torch.count_nonzero(keep)
    counts = torch.stack([tokens, ((keep != 0) & ~torch.isfinite(values)).sum()])
    tokens, broken = sum_over_ranks(counts, group)
    if may_read_values(values):
        if int(broken):
            raise_not_finite(int(broken))
        if group is None:
            return host_quota(int(tokens), ratio, minimum)
    return torch.where(broken == 0, device_quota(tokens, ratio, minimum), 0)


def _top_eager(keys: Tensor, keep: Tensor, ratio: tuple[int, int], minimum: int) -> Tensor:
    """Mask of the largest `keys` where `keep`, the earliest first among equals; reads values on the host."""
    selected = torch.zeros(keys.shape, dtype=torch.bool, device=keys.device)
    if not keys.numel():
        return selected
    if not math.isfinite(float(keys.sum())):
        # The sum may have overflown, or the infinity be a masked one: only now is every token looked at.
        broken = int(((keep != 0) & ~torch.isfinite(keys)).sum())
        if broken:
            raise_not_finite(broken)
    quota = host_quota(int(torch.count_nonzero(keep)), ratio, minimum)
    if quota == 0:
        return selected
    places = _places_of_large(keys, keep, quota)
    if places is None:
        places = keep.nonzero().squeeze(1)
    left = keys[places]
    threshold = left.topk(quota).values[-1]
    above = places[left > threshold]
    level = places[left == threshold][: quota - len(above)]
    return selected.index_fill_(0, above, True).index_fill_(0, level, True)


def _places_of_large(keys: Tensor, keep: Tensor, quota: int) -> Tensor | None:
    """Places, in order, of the kept keys above a bound that at least `quota` of them reach; None where it fails."""
    whole = keys.numel() - keys.numel() % GROUP
    if 4 * quota * GROUP > whole:
        return None
    # As many groups of keys as the quota reach the quota-th largest maximum, so at least as many keys do.
    maxima = keys[:whole].view(-1, GROUP).amax(1)
    bound = maxima.topk(quota).values[-1]
    groups = (maxima >= bound).nonzero().squeeze(1)
    reached = (keys[:whole].view(-1, GROUP)[groups] >= bound).nonzero()
    last = whole + (keys[whole:] >= bound).nonzero().squeeze(1)
    places = torch.cat([groups[reached[:, 0]] * GROUP + reached[:, 1], last])
    # Masked keys took part in the bound, so not all that reach it count.
    places = places[keep[places] != 0]
    return places if len(places) >= quota else None


def _largest(keys: Tensor, eligible: Tensor, quota: Tensor, limit: int) -> Tensor:
    """Mask of the `quota` largest `keys` among `eligible`, the earliest first among equals, without synchronising.

    Ineligible keys must be lower than all others; `limit` bounds `quota` and is known to the host.
    """
    if limit == 0:
        return torch.zeros_like(eligible)
    quota = torch.minimum(quota, eligible.sum())
    threshold = keys.topk(limit).values.gather(0, (quota - 1).clamp(min=0).view(1))
    above = keys > threshold
    level = (keys == threshold) & eligible
    selected = above | (level & (level.cumsum(0) <= quota - above.sum()))
    return selected & (quota > 0)


def _ordered(keys: Tensor) -> Tensor:
    """Signed integers in the order of the float32 or float64 `keys`, equal where they are equal (-0.0 and 0.0)."""
    keys = torch.where(keys == 0, 0.0, keys)
    bits = keys.view(torch.int32 if keys.dtype == torch.float32 else torch.int64)
    return bits ^ ((bits >> (bits.element_size() * 8 - 1)) & torch.iinfo(bits.dtype).max)


def _largest_over_ranks(keys: Tensor, eligible: Tensor, quota: int | Tensor, group: ProcessGroup) -> Tensor:
    """Mask of this rank's part of the `quota` largest integer `keys` among the `eligible` ones of all ranks."""
    return _first_over_ranks(keys, eligible, eligible.long(), quota, group)


def _first_over_ranks(
    keys: Tensor, eligible: Tensor, weights: Tensor, target: int | Tensor, group: ProcessGroup
) -> Tensor:
    """Mask of this rank's part of the largest integer `keys` of all ranks whose `weights` it takes to reach `target`.

    Weights are positive whole numbers where `eligible` and 0 elsewhere. Among equals the earliest come first, in the
    order of ranks. What the ranks exchange does not grow with the number of tokens: for each byte of the key one
    histogram, and once one sum per rank.
    """
    left, above = eligible, torch.zeros_like(eligible)
    remaining = torch.minimum(target, sum_over_ranks(weights.sum(), group))
    top_byte = keys.element_size() * 8 - 8
    for shift in range(top_byte, -1, -8):
        digit = (keys >> shift) & 0xFF
        if shift == top_byte:
            digit = digit ^ 0x80
        sums = torch.zeros(257, dtype=torch.int64, device=keys.device)
        sums.scatter_add_(0, torch.where(left, digit, 256).long(), weights)
        sums = sum_over_ranks(sums[:256].contiguous(), group)
        higher = sums.sum() - sums.cumsum(0)
        bucket = ((higher < remaining) & (remaining <= higher + sums)).long().argmax(keepdim=True)
        remaining = remaining - higher.gather(0, bucket).squeeze(0)
        above = above | (left & (digit > bucket))
        left = left & (digit == bucket)
    tied = torch.where(left, weights, 0)
    before = tied.cumsum(0) - tied + sum_of_earlier_ranks(tied.sum(), group)
    return (above | (left & (before < remaining))) & (target > 0)


def vocab_covariance(logits: Tensor, x: Tensor, temperature: float) -> Tensor:
    dtype = compute_dtype(logits, x)
    columns = logits.shape[-1]
    flat, flat_x = logits.reshape(-1, columns), x.reshape(-1, columns)
    scratch = _Scratch(4, len(flat), columns, dtype, logits.device)
    moments = _Moments(len(flat), scratch)
    for rows in _slices(len(flat), TILE_ROWS):
        for tile in _slices(columns, TILE_COLUMNS):
            z = scratch.tile(2, flat[rows, tile].shape).copy_(flat[rows, tile])
            moments.add(rows, z.div_(temperature), scratch.tile(3, z.shape).copy_(flat_x[rows, tile]))
    return moments.covariance().view(logits.shape[:-1])


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
    dtype = compute_dtype(hidden, weight, next_hidden, next_weight, bias, next_bias)
    flat = hidden.reshape(-1, hidden.shape[-1]).to(dtype)
    next_flat = next_hidden.reshape(-1, next_hidden.shape[-1]).to(dtype)
    scratch = _Scratch(5, len(flat), len(weight), dtype, hidden.device)
    moments, next_moments = _Moments(len(flat), scratch), _Moments(len(flat), scratch)

    def logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, place: int) -> Tensor:
        z = torch.mm(hidden, weight.T, out=scratch.tile(place, (len(hidden), len(weight))))
        if bias is not None:
            z += bias
        if softcap is not None:
            z = z.div_(softcap).tanh_().mul_(softcap)
        return z if temperature == 1 else z.div_(temperature)

    for tile in _slices(len(weight), TILE_COLUMNS):
        tile_weight, tile_next_weight = weight[tile].to(dtype), next_weight[tile].to(dtype)
        tile_bias = None if bias is None else bias[tile].to(dtype)
        tile_next_bias = None if next_bias is None else next_bias[tile].to(dtype)
        for rows in _slices(len(flat), TILE_ROWS):
            z = logits(flat[rows], tile_weight, tile_bias, 2)
            next_z = logits(next_flat[rows], tile_next_weight, tile_next_bias, 3)
            change = torch.sub(next_z, z, out=scratch.tile(4, z.shape))
            next_moments.add(rows, next_z)
            moments.add(rows, z, change)
    shape = hidden.shape[:-1]
    return moments.covariance().view(shape), moments.entropy().view(shape), next_moments.entropy().view(shape)


def _slices(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


class _Scratch:
    """Memory for `count` tiles, used again for every tile: touching new pages would cost as much as the arithmetic."""

    def __init__(self, count: int, rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> None:
        size = min(rows, TILE_ROWS) * min(columns, TILE_COLUMNS)
        self.memory = torch.empty((count, size), dtype=dtype, device=device)

    def tile(self, place: int, shape: Sequence[int]) -> Tensor:
        return self.memory[place, : shape[0] * shape[1]].view(shape)


class _Moments:
    """Running moments, per row, of logits z and of a second quantity x under softmax(z): all [rows].

    Weights and `mean_z` are relative to the largest logit so far, `top`. The first two tiles of `scratch` are theirs.
    """

    def __init__(self, rows: int, scratch: _Scratch) -> None:
        self.scratch = scratch
        self.top = scratch.memory.new_full((rows,), -torch.inf)
        self.weight, self.mean_z, self.mean_x, self.product = scratch.memory.new_zeros((4, rows))

    def add(self, rows: slice, z: Tensor, x: Tensor | None = None) -> None:
        """Add a tile of logits `z` and of `x`, both [rows, columns]; the two are overwritten."""
        probs, products = self.scratch.tile(0, z.shape), self.scratch.tile(1, z.shape)
        top = torch.maximum(self.top[rows], z.amax(-1))
        # While a row holds nothing but -inf its weights are all zero, and any finite number serves as its maximum.
        top = torch.where(top == -torch.inf, torch.finfo(top.dtype).min / 4, top)
        step = torch.where(self.weight[rows] == 0, 0.0, self.top[rows] - top)
        torch.exp(z.sub_(top.unsqueeze(-1)), out=probs)
        weight = probs.sum(-1)
        divisor = torch.where(weight == 0, 1.0, weight)

        def mean(values: Tensor) -> Tensor:
            # Whatever stands where the probability is 0 counts for nothing; 0 times infinity would be NaN. Looking for
            # such places costs more than the mean: where values may be read, only when it is not finite.
            if not may_read_values(values):
                values.masked_fill_(probs == 0, 0.0)
            result = torch.mul(probs, values, out=products).sum(-1) / divisor
            if may_read_values(values) and not torch.isfinite(result).all():
                values.masked_fill_(probs == 0, 0.0)
                result = torch.mul(probs, values, out=products).sum(-1) / divisor
            return result

        scale = torch.exp(step)
        old_weight = self.weight[rows] * scale
        total = old_weight + weight
        share = weight / torch.where(total == 0, 1.0, total)
        mean_z = mean(z)
        gap_z = mean_z - (self.mean_z[rows] + step)
        if x is not None:
            mean_x = mean(x)
            gap_x = mean_x - self.mean_x[rows]
            within = probs.mul_(z.sub_(mean_z.unsqueeze(-1))).mul_(x.sub_(mean_x.unsqueeze(-1))).sum(-1)
            self.product[rows] = self.product[rows] * scale + within + gap_z * gap_x * share * old_weight
            self.mean_x[rows] += gap_x * share
        self.mean_z[rows] += step + gap_z * share
        self.weight[rows] = total
        self.top[rows] = top

    def covariance(self) -> Tensor:
        return self.product / self.weight

    def entropy(self) -> Tensor:
        return self.weight.log() - self.mean_z
