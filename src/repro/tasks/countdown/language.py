"""The language of Countdown: problems, steps, and the verifier.

A prompt is ``3 7 11 2 -> 24 :``. A completion is a search: attempts, which ``|`` separates, of steps ``a op b = c``. An
attempt starts from the prompt's numbers; a step takes two that are there and puts its result in their place. Every
number is one token, from 1 to 100; there is no zero and nothing negative or broken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

LARGEST = 100
OPERATORS = ("+", "-", "*", "/")
EQUALS, GIVE_UP, ARROW, END_OF_PROMPT = "=", "|", "->", ":"
STEP_TOKENS = 5
VALUES = {str(number): number for number in range(1, LARGEST + 1)}
TOKENS = (*VALUES, *OPERATORS, EQUALS, GIVE_UP, ARROW, END_OF_PROMPT)


class Step(NamedTuple):
    """``first operator second = result``."""

    first: int
    operator: str
    second: int
    result: int

    def __str__(self) -> str:
        return f"{self.first} {self.operator} {self.second} {EQUALS} {self.result}"

    @property
    def holds(self) -> bool:
        """Whether the equation is true."""
        if self.operator == "+":
            return self.first + self.second == self.result
        if self.operator == "-":
            return self.first - self.second == self.result
        if self.operator == "*":
            return self.first * self.second == self.result
        return self.second * self.result == self.first


@dataclass(frozen=True)
class Problem:
    """Numbers to reach a target with."""

    numbers: tuple[int, ...]
    target: int

    @property
    def answer(self) -> str:
        """What the verifier grades by: the numbers and the target."""
        return f"{' '.join(map(str, self.numbers))} {ARROW} {self.target}"

    @property
    def prompt(self) -> str:
        return f"{self.answer} {END_OF_PROMPT}"

    @property
    def level(self) -> int:
        return len(self.numbers)

    @property
    def content(self) -> str:
        """The same for all orders of the numbers."""
        return Problem(tuple(sorted(self.numbers)), self.target).answer

    @classmethod
    def parse(cls, answer: str) -> "Problem":
        """The problem that ``answer`` is of."""
        numbers, _, target = answer.partition(f" {ARROW} ")
        return cls(tuple(map(int, numbers.split())), int(target))


def parse_step(words: Sequence[str]) -> Step | None:
    """Five words as a step, true or not; None where they are none."""
    if len(words) != STEP_TOKENS:
        return None
    first, operator, second, equals, result = words
    # Looked up and not converted: int() takes other scripts' digits, and time that grows faster than the text.
    numbers = VALUES.get(first), VALUES.get(second), VALUES.get(result)
    if None in numbers or operator not in OPERATORS or equals != EQUALS:
        return None
    return Step(numbers[0], operator, numbers[1], numbers[2])


def verify(completion: str, problem: Problem) -> bool:
    """Whether a search ends at the target, with every step in it true and made of numbers that were there.

    Any text, of any length, gives True or False in linear time.
    """
    result = None
    for attempt in completion.split(f" {GIVE_UP} "):
        words = attempt.split(" ")
        available = list(problem.numbers)
        for start in range(0, len(words), STEP_TOKENS):
            step = parse_step(words[start : start + STEP_TOKENS])
            if step is None or not step.holds:
                return False
            for operand in (step.first, step.second):
                if operand not in available:
                    return False
                available.remove(operand)
            available.append(step.result)
            result = step.result
    return result == problem.target
