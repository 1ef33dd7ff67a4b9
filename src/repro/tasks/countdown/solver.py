"""An exact solver of Countdown: what can be reached from some numbers, and which steps keep a target in reach.

A step's result is a whole number from 1 to ``LARGEST``, as in the language, so no search leaves anything out.
"""

import itertools
from functools import lru_cache

from repro.tasks.countdown.language import LARGEST, Step

Numbers = tuple[int, ...]
"""Sorted: so that what is known of some numbers is known of all their orders."""


@lru_cache(maxsize=1 << 14)
def steps_of(first: int, second: int) -> tuple[Step, ...]:
    """The steps that two numbers allow, the larger one in front."""
    high, low = max(first, second), min(first, second)
    steps = [Step(high, "+", low, high + low), Step(high, "-", low, high - low), Step(high, "*", low, high * low)]
    if high % low == 0:
        steps.append(Step(high, "/", low, high // low))
    return tuple(step for step in steps if 1 <= step.result <= LARGEST)


@lru_cache(maxsize=1 << 17)
def moves(numbers: Numbers) -> tuple[tuple[Step, Numbers], ...]:
    """The steps that some numbers allow, each with the numbers after it; equal ones once."""
    found = {}
    for one, other in itertools.combinations(range(len(numbers)), 2):
        rest = numbers[:one] + numbers[one + 1 : other] + numbers[other + 1 :]
        for step in steps_of(numbers[one], numbers[other]):
            found[step] = tuple(sorted((*rest, step.result)))
    return tuple(found.items())


@lru_cache(maxsize=1 << 18)
def reachable(numbers: Numbers) -> frozenset[int]:
    """The results of all steps that some numbers, or what is left of them after other steps, allow."""
    found: set[int] = set()
    for step, after in moves(numbers):
        found.add(step.result)
        if len(after) > 1:
            found |= reachable(after)
    return frozenset(found)


def winning(numbers: Numbers, target: int) -> list[tuple[Step, Numbers]]:
    """The moves that make the target or keep it in reach."""
    return [
        (step, after)
        for step, after in moves(numbers)
        if step.result == target or (len(after) > 1 and target in reachable(after))
    ]
