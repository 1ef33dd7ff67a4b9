"""Draws that depend on a key alone, on every machine and Python version."""

import hashlib
from collections.abc import Iterator


def stream(*key: object) -> Iterator[int]:
    """An endless stream of bytes."""
    block = 0
    while True:
        yield from hashlib.sha256("|".join(map(str, (*key, block))).encode()).digest()
        block += 1


def share_of(text: str) -> float:
    """A number in [0, 1) that belongs to a text: what splits are decided by, so that no text is ever in two."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
