"""Chained modular arithmetic with visible working.

A problem is a chain of one-digit operations, read from left to right and reduced modulo 10 after each of them:
``7+3*4-2:`` has the running totals 0, 0, 8 and the answer 8. The number of operations is the difficulty level. A
completion may write any working it likes; it is correct when the text after its last ``=`` is the answer.
"""

import random
from dataclasses import dataclass

from datasets import Dataset

from repro.errors import ConfigError
from repro.tasks.arithmetic.chains import ANSWER_MARK, END_OF_PROMPT, MODULUS, OPERATORS, Problem
from repro.tasks.arithmetic.strategies import MIXTURES
from repro.tasks.draws import split_of, stream
from repro.tasks.problems import as_dataset

SPLITS = ("train", "validation")
LEVELS = (3, 4, 5, 6, 7, 8)
MARKS = "spg"


@dataclass(frozen=True)
class ArithmeticTask:
    """A distribution over problems: difficulty levels (numbers of operations) drawn with equal weight.

    Args:
        levels: numbers of operations to train on; each at least 1.
        validation_levels: those of the validation problems, which are the same for all tasks that share them.
    """

    levels: tuple[int, ...] = LEVELS
    validation_levels: tuple[int, ...] = LEVELS

    family = "arithmetic"
    held_out = ()
    tokens = tuple("0123456789" + OPERATORS + END_OF_PROMPT + ANSWER_MARK + MARKS)
    separator = ""
    longest = 64

    def __post_init__(self) -> None:
        for name in ("levels", "validation_levels"):
            levels = getattr(self, name)
            if not levels or any(not isinstance(level, int) or level < 1 for level in levels):
                raise ConfigError(f"{name}={levels!r}: give at least one whole number of operations, each 1 or more")

    def problem(self, split: str, seed: int, index: int) -> Problem:
        """The problem number ``index`` of a split: a pure function of its arguments.

        Raises:
            ConfigError: for a split other than ``train`` and ``validation``.
        """
        if split not in SPLITS:
            raise ConfigError(f"split={split!r} is unknown; the splits are {', '.join(SPLITS)}")
        levels = self.levels if split == "train" else self.validation_levels
        level = levels[next(stream("level", split, seed, index)) % len(levels)]
        attempt = 0
        while True:
            # 250 = 25 * 10 and 255 = 85 * 3: bytes below are uniform modulo 10 and modulo 3.
            drawn = stream("problem", split, seed, index, attempt)
            operand = (byte % MODULUS for byte in drawn if byte < 250)
            operator = (OPERATORS[byte % len(OPERATORS)] for byte in drawn if byte < 255)
            problem = Problem(next(operand), tuple((next(operator), next(operand)) for _ in range(level)))
            if split_of(problem.prompt) == split:
                return problem
            attempt += 1

    def dataset(self, split: str, seed: int, size: int) -> Dataset:
        """``size`` problems as a dataset with the columns ``prompt``, ``answer`` and ``level``."""
        return as_dataset(self.problem(split, seed, index) for index in range(size))

    def verify(self, completion: str, answer: str) -> bool:
        """Whether the text after the last ``=`` of a completion is the answer, to the letter."""
        _, mark, given = completion.rpartition(ANSWER_MARK)
        return bool(mark) and given == answer

    def demonstration(self, mixture: str, seed: int, index: int, rng: random.Random, *, clean: bool) -> tuple[str, str]:
        """A training problem and a solution by one of the mixture's strategies; without slips where ``clean``."""
        if mixture not in MIXTURES:
            raise ConfigError(f"mixture={mixture!r} is unknown; the mixtures are {', '.join(MIXTURES)}")
        problem = self.problem("train", seed, index)
        return problem.prompt, MIXTURES[mixture].draw(rng, clean=clean).solution(problem, rng, clean=clean)


ARITHMETIC = ArithmeticTask()
EASY = ArithmeticTask(levels=(3, 4, 5))
HARD = ArithmeticTask(levels=(6, 7, 8))
