"""Chained modular arithmetic with visible working.

A problem is a chain of one-digit operations, read from left to right and reduced modulo 10 after each of them:
``7+3*4-2:`` has the running totals 0, 0, 8 and the answer 8. The number of operations is the difficulty level. A
completion may write any working it likes; it is correct when the text after its last ``=`` is the answer.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass

from datasets import Dataset

from repro.errors import ConfigError

OPERATORS = "+-*"
END_OF_PROMPT = ":"
ANSWER_MARK = "="
MODULUS = 10
SPLITS = ("train", "validation")
VALIDATION_SHARE = 0.1
LEVELS = (3, 4, 5, 6, 7, 8)


def apply(total: int, operator: str, operand: int) -> int:
    """One operation of the chain, modulo 10."""
    if operator == "+":
        return (total + operand) % MODULUS
    if operator == "-":
        return (total - operand) % MODULUS
    return (total * operand) % MODULUS


@dataclass(frozen=True)
class Problem:
    """A chain ``first op operand op operand ...`` of one-digit numbers."""

    first: int
    operations: tuple[tuple[str, int], ...]

    @property
    def level(self) -> int:
        return len(self.operations)

    @property
    def prompt(self) -> str:
        return (
            str(self.first) + "".join(f"{operator}{operand}" for operator, operand in self.operations) + END_OF_PROMPT
        )

    @property
    def totals(self) -> list[int]:
        """Running totals, one per operation; the last is the answer."""
        totals, total = [], self.first
        for operator, operand in self.operations:
            total = apply(total, operator, operand)
            totals.append(total)
        return totals

    @property
    def answer(self) -> str:
        return str(self.totals[-1])


def _bytes(*key: object) -> Iterator[int]:
    """An endless stream of bytes that depends on ``key`` alone, on every machine and Python version."""
    block = 0
    while True:
        yield from hashlib.sha256("|".join(map(str, (*key, block))).encode()).digest()
        block += 1


def split_of(prompt: str) -> str:
    """The split that owns a prompt: a hash of its text, so that no prompt is ever in two splits."""
    share = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8]) / 2**64
    return "validation" if share < VALIDATION_SHARE else "train"


@dataclass(frozen=True)
class ArithmeticTask:
    """A distribution over problems: difficulty levels (numbers of operations) drawn with equal weight.

    Args:
        levels: numbers of operations to train on; each at least 1.
        validation_levels: those of the validation problems, which are the same for all tasks that share them.
    """

    levels: tuple[int, ...] = LEVELS
    validation_levels: tuple[int, ...] = LEVELS

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
        level = levels[next(_bytes("level", split, seed, index)) % len(levels)]
        attempt = 0
        while True:
            # 250 = 25 * 10 and 255 = 85 * 3: bytes below are uniform modulo 10 and modulo 3.
            stream = _bytes("problem", split, seed, index, attempt)
            operand = (byte % MODULUS for byte in stream if byte < 250)
            operator = (OPERATORS[byte % len(OPERATORS)] for byte in stream if byte < 255)
            problem = Problem(next(operand), tuple((next(operator), next(operand)) for _ in range(level)))
            if split_of(problem.prompt) == split:
                return problem
            attempt += 1

    def dataset(self, split: str, seed: int, size: int) -> Dataset:
        """``size`` problems as a dataset with the columns ``prompt``, ``answer`` and ``level``."""
        problems = [self.problem(split, seed, index) for index in range(size)]
        return Dataset.from_dict(
            {
                "prompt": [problem.prompt for problem in problems],
                "answer": [problem.answer for problem in problems],
                "level": [problem.level for problem in problems],
            }
        )


def verify(completion: str, answer: str) -> bool:
    """Whether the text after the last ``=`` of a completion is the answer, to the letter.

    The completion is data: nothing in it is evaluated, and any text, of any length, gives True or False in linear time.
    """
    _, mark, given = completion.rpartition(ANSWER_MARK)
    return bool(mark) and given == answer


def accuracy_reward(completions: list[str], answer: list[str], **_: object) -> list[float]:
    """TRL reward function: 1.0 for a correct completion, 0.0 for any other."""
    return [float(verify(completion, expected)) for completion, expected in zip(completions, answer, strict=True)]


class RandomReward:
    """TRL reward function that knows nothing: 1.0 or 0.0 with equal probability, whatever the completion says."""

    __name__ = "random_reward"

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def __call__(self, completions: list[str], **_: object) -> list[float]:
        return [float(self._rng.random() < 0.5) for _ in completions]


TASKS = {
    "arithmetic": ArithmeticTask(),
    "arithmetic_easy": ArithmeticTask(levels=(3, 4, 5)),
    "arithmetic_hard": ArithmeticTask(levels=(6, 7, 8)),
}


def get_task(name: str) -> ArithmeticTask:
    """The task of that name.

    Raises:
        ConfigError: when there is none, naming those there are.
    """
    if name not in TASKS:
        raise ConfigError(f"task={name!r} is unknown; the tasks are {', '.join(sorted(TASKS))}")
    return TASKS[name]
