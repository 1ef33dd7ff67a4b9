"""Draws that depend on a key alone, on every machine and Python version."""

import hashlib
from collections.abc import Iterator

VALIDATION_SHARE = 0.1


def stream(*key: object) -> Iterator[int]:
    """An endless stream of bytes."""
    block = 0
    while True:
        yield from hashlib.sha256("|".join(map(str, (*key, block))).encode()).digest()
        block += 1


def shuffled(count: int, *key: object) -> list[int]:
    """The numbers below ``count`` in an order of the key."""
    order = [(hashlib.sha256("|".join(map(str, (*key, place))).encode()).digest(), place) for place in range(count)]
    return [place for _, place in sorted(order)]


def split_of(content: str) -> str:
    """``train`` or ``validation``: the split that owns a problem, a hash of its content, so that none is in both."""
    share = int.from_bytes(hashlib.sha256(content.encode()).digest()[:8]) / 2**64
    return "validation" if share < VALIDATION_SHARE else "train"
