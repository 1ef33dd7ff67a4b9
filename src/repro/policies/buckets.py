"""Rows of unequal length in buckets, so that a forward pass computes less of their padding."""

from torch import Tensor

SHORT = 48
"""Tokens up to which rows are not worth the trouble: a bucket costs a pass of its own."""
WIDTH = 16
"""Tokens for each of which long rows get one more bucket."""


def buckets(mask: Tensor) -> list[tuple[Tensor, slice]]:
    """Rows of a padded batch, sorted by length into buckets of as many rows, with the columns that each bucket needs.

    Args:
        mask: ``[B, L]``, 0 at padding, which is on the left of a row, on its right or on both.

    Returns:
        Row numbers ``[rows]`` and columns, for each bucket; one bucket of all where the batch is short.
    """
    if mask.size(1) <= SHORT:
        return [(mask.new_ones(len(mask)).nonzero()[:, 0], slice(None))]
    first, last = mask.argmax(1), mask.size(1) - mask.flip(1).argmax(1)
    return [
        (rows, slice(int(first[rows].min()), int(last[rows].max())))
        for rows in (last - first).argsort(stable=True).chunk(mask.size(1) // WIDTH)
    ]
