"""Rows of unequal length in buckets, so that a forward pass computes less of their padding."""

from torch import Tensor

SHORT = 48
"""Tokens up to which rows are not worth the trouble: a bucket costs a pass of its own."""
WIDTH = 16
"""Buckets are whole multiples of it wide."""


def buckets(mask: Tensor) -> list[tuple[Tensor, slice]]:
    """The rows of a padded batch by where they end, with the columns that each bucket needs.

    How wide a row's bucket is depends on that row alone, so that two passes over it in different company agree to the
    bit: a penalty on |log pi - log pi_old| has no gradient before the first update, and the sign of a rounding error
    would be one.

    Args:
        mask: ``[B, L]``, 0 at padding, which is on the left of a row, on its right or on both.

    Returns:
        Row numbers ``[rows]`` and columns, for each bucket; one bucket of all where the batch is short.
    """
    length = mask.size(1)
    if length <= SHORT:
        return [(mask.new_ones(len(mask)).nonzero()[:, 0], slice(None))]
    ends = ((length - mask.flip(1).argmax(1) + WIDTH - 1) // WIDTH * WIDTH).clamp(max=length)
    return [((ends == end).nonzero()[:, 0], slice(0, end)) for end in ends.unique().tolist()]
