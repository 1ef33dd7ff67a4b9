"""Countdown with a visible search: reach a target from some numbers, in as many attempts as it takes.

:mod:`repro.tasks.countdown.language` says how problems and searches are written and when one is right. The numbers are
drawn evenly, and the target is where a random path through all of them ends, so that every problem has a solution. How
many numbers there are is the difficulty level.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from datasets import Dataset

from repro.errors import ConfigError
from repro.tasks.countdown.language import LARGEST, TOKENS, Problem, verify
from repro.tasks.countdown.solver import moves
from repro.tasks.countdown.traces import MIXTURES
from repro.tasks.draws import split_of, stream
from repro.tasks.problems import as_dataset

SPLITS = ("train", "validation", "harder")
PARTS = 100


def _below(drawn: Iterator[int], bound: int) -> int:
    """A whole number below ``bound``, at most 256, each with the same probability."""
    fair = 256 - 256 % bound
    return next(byte for byte in drawn if byte < fair) % bound


@dataclass(frozen=True)
class CountdownTask:
    """A distribution over problems.

    Args:
        levels: how many numbers a problem has -> its share in hundredths.
        harder_levels: the same for the split ``harder``, which no policy is trained on.
        first_levels: the same for the clean demonstrations, with which a base policy begins: it learns to compute on
            problems with short attempts.
        low, high: the numbers are drawn from these and all between them.

    Raises:
        ConfigError: for shares that do not sum to 100, or numbers that the language lacks.
    """

    levels: tuple[tuple[int, int], ...] = ((4, 100),)
    harder_levels: tuple[tuple[int, int], ...] = ((5, 100),)
    first_levels: tuple[tuple[int, int], ...] = ((3, 30), (4, 70))
    low: int = 1
    high: int = 20

    family = "countdown"
    held_out = ("harder",)
    tokens = TOKENS
    separator = " "
    longest = 256

    def __post_init__(self) -> None:
        for name in ("levels", "harder_levels", "first_levels"):
            levels = getattr(self, name)
            if sum(share for _, share in levels) != PARTS or any(level < 2 or share < 1 for level, share in levels):
                raise ConfigError(f"{name}={levels}: give levels of 2 or more, with shares that sum to {PARTS}")
        if not 1 <= self.low < self.high <= LARGEST:
            raise ConfigError(f"low={self.low} and high={self.high}: choose two numbers from 1 to {LARGEST}, in order")

    def problem(self, split: str, seed: int, index: int) -> Problem:
        """The problem number ``index`` of a split: a pure function of its arguments.

        A split owns problems by their content, in whatever order the numbers stand; ``harder`` shares those of
        validation, so that nothing in it is ever trained on.

        Raises:
            ConfigError: for an unknown split.
        """
        if split not in SPLITS:
            raise ConfigError(f"split={split!r} is unknown; the splits are {', '.join(SPLITS)}")
        return self._drawn(split, seed, index, self.harder_levels if split == "harder" else self.levels)

    def _drawn(self, split: str, seed: int, index: int, levels: tuple[tuple[int, int], ...]) -> Problem:
        owner = "train" if split == "train" else "validation"
        part = _below(stream("level", self.family, split, seed, index), PARTS)
        level = next(level for level, below in _cumulated(levels) if part < below)
        for attempt in itertools.count():
            drawn = stream("problem", self.family, split, seed, index, attempt)
            numbers = tuple(self.low + _below(drawn, self.high - self.low + 1) for _ in range(level))
            left = tuple(sorted(numbers))
            while len(left) > 1 and (choices := moves(left)):
                _, left = choices[_below(drawn, len(choices))]
            problem = Problem(numbers, left[0])
            if len(left) == 1 and problem.target not in numbers and split_of(problem.content) == owner:
                return problem
        raise AssertionError("never: the count has no end")

    def dataset(self, split: str, seed: int, size: int) -> Dataset:
        """``size`` problems as a dataset with the columns ``prompt``, ``answer`` and ``level``."""
        return as_dataset(self.problem(split, seed, index) for index in range(size))

    def verify(self, completion: str, answer: str) -> bool:
        """Whether a search ends at the target and is true throughout."""
        return verify(completion, Problem.parse(answer))

    def demonstration(self, mixture: str, seed: int, index: int, rng: random.Random, *, clean: bool) -> tuple[str, str]:
        """A training problem and a search by one of ``MIXTURES``."""
        if mixture not in MIXTURES:
            raise ConfigError(f"mixture={mixture!r} is unknown; the mixtures are {', '.join(MIXTURES)}")
        problem = self._drawn("train", seed, index, self.first_levels if clean else self.levels)
        return problem.prompt, MIXTURES[mixture].search(problem, rng, clean=clean)


def _cumulated(levels: tuple[tuple[int, int], ...]) -> Iterator[tuple[int, int]]:
    return zip((level for level, _ in levels), itertools.accumulate(share for _, share in levels), strict=True)


COUNTDOWN = CountdownTask()
